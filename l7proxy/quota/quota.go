// Package quota is what one workload may have of the proxy, so that it takes
// nothing from the others: descriptors, bytes of buffers and of what is
// remembered of its requests, and the work of reading its bodies. It limits no calls.
package quota

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// Node is what all workloads share.
type Node struct {
	descriptors, each, bytes int64

	used   atomic.Int64 // descriptors
	values int64        // of bodies that are read in a second, for one; 0: any number
	waits  Waits
	flying int64 // requests in flight of one; 0: any number
}

// NewNode returns the quotas of a node: descriptors for the connections of all
// workloads, at most each of them for one, and bytes for one.
func NewNode(descriptors, each, bytes int64) *Node {
	return &Node{descriptors: descriptors, each: each, bytes: bytes}
}

// clients is the part of a workload's quota that one of its clients may take.
const clients = 4

// share is the part of the free descriptors that one workload leaves to others.
const share = 16

// Workload is one workload's part. Safe for concurrent use. Nil has no limits.
type Workload struct {
	node        *Node
	parent      *Workload // of a client
	part        int64     // 1, or clients
	descriptors atomic.Int64
	bytes       atomic.Int64
	shed        atomic.Bool
	pace        pace
	flying      atomic.Int64 // requests

	mu      sync.Mutex
	clients map[netip.Addr]*Workload
	users   int // of a client; under the parent's mu
}

// Workload returns the part of one more workload.
func (n *Node) Workload() *Workload { return &Workload{node: n, part: 1} }

// Client returns the part that one of the workload's clients has of it, so that
// it takes nothing from the other clients. Leave ends its use.
func (w *Workload) Client(a netip.Addr) *Workload {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.clients[a]
	if c == nil {
		if w.clients == nil {
			w.clients = make(map[netip.Addr]*Workload)
		}
		c = &Workload{node: w.node, parent: w, part: clients}
		w.clients[a] = c
	}
	c.users++
	return c
}

// Leave ends what Client began for the same address.
func (w *Workload) Leave(a netip.Addr) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.clients[a]; c != nil {
		if c.users--; c.users == 0 {
			delete(w.clients, a)
		}
	}
}

// Connect takes a descriptor; false, with nothing taken, if the workload has its
// own number, or if less than a sixteenth of what other workloads do not use would be
// left. So there is always a rest, however greedy one is.
func (w *Workload) Connect() bool {
	if w == nil {
		return true
	}
	if w.parent != nil {
		if w.descriptors.Add(1) <= min(w.node.each, w.node.descriptors)/w.part && w.parent.Connect() {
			return true
		}
		w.descriptors.Add(-1)
		return false
	}
	mine, all := w.descriptors.Add(1), w.node.used.Add(1)
	// Two counts, one after the other: what others use may look less than nothing.
	free := w.node.descriptors - max(all-mine, 0)
	if mine <= w.node.each && mine <= free-free/share {
		return true
	}
	w.Disconnect()
	return false
}

// Disconnect gives a descriptor back.
func (w *Workload) Disconnect() {
	if w == nil {
		return
	}
	w.descriptors.Add(-1)
	if w.parent != nil {
		w.parent.Disconnect()
		return
	}
	w.node.used.Add(-1)
}

// Shed says that the workload's requests are refused from here on, or are not any more.
func (w *Workload) Shed(on bool) { w.shed.Store(on) }

// Shedding tells whether they are: the workload's, or those of whose client this is.
func (w *Workload) Shedding() bool {
	return w != nil && (w.shed.Load() || w.parent.Shedding())
}

// Weight is what the workload holds, in bytes; a descriptor counts as the least that a
// connection takes.
func (w *Workload) Weight() int64 { return w.bytes.Load() + w.descriptors.Load()*descriptorBytes }

// descriptorBytes is about what an idle connection takes.
const descriptorBytes = 8 << 10

// Hold takes n bytes; false, with nothing taken, if the workload has too many, or is
// shed.
func (w *Workload) Hold(n int) bool { return !w.Shedding() && w.hold(n, 1) }

// Remember is Hold for what could as well be forgotten: it leaves half of the
// bytes to what could not.
func (w *Workload) Remember(n int) bool { return w.hold(n, 2) }

func (w *Workload) hold(n int, part int64) bool {
	if w == nil {
		return true
	}
	if w.bytes.Add(int64(n)) <= w.node.bytes/w.part/part && w.parent.hold(n, part) {
		return true
	}
	w.bytes.Add(-int64(n))
	return false
}

// Free gives n bytes back.
func (w *Workload) Free(n int) {
	if w != nil {
		w.bytes.Add(-int64(n))
		w.parent.Free(n)
	}
}
