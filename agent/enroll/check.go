package enroll

import (
	"errors"
	"fmt"

	"github.com/dubway/dubway/agent/netns"
)

// Check asks the kernel whether everything that is enrolled still is: the
// namespace is the one that its path names, the listeners listen, the programs
// are effective. What another agent detached is reported as not enrolled, and
// keeps its sockets for the connections that live; what broke in the pod is
// enrolled anew.
func (e *Enroller) Check() {
	e.work.Lock()
	defer e.work.Unlock()
	if e.frozen {
		return
	}
	for uid, s := range e.snapshot() {
		if s.workload == nil {
			continue
		}
		next := &state{pod: s.pod, workload: s.workload}
		if err := errors.Join(s.workload.sameNetns(s.pod.Netns), s.workload.check()); err != nil {
			next.err, next.broken = &Refusal{Class: ClassBroken, Err: err}, true
		} else if err := e.opts.Datapath.Effective(s.pod.Cgroup); err != nil {
			next.err = &Refusal{Class: ClassNotEffective, Err: err}
		}
		if next.broken || next.reason() != s.reason() {
			e.opts.Log.Warn("workload checked", "uid", uid, "enrolled", next.err == nil, "reason", next.reason())
			e.set(uid, next)
		}
	}
	e.reconcile(nil)
}

// sameNetns tells whether a path names the namespace that is open.
func (w *Workload) sameNetns(path string) error {
	ns, err := netns.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	if ns.ID() != w.Netns.ID() {
		return fmt.Errorf("%s names another network namespace now", path)
	}
	return nil
}
