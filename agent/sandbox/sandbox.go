// Package sandbox answers the CNI plugin: whether a pod may start. One that is wanted
// starts when it is part of the mesh and its data path works, and not before.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dubway/dubway/agent/cniserver"
	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/agent/pods/kube"
	"github.com/dubway/dubway/agent/pods/roster"
)

// API is what is asked of the API server.
type API interface {
	Synced() error
	Untouched(namespace string) bool
	Find(ctx context.Context, who kube.Ref) (kube.Entry, error)
}

// Roster keeps the sandboxes.
type Roster interface {
	Add(ctx context.Context, e *kube.Entry, s roster.Sandbox) error
	Remove(ctx context.Context, id string) error
	Keep(ctx context.Context, ids []string) error
	Holds(ctx context.Context, id string) (uid string, err error)
}

// Enroller tells what became of a pod.
type Enroller interface {
	State(uid string) (enroll.Status, bool)
	Workload(uid string) *enroll.Workload
	Workloads() ([]*enroll.Workload, <-chan struct{})
}

var (
	_ cniserver.Pods = (*Keeper)(nil)
	_ API            = (*kube.API)(nil)
	_ Roster         = (*roster.Roster)(nil)
	_ Enroller       = (*enroll.Enroller)(nil)
)

// Keeper is the cniserver.Pods of a cluster.
type Keeper struct {
	API      API
	Roster   Roster
	Enroller Enroller
}

// retry is how soon a pod is looked at again.
const retry = 200 * time.Millisecond

// Add is part of cniserver.Pods.
func (k *Keeper) Add(ctx context.Context, s cniserver.Sandbox) error {
	file := s.Netns
	defer func() {
		if file != nil {
			_ = file.Close()
		}
	}()
	if k.API.Untouched(s.Namespace) {
		return nil
	}
	if err := k.API.Synced(); err != nil {
		return err
	}
	entry, err := k.API.Find(ctx, kube.Ref{Namespace: s.Namespace, Name: s.Name, UID: s.UID})
	if err != nil {
		return err
	}
	if !entry.Wanted || entry.Pod.Excluded != "" {
		return nil
	}
	if file == nil {
		return errors.New("add sandbox: the plugin gave no network namespace")
	}
	ns, err := netns.Hold(file)
	if file = nil; err != nil {
		return err
	}
	id := ns.ID()
	if err := k.Roster.Add(ctx, &entry, roster.Sandbox{ID: s.ContainerID, Netns: ns, Addresses: s.Addresses}); err != nil {
		return fmt.Errorf("enrol pod: %w", err)
	}
	return k.enrolled(ctx, entry.Pod.UID, id)
}

// errNotYet is the state of a pod whose sandbox is not the one that is enrolled.
var errNotYet = errors.New("enrol pod: it is still enrolled with the sandbox before this one")

// enrolled waits until a pod is enrolled in the network namespace of its sandbox, or
// cannot be.
func (k *Keeper) enrolled(ctx context.Context, uid string, in netns.ID) error {
	for {
		_, changed := k.Enroller.Workloads()
		w := k.Enroller.Workload(uid)
		err := k.state(uid)
		if err == nil && (w == nil || w.Netns.ID() == in) {
			return nil
		}
		if err == nil {
			err = errNotYet
		}
		if refused, ok := errors.AsType[*enroll.Refusal](err); ok && !passes(refused.Class) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-changed:
		case <-time.After(retry):
		}
	}
}

// passes tells whether a refusal may end by itself while the runtime waits.
func passes(c enroll.Class) bool {
	// Of these nothing changes before the runtime makes the sandbox anew.
	return !slices.Contains([]enroll.Class{
		enroll.ClassListener, enroll.ClassHostNetwork, enroll.ClassNetns, enroll.ClassDatapath,
	}, c)
}

// state tells why a pod is not enrolled at this moment.
func (k *Keeper) state(uid string) error {
	s, known := k.Enroller.State(uid)
	switch {
	case !known:
		return errors.New("enrol pod: the agent does not know of it; look at `dubwayctl workloads` on the node")
	case s.Pod.Excluded != "", s.Class == enroll.ClassWithdrawn:
		return nil // it runs without the mesh, and is reported so
	case !s.Enrolled:
		return &enroll.Refusal{Class: s.Class, Err: fmt.Errorf("enrol pod: %s", s.Reason)}
	}
	return nil
}

// Check is part of cniserver.Pods. A pod that an earlier agent was told of is found by
// its UID.
func (k *Keeper) Check(ctx context.Context, s cniserver.Sandbox) error {
	if s.Netns != nil {
		defer func() { _ = s.Netns.Close() }()
	}
	if k.API.Untouched(s.Namespace) {
		return nil
	}
	if err := k.API.Synced(); err != nil {
		return err
	}
	entry, err := k.API.Find(ctx, kube.Ref{Namespace: s.Namespace, Name: s.Name, UID: s.UID})
	if err != nil || !entry.Wanted || entry.Pod.Excluded != "" {
		return err
	}
	if uid, err := k.Roster.Holds(ctx, s.ContainerID); err != nil || uid != "" && uid != entry.Pod.UID {
		return errors.Join(err, errors.New("check pod: the sandbox is another pod's"))
	}
	if err := k.state(entry.Pod.UID); err != nil {
		return err
	}
	return k.same(entry.Pod.UID, s)
}

// same tells whether the pod is enrolled in the sandbox's own namespace.
func (k *Keeper) same(uid string, s cniserver.Sandbox) error {
	w := k.Enroller.Workload(uid)
	if w == nil || s.Netns == nil {
		return nil
	}
	ns, err := netns.Open(fmt.Sprintf("/proc/self/fd/%d", s.Netns.Fd()))
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	if ns.ID() != w.Netns.ID() {
		return errors.New("check pod: it is enrolled in another network namespace than this sandbox's")
	}
	return nil
}

// Delete is part of cniserver.Pods.
func (k *Keeper) Delete(ctx context.Context, s cniserver.Sandbox) error {
	if s.Netns != nil {
		_ = s.Netns.Close()
	}
	if k.API.Synced() != nil {
		return nil //nolint:nilerr // nothing of it is known, and a deletion is never held up
	}
	return k.Roster.Remove(ctx, s.ContainerID)
}

// Keep is part of cniserver.Pods.
func (k *Keeper) Keep(ctx context.Context, containers []string) error {
	return k.Roster.Keep(ctx, containers)
}

// Ready is part of cniserver.Pods.
func (k *Keeper) Ready() error { return k.API.Synced() }
