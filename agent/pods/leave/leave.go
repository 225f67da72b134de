// Package leave is how a DaemonSet of agents is told to leave its nodes for good, and
// how each of them says that it has: two annotations in the API server. What leaving is,
// is package agent's.
//
// The agent needs get, list and watch of its DaemonSet and patch of its own pod; who
// gives the order get and patch of the DaemonSet, and get and list of pods.
package leave

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// The annotations, both with the value "true".
const (
	Ordered = "dubway.io/leave" // of the DaemonSet: its agents are to leave
	Left    = "dubway.io/left"  // of an agent's pod: its node is left
)

// pollEvery is how often Command looks who has left.
const pollEvery = time.Second

// Options say whose order it is, and who obeys it.
type Options struct {
	Kubeconfig string // file with the access to the API server; that of a pod without it
	Namespace  string
	DaemonSet  string
	Pod        string // the agent's own
}

// Orders hears the DaemonSet's order and reports for a pod. Safe for concurrent use.
type Orders struct {
	opts   Options
	client kubernetes.Interface
}

// New makes the Orders of an agent. It asks nobody yet.
func New(opts Options) (*Orders, error) {
	if opts.Namespace == "" || opts.Pod == "" {
		return nil, errors.New("it is not known whose pod this is; fix: set POD_NAMESPACE and POD_NAME from the downward API")
	}
	client, err := connect(opts.Kubeconfig)
	if err != nil {
		return nil, err
	}
	return &Orders{opts: opts, client: client}, nil
}

func connect(kubeconfig string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("find API server: %w; fix: run in a pod with a service account, or name --kubeconfig", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client of the API server: %w", err)
	}
	return client, nil
}

// Watch calls say with whether the DaemonSet orders to leave: at once and after each
// change. It returns nil when ctx ends, or when the API server ended the watch: then the
// caller asks again. A DaemonSet that is gone orders nothing: its pods end by themselves.
func (o *Orders) Watch(ctx context.Context, say func(leave bool)) error {
	sets := o.client.AppsV1().DaemonSets(o.opts.Namespace)
	one := meta.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", o.opts.DaemonSet).String()}
	list, err := sets.List(ctx, one)
	if err != nil {
		return fmt.Errorf("ask for DaemonSet %s/%s: %w", o.opts.Namespace, o.opts.DaemonSet, err)
	}
	say(slices.ContainsFunc(list.Items, func(d apps.DaemonSet) bool { return orders(&d) }))
	one.ResourceVersion = list.ResourceVersion
	changes, err := sets.Watch(ctx, one)
	if err != nil {
		return fmt.Errorf("watch DaemonSet %s/%s: %w", o.opts.Namespace, o.opts.DaemonSet, err)
	}
	defer changes.Stop()
	for change := range changes.ResultChan() {
		if d, ok := change.Object.(*apps.DaemonSet); ok && (change.Type == watch.Added || change.Type == watch.Modified) {
			say(orders(d))
		}
	}
	return nil
}

func orders(d *apps.DaemonSet) bool { return d.Annotations[Ordered] == "true" }

// Report says of the agent's own pod whether its node is left.
func (o *Orders) Report(ctx context.Context, left bool) error {
	value := "null" // removes it
	if left {
		value = `"true"`
	}
	_, err := o.client.CoreV1().Pods(o.opts.Namespace).
		Patch(ctx, o.opts.Pod, types.MergePatchType, annotate(Left, value), meta.PatchOptions{})
	if err != nil {
		return fmt.Errorf("annotate pod %s/%s: %w", o.opts.Namespace, o.opts.Pod, err)
	}
	return nil
}

// annotate is a merge patch of one annotation; value is JSON.
func annotate(name, value string) []byte {
	return fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%s}}}`, name, value)
}

// Command gives the order and waits until every pod of the DaemonSet has left its node.
// It returns how many there are.
func Command(ctx context.Context, opts Options, limit time.Duration) (int, error) {
	client, err := connect(opts.Kubeconfig)
	if err != nil {
		return 0, err
	}
	return command(ctx, client, opts, limit)
}

func command(ctx context.Context, client kubernetes.Interface, opts Options, limit time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	name := opts.Namespace + "/" + opts.DaemonSet
	set, err := client.AppsV1().DaemonSets(opts.Namespace).
		Patch(ctx, opts.DaemonSet, types.MergePatchType, annotate(Ordered, `"true"`), meta.PatchOptions{})
	if err != nil {
		return 0, fmt.Errorf("order DaemonSet %s to leave: %w", name, err)
	}
	selector := meta.FormatLabelSelector(set.Spec.Selector)
	missing := "nobody was asked"
	for {
		pods, err := client.CoreV1().Pods(opts.Namespace).List(ctx, meta.ListOptions{LabelSelector: selector})
		switch {
		case err != nil && ctx.Err() == nil:
			missing = err.Error() // the API server comes back
		case err == nil:
			left, waiting := count(pods.Items, set)
			if len(waiting) == 0 {
				return left, nil
			}
			missing = strings.Join(waiting, ", ")
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for the agents of %s to leave: %w: %s; fix: see the logs of these pods; "+
				"a node that is gone for good needs its pod deleted by force", name, ctx.Err(), missing)
		case <-time.After(pollEvery):
		}
	}
}

// count counts the pods of a DaemonSet that have left, and names the others, with their
// nodes. Those that have ended steer nobody.
func count(pods []core.Pod, set *apps.DaemonSet) (left int, waiting []string) {
	for i := range pods {
		p := &pods[i]
		owned := slices.ContainsFunc(p.OwnerReferences, func(r meta.OwnerReference) bool { return r.UID == set.UID })
		ended := p.Status.Phase == core.PodSucceeded || p.Status.Phase == core.PodFailed
		switch {
		case !owned || ended:
		case p.Annotations[Left] == "true":
			left++
		default:
			waiting = append(waiting, fmt.Sprintf("%s on %s", p.Name, p.Spec.NodeName))
		}
	}
	return left, waiting
}
