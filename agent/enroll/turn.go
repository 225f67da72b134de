package enroll

import (
	"errors"
	"fmt"

	"github.com/dubway/dubway/agent/netns"
)

// errWithdrawn is the state of every pod of a node that the mesh leaves.
var errWithdrawn = errors.New("the mesh leaves this node: the DaemonSet has the annotation dubway.io/leave")

// Offer gives the listeners that another agent handed over, by UID, to the first Apply,
// which closes them; what it keeps are duplicates. Before it.
func (e *Enroller) Offer(offers map[string][]*netns.Socket) {
	e.work.Lock()
	defer e.work.Unlock()
	e.offers = offers
}

// Freeze ends the Enroller's writing: another agent enrols and withdraws from now on.
// Pods that leave depart, those that come are not enrolled, and sockets are still
// made for those that stay. When it returns nothing is being written.
func (e *Enroller) Freeze() {
	e.work.Lock()
	defer e.work.Unlock()
	e.frozen = true
}

// Withdraw takes every pod out of the datapath, and freezes. What is known of the pods
// stays, for the connections that live. It may be tried again after an error.
func (e *Enroller) Withdraw() error {
	e.work.Lock()
	defer e.work.Unlock()
	e.frozen = true
	var errs []error
	for uid, s := range e.snapshot() {
		if s.workload == nil {
			continue
		}
		if err := e.opts.Tables.DeleteWorkload(s.workload.Cookie); err != nil {
			errs = append(errs, fmt.Errorf("withdraw %s: %w", uid, err))
			continue
		}
		e.set(uid, &state{pod: s.pod, workload: s.workload, err: &Refusal{Class: ClassWithdrawn, Err: errWithdrawn}})
	}
	e.disinherit(nil)
	if n := len(e.inherited); n > 0 {
		errs = append(errs, fmt.Errorf("withdraw pods of an earlier agent: %d stay", n))
	}
	return errors.Join(errs...)
}

// Deafen closes the listeners of every pod. After Withdraw, when nothing is steered to
// them any more.
func (e *Enroller) Deafen() {
	e.work.Lock()
	defer e.work.Unlock()
	for _, s := range e.snapshot() {
		if s.workload != nil {
			s.workload.deafen()
		}
	}
}

// Listeners are duplicates of the listeners of every pod, by UID, the caller's to close:
// what Offer of the next Enroller takes.
func (e *Enroller) Listeners() map[string][]*netns.Socket {
	all, _ := e.Workloads()
	held := make(map[string][]*netns.Socket, len(all))
	for _, w := range all {
		for _, l := range w.Listeners {
			if fd, err := l.Socket.Duplicate(); err == nil { // or it has just been closed
				held[w.Pod.UID] = append(held[w.Pod.UID], netns.Keep(fd))
			}
		}
	}
	return held
}

// forget lets go of the pods that left, and writes nothing.
func (e *Enroller) forget(wanted map[string]bool) {
	for uid, s := range e.snapshot() {
		if wanted[uid] {
			continue
		}
		if s.workload != nil {
			e.depart(s.workload)
		}
		e.set(uid, nil)
	}
}

func closeAll(offers map[string][]*netns.Socket) {
	for _, sockets := range offers {
		for _, s := range sockets {
			_ = s.Close()
		}
	}
}
