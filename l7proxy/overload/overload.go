// Package overload watches the proxy's memory against its limit, so that one tenant's
// storm does not end the node's proxy: when it becomes tight no new connections are
// taken, and when it is nearly used up the workload that holds most is shed first. It
// refuses nothing itself: who accepts connections and plans requests asks it.
package overload

import (
	"context"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/metrics"
	"strconv"
	"strings"
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
	// Heaviest returns the tenant that holds most and is not among those given; nil: none.
	Heaviest func(but []Tenant) Tenant
	Logger   *slog.Logger
}

// Monitor watches. Safe for concurrent use.
type Monitor struct {
	opts  Options
	level atomic.Int32

	mu   sync.Mutex
	shed []Tenant
}

// New returns a Monitor that is calm until Run has looked.
func New(opts Options) *Monitor {
	if opts.Used == nil {
		opts.Used = used
	}
	return &Monitor{opts: opts}
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

// look compares once, and sheds one more tenant while it is full.
func (m *Monitor) look() {
	level := m.of(m.opts.Used())
	if before := Level(m.level.Swap(int32(level))); before != level {
		m.opts.Logger.Warn("memory", "level", level.String(), "before", before.String(),
			"used", m.opts.Used(), "limit", m.opts.Limit)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch level {
	case Full:
		if t := m.opts.Heaviest(m.shed); t != nil {
			m.opts.Logger.Warn("memory is nearly used up: a workload's requests are refused", "workload", t.Name())
			t.Shed(true)
			m.shed = append(m.shed, t)
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

// LimitOf returns the memory limit of a process's own cgroup, of version 2 or 1, as the
// files below proc and sys say; 0: it has none.
func LimitOf(proc, sys string) uint64 {
	text, err := os.ReadFile(filepath.Join(proc, "self", "cgroup"))
	if err != nil {
		return 0
	}
	limit := uint64(math.MaxUint64)
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		switch parts[1] {
		case "":
			limit = min(limit, least(sys, parts[2], "memory.max"), least(filepath.Join(sys, "unified"), parts[2], "memory.max"))
		case "memory":
			limit = min(limit, least(filepath.Join(sys, "memory"), parts[2], "memory.limit_in_bytes"))
		}
	}
	if limit >= 1<<62 { // version 1 says "none" so
		return 0
	}
	return limit
}

// least is the least limit of a cgroup and those above it.
func least(root, path, file string) uint64 {
	limit := uint64(math.MaxUint64)
	for {
		if text, err := os.ReadFile(filepath.Join(root, path, file)); err == nil {
			if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil {
				limit = min(limit, n)
			}
		}
		if path == "/" || path == "." {
			return limit
		}
		path = filepath.Dir(path)
	}
}
