package lanes

import (
	"errors"

	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/internal/handoff"
)

// errExcluded says that a pod wants no lanes.
var errExcluded = errors.New("the pod's annotation " + Annotation + " is " + Off)

// excluded tells whether a workload has no lanes, whatever the node's mode.
func excluded(w *enroll.Workload) bool { return w.Pod.Annotations[Annotation] == Off }

// follow makes the programs look at the sockets of the workloads that may have lanes. Those
// of others they leave alone; what is in a lane already the proxy takes out of it.
func (l *Lanes) follow(workloads []*enroll.Workload) {
	l.work.Lock()
	defer l.work.Unlock()
	l.mu.Lock()
	programs, on := l.programs, l.verdict.mode == handoff.LaneOn
	l.mu.Unlock()
	wanted, without := make(map[uint64]bool, len(workloads)), 0
	for _, w := range workloads {
		if excluded(w) {
			without++
		} else if on {
			wanted[w.Cookie] = true
		}
	}
	l.mu.Lock()
	l.excluded = without
	l.mu.Unlock()
	if programs == nil {
		return
	}
	for cookie := range l.applied {
		if wanted[cookie] {
			continue
		}
		if err := programs.Workload(cookie, false); err != nil {
			l.opts.Log.Error("take workload out of lanes", "netnsCookie", cookie, "error", err)
			continue
		}
		delete(l.applied, cookie)
	}
	for _, w := range workloads {
		if !wanted[w.Cookie] || l.applied[w.Cookie] {
			continue
		}
		if err := programs.Workload(w.Cookie, true); err != nil {
			l.opts.Log.Error("workload has no lanes", "uid", w.Pod.UID, "error", err)
			continue
		}
		l.applied[w.Cookie] = true
	}
}

// MarkLane marks a socket of a provider's network namespace as a lane's, before it connects.
func (l *Lanes) MarkLane(w *enroll.Workload, fd int) error {
	l.mu.Lock()
	programs, v := l.programs, l.verdict
	l.mu.Unlock()
	switch {
	case v.mode != handoff.LaneOn:
		return errors.New("lanes are " + string(v.mode) + ": " + v.why)
	case excluded(w):
		return errExcluded
	}
	return programs.Mark(fd)
}
