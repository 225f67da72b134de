package enroll

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"time"

	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/agent/pods"
)

// reconcile brings the actual state to the desired one as far as it goes.
// Removals come first: a new pod may have the address of one that left.
func (e *Enroller) reconcile(offers map[string][]*netns.Socket) {
	e.dismissEnded()
	wanted := make(map[string]bool, len(e.desired))
	for _, pod := range e.desired {
		wanted[pod.UID] = true
	}
	if e.frozen {
		e.forget(wanted)
		return
	}
	for uid, s := range e.snapshot() {
		if !wanted[uid] {
			e.leave(s)
			e.set(uid, nil)
		}
	}
	waiting := make(map[uint64]bool)
	for _, pod := range e.desired {
		e.pod(pod, offers[pod.UID], waiting)
	}
	e.disinherit(waiting)
}

// pod brings one pod to its desired state.
func (e *Enroller) pod(pod *pods.Pod, offers []*netns.Socket, waiting map[uint64]bool) {
	old := e.snapshot()[pod.UID]
	if old != nil && old.workload != nil {
		if e.keep(old, pod) {
			return
		}
		// It is enrolled anew, with what is good of its own listeners: the proxy
		// holds them too, so that they cannot be opened a second time.
		e.unsteer(old)
		for _, l := range old.workload.Listeners {
			offers = append(offers, l.Socket)
		}
	}
	w, err := e.enrol(pod, offers, waiting)
	next := &state{pod: pod, workload: w, err: err}
	switch {
	case err == nil:
		e.opts.Log.Info("workload steered", "uid", pod.UID, "netnsCookie", w.Cookie, "listeners", len(w.Listeners))
	case old == nil || old.reason() != next.reason():
		e.opts.Log.Warn("workload not enrolled", "uid", pod.UID, "reason", err)
	}
	e.forgetWay(pod.UID)
	e.set(pod.UID, next)
	switch again := old != nil && old.workload != nil; {
	case w == nil && again:
		e.depart(old.workload)
	case again:
		old.workload.close()
	case w != nil:
		e.dismiss(pod.UID) // it is back
	}
}

// forgetWay forgets what is known of a pod's way: it is another one now.
func (e *Enroller) forgetWay(uid string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.ways, uid)
}

// keep takes a change of an enrolled pod over without giving up its sockets, and
// tells whether that was possible.
func (e *Enroller) keep(old *state, pod *pods.Pod) bool {
	if old.broken {
		return false
	}
	if reflect.DeepEqual(old.pod, pod) {
		return true
	}
	if e.admit(pod) != nil || old.pod.Netns != pod.Netns && old.workload.sameNetns(pod.Netns) != nil {
		return false
	}
	why := old.err
	if old.pod.Cgroup != pod.Cgroup {
		// Steering hangs on the network namespace: while the pod has that one, who knows
		// more of its cgroup by now does not disturb it.
		why = nil
		if err := e.opts.Datapath.Effective(pod.Cgroup); err != nil {
			why = &Refusal{Class: ClassNotEffective, Err: err}
		}
	}
	w := *old.workload
	w.Pod = pod
	if err := e.opts.Tables.SetWorkload(pod.UID, w.datapath()); err != nil {
		e.opts.Log.Warn("workload not changed", "uid", pod.UID, "error", err)
		return false
	}
	e.opts.Log.Info("workload changed", "uid", pod.UID)
	e.set(pod.UID, &state{pod: pod, workload: &w, err: why})
	return true
}

// enrol does all that enrolment is, or nothing.
func (e *Enroller) enrol(pod *pods.Pod, offers []*netns.Socket, waiting map[uint64]bool) (*Workload, error) {
	if err := e.admit(pod); err != nil {
		return nil, err
	}
	ns, err := netns.Open(pod.Netns)
	if err != nil {
		return nil, &Refusal{Class: ClassNetns, Err: err}
	}
	w := &Workload{Pod: pod, Netns: ns}
	if err := e.enrolIn(w, offers); err != nil {
		if errors.Is(err, errTaken) && e.patient(w.Cookie) {
			waiting[w.Cookie] = true
			err = &Refusal{Class: ClassWaiting, Err: errWaiting}
		}
		w.close()
		return nil, err
	}
	delete(e.inherited, w.Cookie)
	return w, nil
}

// enrolIn enrols w, whose network namespace is open, in the only safe order:
// listeners, effective programs, then steering.
func (e *Enroller) enrolIn(w *Workload, offers []*netns.Socket) error {
	if err := e.isolated(w.Netns); err != nil {
		return err
	}
	var err error
	if w.Cookie, err = cookie(e.opts.Datapath, w.Netns); err != nil {
		return &Refusal{Class: ClassNetns, Err: err}
	}
	for uid, s := range e.snapshot() {
		if uid != w.Pod.UID && s.workload != nil && s.workload.Cookie == w.Cookie {
			return &Refusal{Class: ClassConflict, Err: fmt.Errorf("its network namespace is already that of %s", uid)}
		}
	}
	if err := w.listen(offers); err != nil {
		return &Refusal{Class: ClassListener, Err: err}
	}
	if err := e.opts.Datapath.Effective(w.Pod.Cgroup); err != nil {
		return &Refusal{Class: ClassNotEffective, Err: err}
	}
	if err := e.opts.Tables.SetWorkload(w.Pod.UID, w.datapath()); err != nil {
		return &Refusal{Class: ClassDatapath, Err: err}
	}
	return nil
}

// patient tells whether a taken port may be the proxy's listener.
func (e *Enroller) patient(cookie uint64) bool {
	return e.inherited[cookie] && !e.proxySeen && time.Since(e.started) < e.opts.Patience
}

// disinherit takes pods of an earlier agent out of the datapath that are not
// desired, or cannot be enrolled by this one.
func (e *Enroller) disinherit(waiting map[uint64]bool) {
	for c := range e.inherited {
		if waiting[c] {
			continue
		}
		if err := e.opts.Tables.DeleteWorkload(c); err != nil {
			e.opts.Log.Error("workload of an earlier agent stays steered", "netnsCookie", c, "error", err)
			continue
		}
		delete(e.inherited, c)
		e.opts.Log.Info("workload of an earlier agent removed", "netnsCookie", c)
	}
}

// leave takes a pod out of the mesh, steering first.
func (e *Enroller) leave(s *state) {
	if s.workload == nil {
		return
	}
	e.unsteer(s)
	e.depart(s.workload)
	e.opts.Log.Info("workload left", "uid", s.pod.UID)
}

// unsteer takes a pod out of the datapath.
func (e *Enroller) unsteer(s *state) {
	if err := e.opts.Tables.DeleteWorkload(s.workload.Cookie); err != nil {
		e.opts.Log.Error("workload stays steered", "uid", s.pod.UID, "error", err)
		e.inherited[s.workload.Cookie] = true // so that it is tried again
	}
}

// snapshot copies the states. Only a holder of work may change what it finds.
func (e *Enroller) snapshot() map[string]*state {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.states)
}

// set publishes the state of a pod, nil for one that is desired no more.
func (e *Enroller) set(uid string, s *state) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s == nil {
		delete(e.states, uid)
		delete(e.ways, uid)
	} else {
		e.states[uid] = s
	}
	e.signal()
}

// signal wakes who waits for changes. mu is held.
func (e *Enroller) signal() {
	close(e.changed)
	e.changed = make(chan struct{})
}
