// Package kube is the node's client of the Kubernetes API server, with everything that
// the agent may ask of it: the pods of its node and all namespaces, watched; one pod or
// namespace, when the container runtime is faster than the watch; the node's addresses;
// and, to report, a condition in pods' statuses, one label and one annotation of pods,
// and events. What a pod is to the mesh is decided here (rule.go); where it is on the
// node is not known here.
package kube

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/dubway/dubway/internal/version"
)

// Options of an API. Node and Logger must be given.
type Options struct {
	Kubeconfig string   // file; "" for the credentials of the pod that we run in
	Node       string   // whose pods are watched
	Exclude    []string // namespaces whose pods are never touched
	// Own is the agent's own pod; its namespace is never touched either. Empty outside of
	// a cluster.
	Own    Ref
	Logger *slog.Logger
}

// Ref names a pod. Without UID it is whichever has the name.
type Ref struct{ Namespace, Name, UID string }

// API is the client. Safe for concurrent use.
type API struct {
	opts   Options
	read   *rest.RESTClient
	write  *rest.RESTClient // with a budget of its own: reports hold no decision up
	server string

	pods, namespaces   cache.Store
	podsRun, spacesRun cache.Controller

	mu      sync.Mutex
	changed chan struct{} // closed at the next change
	begun   time.Time     // of Run
	failing error         // of the last question, nil if it was answered
	since   time.Time     // of failing
}

// New makes the client. It asks nothing before Run.
func New(opts Options) (*API, error) {
	config, err := credentials(opts.Kubeconfig)
	if err != nil {
		return nil, err
	}
	// What client-go has to say goes where everything goes.
	klog.SetSlogLogger(opts.Logger.With("part", "client-go"))
	a := &API{opts: opts, server: config.Host, changed: make(chan struct{})}
	for client, qps := range map[**rest.RESTClient]float32{&a.read: 50, &a.write: 10} {
		own := rest.CopyConfig(config)
		own.QPS, own.Burst = qps, int(4*qps)
		if *client, err = rest.RESTClientFor(own); err != nil {
			return nil, fmt.Errorf("make client of API server: %w", err)
		}
	}
	a.pods, a.podsRun = a.informer("pods", &corev1.Pod{}, "spec.nodeName="+opts.Node)
	a.namespaces, a.spacesRun = a.informer("namespaces", &corev1.Namespace{}, "")
	return a, nil
}

// credentials are those of a file or of the pod that we run in.
func credentials(file string) (config *rest.Config, err error) {
	if file == "" {
		config, err = rest.InClusterConfig()
	} else {
		config, err = clientcmd.BuildConfigFromFlags("", file)
	}
	if err != nil {
		return nil, fmt.Errorf("find API server: %w", err)
	}
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion)
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("make client of API server: %w", err)
	}
	config.APIPath, config.GroupVersion = "/api", &corev1.SchemeGroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.ContentType, config.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	config.UserAgent = "dubway-agent/" + version.Version
	return config, nil
}

// informer makes a store that follows the API server.
func (a *API) informer(resource string, kind runtime.Object, selector string) (cache.Store, cache.Controller) {
	lw := cache.NewFilteredListWatchFromClient(a.read, resource, metav1.NamespaceAll, func(o *metav1.ListOptions) {
		o.FieldSelector = selector
	})
	list, follow := lw.ListWithContextFunc, lw.WatchFuncWithContext
	lw.ListWithContextFunc = func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return noted(a, func() (runtime.Object, error) { return list(ctx, o) })
	}
	lw.WatchFuncWithContext = func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		return noted(a, func() (watch.Interface, error) { return follow(ctx, o) })
	}
	return cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: lw, ObjectType: kind, Transform: slim,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { a.stir() }, UpdateFunc: func(any, any) { a.stir() }, DeleteFunc: func(any) { a.stir() },
		},
	})
}

// noted asks something and keeps in mind whether it was answered.
func noted[T any](a *API, ask func() (T, error)) (T, error) {
	answer, err := ask()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failing == nil || err == nil {
		a.since = time.Now()
	}
	a.failing = err
	return answer, err
}

// stir wakes who waits for a change.
func (a *API) stir() {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.changed)
	a.changed = make(chan struct{})
}

// Run follows the API server until ctx ends. It comes back to one that was away by
// itself; what was known stays meanwhile.
func (a *API) Run(ctx context.Context) {
	a.mu.Lock()
	a.begun = time.Now()
	a.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { a.podsRun.RunWithContext(ctx) })
	both.Go(func() { a.spacesRun.RunWithContext(ctx) })
	both.Go(func() {
		cache.WaitForCacheSync(ctx.Done(), a.podsRun.HasSynced, a.spacesRun.HasSynced)
		a.stir()
	})
	both.Wait()
}

// Server is the API server's address, for people.
func (a *API) Server() string { return a.server }

// patience is how long the API server may be silent before that is a problem.
const patience = 30 * time.Second

// Synced tells why it is not known yet which pods the node has; nil: it is.
func (a *API) Synced() error {
	if a.podsRun.HasSynced() && a.spacesRun.HasSynced() {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	waited := time.Since(a.begun).Round(time.Second)
	if a.failing != nil {
		return fmt.Errorf("API server %s has not told of pods and namespaces for %v: %w", a.server, waited, a.failing)
	}
	return fmt.Errorf("API server %s has not told of pods and namespaces yet, for %v", a.server, waited)
}

// Problem is what an operator should know of the connection: that nothing has been heard
// for longer than patience. What was known before holds.
func (a *API) Problem() string {
	err := a.Synced()
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err != nil && time.Since(a.begun) > patience:
		return fmt.Sprintf("%v; until then no pod is enrolled or withdrawn", err)
	case err == nil && a.failing != nil && time.Since(a.since) > patience:
		return fmt.Sprintf("API server %s does not answer since %s: %v; pods stay as they are",
			a.server, a.since.UTC().Format(time.RFC3339), a.failing)
	}
	return ""
}

// Entries returns what is known of the pods of the node, without those of namespaces
// that are never touched, ordered by UID, and a channel that is closed when that changes.
func (a *API) Entries() ([]Entry, <-chan struct{}) {
	a.mu.Lock()
	changed := a.changed
	a.mu.Unlock()
	var all []Entry
	for _, object := range a.pods.List() {
		pod, ok := object.(*corev1.Pod)
		if !ok || a.Untouched(pod.Namespace) {
			continue
		}
		all = append(all, describe(pod, a.namespace(pod.Namespace)))
	}
	slices.SortFunc(all, func(x, y Entry) int { return cmp.Compare(x.Pod.UID, y.Pod.UID) })
	return all, changed
}

// namespace returns a namespace as it was told of, or nil.
func (a *API) namespace(name string) *corev1.Namespace {
	object, _, _ := a.namespaces.GetByKey(name)
	space, _ := object.(*corev1.Namespace)
	return space
}

// Untouched tells whether the mesh keeps away from a namespace.
func (a *API) Untouched(namespace string) bool {
	return namespace == a.opts.Own.Namespace && namespace != "" || slices.Contains(a.opts.Exclude, namespace)
}
