package lanes

import (
	"github.com/dubway/dubway/agent/lanes/shortage"
	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/handoff"
)

// modes are all of them, in the order in which they are listed.
var modes = []handoff.LaneMode{handoff.LaneOn, handoff.LaneObserve, handoff.LaneOff}

// Status tells how things are with lanes.
func (l *Lanes) Status() admin.NodeLanes {
	l.work.Lock()
	workloads := len(l.applied)
	l.work.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := admin.NodeLanes{
		Choice: string(l.choice), Mode: string(l.verdict.mode), Why: l.verdict.why,
		Workloads: workloads, Excluded: l.excluded, ProxyRefused: l.lease.refused,
	}
	if name, _, err := l.opts.Build(); err == nil {
		s.Build = name
	}
	if l.shared != nil {
		s.Open = l.shared.inUse()
	}
	s.Kept, s.Left = l.Kept.Count()
	if counter, ok := l.programs.(Counter); ok {
		s.Outcomes, _ = counter.Counts() // what cannot be read is left out
	}
	return s
}

// Programs returns what is loaded, nil for nothing.
func (l *Lanes) Programs() Programs {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.programs
}

// Counter is Programs that tell what they decided, by outcome.
type Counter interface {
	Counts() (map[string]uint64, error)
}

// Problem is a sentence that an operator should act on; "" where all is as it was chosen.
// That auto found a reason to do without lanes is none.
func (l *Lanes) Problem() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.short:
		return "lanes: " + shortage.Why
	case l.lease.refused != "":
		return "lanes: the proxy cannot use them: " + l.lease.refused
	case l.choice == On && l.verdict.mode == handoff.LaneOff:
		return "lanes: they are off although they were chosen to be on: " + l.verdict.why
	}
	return ""
}
