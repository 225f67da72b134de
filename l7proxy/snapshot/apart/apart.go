// Package apart tells what snapshots hold apart from each other: views of one mesh are
// mostly the same, and whoever goes through all of them would meet all of it in each.
package apart

import (
	"reflect"
	"slices"
	"unsafe"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Of returns snapshots in place of others, without what is one object in several of them:
// of these only the first has it. They are for going through, and answer no look-up.
// Different parts may still have objects in common.
func Of(all []*snapshot.Snapshot) []*snapshot.Snapshot {
	seen := make(map[Part]bool)
	var list []*snapshot.Snapshot
	for _, s := range all {
		only := new(snapshot.Snapshot)
		if news(seen, Listeners(s)) {
			only.Listeners = s.Listeners
		}
		if news(seen, Part{unsafe.Pointer(unsafe.SliceData(s.Inbounds)), len(s.Inbounds)}) {
			only.Inbounds = s.Inbounds
		}
		if news(seen, Part{reflect.ValueOf(s.Routes).UnsafePointer(), len(s.Routes)}) {
			only.Routes = s.Routes
		}
		if news(seen, Part{reflect.ValueOf(s.Clusters).UnsafePointer(), len(s.Clusters)}) {
			only.Clusters = s.Clusters
		}
		if only.Listeners != nil || only.Inbounds != nil || only.Routes != nil || only.Clusters != nil {
			list = append(list, only)
		}
	}
	return list
}

// Part is an object by where it is, and how large. While a Part is there, so is the object.
type Part struct {
	at   unsafe.Pointer
	size int
}

func news(seen map[Part]bool, p Part) bool {
	if p.size == 0 || seen[p] {
		return false
	}
	seen[p] = true
	return true
}

// Listeners tells the listeners of a snapshot apart from those of another: two that are
// equal are the same, of views that share what they have in common.
func Listeners(s *snapshot.Snapshot) Part {
	return Part{unsafe.Pointer(unsafe.SliceData(s.Listeners)), len(s.Listeners)}
}

// Policed are the parts of snapshots that policies are in: all but the clusters, which
// change most.
func Policed(all []*snapshot.Snapshot) []Part {
	parts := make([]Part, 0, 3*len(all))
	for _, s := range all {
		parts = append(parts, Listeners(s),
			Part{unsafe.Pointer(unsafe.SliceData(s.Inbounds)), len(s.Inbounds)},
			Part{reflect.ValueOf(s.Routes).UnsafePointer(), len(s.Routes)})
	}
	return slices.DeleteFunc(parts, func(p Part) bool { return p.size == 0 })
}
