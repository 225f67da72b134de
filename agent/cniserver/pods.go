// Package cniserver is the agent's end of the CNI plugin: a unix socket on which
// dubway-cni tells of each pod's network as the container runtime makes it, asks for
// it and removes it. Only root may talk to it.
package cniserver

import (
	"context"
	"net/netip"
	"os"
)

// Sandbox is a pod's network as the container runtime made it, before any of the
// pod's containers runs.
type Sandbox struct {
	ContainerID          string // of the sandbox; the runtime's name for it
	UID, Namespace, Name string // of the pod, as the kubelet told the runtime
	// Netns is the pod's network namespace, opened by the plugin, since its path means
	// nothing in the agent's mounts. Nil for a sandbox that is being removed. Whoever
	// is given a Sandbox owns it.
	Netns     *os.File
	Addresses []netip.Addr // which the plugins before ours gave the pod
}

// Pods is what the plugin's verbs ask of the agent. Its methods may be called
// concurrently.
type Pods interface {
	// Add makes a pod part of the mesh if it is to be one, and returns when its data
	// path works, or at once if it is not to be. An error means that the pod must not
	// start: the runtime tries again.
	Add(ctx context.Context, s Sandbox) error
	// Check tells why a sandbox is not as Add left it.
	Check(ctx context.Context, s Sandbox) error
	// Delete forgets a sandbox. One that is not known is no error.
	Delete(ctx context.Context, s Sandbox) error
	// Keep forgets all sandboxes but those that the runtime still knows, by container ID.
	Keep(ctx context.Context, containers []string) error
	// Ready tells why a pod could not be added now.
	Ready() error
}
