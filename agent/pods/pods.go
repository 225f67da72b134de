// Package pods knows the pods of this node: what they are called, and where
// their network namespace and cgroup are. It does not touch them; to enrol them
// is package enroll's.
package pods

import (
	"context"
	"net/netip"
)

// Pod is a pod as its source describes it. Immutable.
type Pod struct {
	UID            string
	Name           string
	Namespace      string
	Labels         map[string]string
	Annotations    map[string]string // the mesh's own, Prefix and a name; nil if there are none
	ServiceAccount string
	Netns          string       // path of the network namespace
	Cgroup         string       // path of the cgroup2 directory
	Addresses      []netip.Addr // never v4-mapped
	Ports          []uint16
	// Excluded says why the pod cannot be part of the mesh although it was asked for;
	// it is reported with this reason and never enrolled. "" if it can be.
	Excluded string
	// Missing says why there is no Netns, of a pod that should have one by now; it is
	// reported with this reason. "" if there is one.
	Missing string
}

// Prefix begins the names of the mesh's own annotations.
const Prefix = "dubway.io/"

// Set is everything that a source knows at one moment.
type Set struct {
	Pods     []*Pod    // ordered by UID, each UID once
	Problems []Problem // what could not be used; the last good form of it is in Pods
}

// Problem is something of a source that is not a usable pod.
type Problem struct {
	Name string // such as a file's name
	Err  error
}

// Source tells of the node's pods.
type Source interface {
	// Run calls publish with the whole set, first at once and then after each
	// change, until ctx ends. A pod that is in no later set has left. An error
	// means that there is nothing to watch.
	Run(ctx context.Context, publish func(Set)) error
}
