package kube

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
)

// The pauses between questions for a pod that the API server does not know yet.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 2 * time.Second
)

// Find returns one pod of the node, which the watch may not have told of yet: the
// container runtime is sometimes faster. It asks until ctx ends. The UID is the
// kubelet's; runtimes that are old do not say it ("").
func (a *API) Find(ctx context.Context, who Ref) (Entry, error) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		entry, err := a.find(ctx, who)
		if err == nil {
			return entry, nil
		}
		select {
		case <-ctx.Done():
			return Entry{}, fmt.Errorf("find pod %s/%s: %w", who.Namespace, who.Name, err)
		case <-time.After(pause):
		}
	}
}

// find looks at what was told, then asks once.
func (a *API) find(ctx context.Context, who Ref) (Entry, error) {
	object, _, _ := a.pods.GetByKey(who.Namespace + "/" + who.Name)
	pod, _ := object.(*corev1.Pod)
	if pod == nil || !is(pod, who.UID) {
		pod = &corev1.Pod{}
		if err := a.get(ctx, "pods", who, pod); err != nil {
			return Entry{}, err
		}
		if !is(pod, who.UID) {
			return Entry{}, fmt.Errorf("the API server knows another pod of that name, with UID %s and not %s", pod.UID, who.UID)
		}
		pod = slimPod(pod)
	}
	space := a.namespace(who.Namespace)
	if space == nil {
		space = &corev1.Namespace{}
		if err := a.get(ctx, "namespaces", Ref{Name: who.Namespace}, space); err != nil {
			return Entry{}, err
		}
	}
	return describe(pod, space), nil
}

// is tells whether the kubelet calls a pod by a UID.
func is(pod *corev1.Pod, uid string) bool {
	return uid == "" || string(pod.UID) == uid || pod.Annotations[corev1.MirrorPodAnnotationKey] == uid
}

// askTime is how long the API server may take to answer one question.
const askTime = 10 * time.Second

// get asks for one object.
func (a *API) get(ctx context.Context, resource string, who Ref, into runtime.Object) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	err := a.read.Get().NamespaceIfScoped(who.Namespace, who.Namespace != "").Resource(resource).Name(who.Name).Do(ctx).Into(into)
	switch {
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%w; fix: give the agent's service account the chart's ClusterRole", err)
	case err != nil:
		return fmt.Errorf("ask API server %s: %w", a.server, err)
	}
	return nil
}

// NodeAddresses returns the addresses that the API server has of the node.
func (a *API) NodeAddresses(ctx context.Context) ([]netip.Addr, error) {
	node := &corev1.Node{}
	if err := a.get(ctx, "nodes", Ref{Name: a.opts.Node}, node); err != nil {
		return nil, err
	}
	var all []netip.Addr
	for _, one := range node.Status.Addresses {
		if addr, err := netip.ParseAddr(one.Address); err == nil { // others are names
			all = append(all, addr.Unmap())
		}
	}
	return all, nil
}
