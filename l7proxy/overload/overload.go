// Package overload watches the proxy's memory against its limit, so that one tenant's
// storm does not end the node's proxy: when it becomes tight no new connections are
// taken, and when it is nearly used up the workload that holds most is shed first. It
// refuses nothing itself: who accepts connections and plans requests asks it.
package overload

import (
	"context"
	"log/slog"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"
)

// Level is how near the limit the memory is.
type Level int32

// The levels.
const (
	Calm  Level = iota
	Tight       // from 80 %: no new connections
	Full        // from 90 %: the heaviest workload is shed
)

// String returns the word for operators.
func (l Level) String() string {
	switch l {
	case Tight:
		return "tight"
	case Full:
		return "full"
	case Calm:
	}
	return "calm"
}

// every is how often the memory is looked at: what a storm can take in that time must
// fit into the last tenth.
const every = 100 * time.Millisecond

// patience is how many looks what was shed has to give memory back in, before another
// is shed, unless the use still grows by a part of the limit (1/growth). What is given
// back is garbage first: it is collected when memory becomes tight, and while it stays
// so every so many looks.
const (
	patience     = 20
	growth       = 50
	collectFull  = 10
	collectTight = 50
)

// Tenant is a workload that can be shed: its requests are refused until it is no more.
type Tenant interface {
	Shed(on bool)
	Name() string
}

// Options are what a Monitor needs.
type Options struct {
	Limit uint64 // bytes; 0: there is none
	// Used returns the memory that is used. Nil: what the Go runtime has of the system.
	Used func() uint64
	// Collect gives memory that nobody uses back to the system. Nil: the Go runtime does.
	Collect func()
	// Heaviest returns the tenant that holds most and is not among those given; nil: none.
	Heaviest func(but []Tenant) Tenant
	Logger   *slog.Logger
}

// Monitor watches. Safe for concurrent use.
type Monitor struct {
	opts  Options
	level atomic.Int32

	// Of the one that looks, in looks.
	collected int    // since Collect
	waited    int    // since a tenant was shed
	above     uint64 // the use at which another is shed at once

	mu   sync.Mutex
	shed []Tenant
}

// New returns a Monitor that is calm until Run has looked.
func New(opts Options) *Monitor {
	if opts.Used == nil {
		opts.Used = used
	}
	if opts.Collect == nil {
		opts.Collect = debug.FreeOSMemory
	}
	return &Monitor{opts: opts, collected: collectTight}
}

// Run looks until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	if m.opts.Limit == 0 {
		<-ctx.Done()
		return nil
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		m.look()
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// look compares once, and sheds one more tenant if it is full and those before were not
// enough.
func (m *Monitor) look() {
	bytes := m.used()
	level := m.of(bytes)
	if before := Level(m.level.Swap(int32(level))); before != level {
		m.opts.Logger.Warn("memory", "level", level.String(), "before", before.String(), "used", bytes, "limit", m.opts.Limit)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waited++
	switch level {
	case Full:
		if len(m.shed) > 0 && m.waited < patience && bytes <= m.above {
			return
		}
		if t := m.opts.Heaviest(m.shed); t != nil {
			m.opts.Logger.Warn("memory is nearly used up: a workload's requests are refused", "workload", t.Name())
			t.Shed(true)
			m.shed = append(m.shed, t)
			m.waited, m.above = 0, bytes+m.opts.Limit/growth
		}
	case Tight: // who is shed stays so
	case Calm:
		for _, t := range m.shed {
			m.opts.Logger.Info("memory is calm: a workload's requests are taken again", "workload", t.Name())
			t.Shed(false)
		}
		m.shed = nil
	}
}

// used is what is used, without garbage if that would be too much.
func (m *Monitor) used() uint64 {
	bytes := m.opts.Used()
	m.collected++
	switch m.of(bytes) {
	case Calm:
		return bytes
	case Tight:
		if m.collected < collectTight {
			return bytes
		}
	case Full:
		if m.collected < collectFull {
			return bytes
		}
	}
	m.opts.Collect()
	m.collected = 0
	return m.opts.Used()
}

func (m *Monitor) of(bytes uint64) Level {
	switch {
	case bytes >= m.opts.Limit/10*9:
		return Full
	case bytes >= m.opts.Limit/10*8:
		return Tight
	}
	return Calm
}

// Level is how near the limit the memory was a moment ago.
func (m *Monitor) Level() Level { return Level(m.level.Load()) }

// State is what operators see.
type State struct {
	Used, Limit uint64 // bytes; no limit: 0
	Level       Level
	Shed        []string
}

// State returns the present one.
func (m *Monitor) State() State {
	s := State{Used: m.opts.Used(), Limit: m.opts.Limit, Level: m.Level()}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.shed {
		s.Shed = append(s.Shed, t.Name())
	}
	return s
}

// used is the memory that the Go runtime has of the system, which is what GOMEMLIMIT
// bounds.
func used() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}
