package trace

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/dubway/dubway/l7proxy/snapshot/tracing"
)

// Collector is how things are with a collector.
type Collector struct {
	Cluster           string
	Exported, Dropped uint64
	Waiting           int       // spans
	Failing           string    // why the last export failed; "": it did not
	Since             time.Time // it fails, or does not
}

// Collectors tells of all of them, by the names of their clusters.
func (t *Tracer) Collectors() []Collector {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]Collector, 0, len(t.exporters))
	for _, e := range t.exporters {
		list = append(list, e.state())
	}
	slices.SortFunc(list, func(a, b Collector) int { return cmp.Compare(a.Cluster, b.Cluster) })
	return list
}

// Problems are sentences that an operator should act on: what listeners ask for and is not
// done, and collectors that take nothing.
func (t *Tracer) Problems() []string {
	t.mu.RLock()
	list := slices.Clone(t.problems)
	t.mu.RUnlock()
	for _, c := range t.Collectors() {
		if c.Failing != "" {
			list = append(list, fmt.Sprintf("spans for the collector %s are not taken since %s, and dropped when more than %d wait: %s",
				c.Cluster, c.Since.Format(time.RFC3339), maxWaiting, c.Failing))
		}
	}
	return list
}

// report notes what listeners ask for and is not done; the log says each once. By is a
// listener of each. The caller locks.
func (t *Tracer) report(by map[*tracing.Tracing]string) {
	first := make(map[string]string) // listener by sentence
	for config, listener := range by {
		for _, p := range config.Problems {
			if known, ok := first[p]; !ok || listener < known {
				first[p] = listener
			}
		}
	}
	before := t.problems
	t.problems = nil
	for p, listener := range first {
		t.problems = append(t.problems, fmt.Sprintf("listener %s: %s", listener, p))
	}
	slices.Sort(t.problems)
	for _, p := range t.problems {
		if _, told := slices.BinarySearch(before, p); !told {
			t.opts.Logger.Warn("tracing is not as it is asked for", "problem", p)
		}
	}
}
