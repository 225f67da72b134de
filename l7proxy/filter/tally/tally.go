// Package tally counts the verdicts of policies, so that a request costs one atomic
// addition for each. It knows no metric's name: package telemetry/verdicts does.
package tally

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dubway/dubway/l7proxy/filter/global"
	"github.com/dubway/dubway/l7proxy/filter/limit"
	"github.com/dubway/dubway/l7proxy/filter/rbac"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Kind is the kind of policy that is counted.
type Kind uint8

// The kinds.
const (
	KindRBAC Kind = iota
	KindLimit
	KindFault
	KindGlobal
)

// Labels say what is counted. They come from the configuration alone.
type Labels struct {
	Kind   Kind
	Filter string // the filter's name
	Prefix string // its stat prefix
	Action string // RBAC: allow, deny or log
	Mode   string // RBAC: enforced; shadow, which is only judged; observed, of a workload that is
	Policy string // RBAC: the one that matched; "" for none
	// Result: allowed, denied, would_deny or logged; ok, limited, would_limit or exceeded
	// (not enforced); delayed, aborted or overflowed; a global.Decision.
	Result string
}

// Counter is the number of verdicts with some labels. Safe for concurrent use.
type Counter struct{ n atomic.Uint64 }

// Add counts one verdict.
func (c *Counter) Add() { c.n.Add(1) }

// AddMany counts n verdicts.
func (c *Counter) AddMany(n uint64) { c.n.Add(n) }

// Tally has all counters. Its zero value has none. Safe for concurrent use.
type Tally struct {
	rules  sync.Map // *snapshot.Rules to *counters: one for each policy, then that for none
	seen   sync.Map // the same, of Observed
	limits sync.Map // *snapshot.Limit to *counters: by limit.Decision
	faults sync.Map // *snapshot.Fault to *counters: by Injected
	// globals are *snapshot.Global to *counters: by global.Decision.
	globals sync.Map

	mu       sync.Mutex
	byLabels map[Labels]*Counter
}

// counters are those of one filter. They are looked up once; a snapshot in which the
// filter did not change goes on with the same.
type counters []*Counter

// Rules returns the counter of a decision of rules, shadow or not, of a filter; nil
// for what is not counted. It allocates only when rules come for the first time.
func (t *Tally) Rules(filter string, rules *snapshot.Rules, shadow bool, d rbac.Decision) *Counter {
	mode := "enforced"
	if shadow {
		mode = "shadow"
	}
	return t.decided(&t.rules, Labels{Filter: filter, Mode: mode}, rules, d)
}

// Observed returns the counter of a decision of rules that is not enforced because its
// workload is only observed.
func (t *Tally) Observed(filter string, rules *snapshot.Rules, d rbac.Decision) *Counter {
	return t.decided(&t.seen, Labels{Filter: filter, Mode: observed}, rules, d)
}

const observed = "observed"

func (t *Tally) decided(m *sync.Map, labels Labels, rules *snapshot.Rules, d rbac.Decision) *Counter {
	list := load(m, rules)
	if list == nil {
		made := t.ofRules(labels, rules) // a variable of its own: its address is kept
		m.Store(rules, &made)
		list = made
	}
	if d.Policy == rbac.None {
		return list[len(rules.Policies)]
	}
	return list[d.Policy]
}

// Limit returns the counter of a decision of a limit; nil for what is not counted. It
// allocates only when a limit comes for the first time.
func (t *Tally) Limit(l *snapshot.Limit, d limit.Decision) *Counter {
	list := load(&t.limits, l)
	if list == nil {
		made := t.ofLimit(l)
		t.limits.Store(l, &made)
		list = made
	}
	return list[d]
}

// load finds counters; nil if there are none yet.
func load(m *sync.Map, key any) counters {
	known, ok := m.Load(key)
	if !ok {
		return nil
	}
	if list, ok := known.(*counters); ok {
		return *list
	}
	return nil
}

func (t *Tally) ofRules(labels Labels, rules *snapshot.Rules) counters {
	labels.Kind, labels.Prefix, labels.Action = KindRBAC, rules.Prefix, rules.Action.String()
	denied := "denied"
	if labels.Mode == observed {
		denied = "would_deny"
	}
	matched, none := "allowed", denied
	switch rules.Action {
	case snapshot.RBACAllow:
	case snapshot.RBACDeny:
		matched, none = denied, "allowed"
	case snapshot.RBACLog:
		matched, none = "logged", ""
	}
	list := make(counters, 0, len(rules.Policies)+1)
	for i := range rules.Policies {
		labels.Policy, labels.Result = rules.Policies[i].Name, matched
		list = append(list, t.counter(labels))
	}
	labels.Policy, labels.Result = "", none
	if none == "" {
		return append(list, nil)
	}
	return append(list, t.counter(labels))
}

func (t *Tally) ofLimit(l *snapshot.Limit) counters {
	labels := Labels{Kind: KindLimit, Filter: l.Name, Prefix: l.Prefix}
	list := make(counters, limit.Observed+1)
	for d, result := range map[limit.Decision]string{
		limit.OK: "ok", limit.Exceeded: "exceeded", limit.Limited: "limited", limit.Observed: "would_limit",
	} {
		labels.Result = result
		list[d] = t.counter(labels)
	}
	return list
}

func (t *Tally) counter(labels Labels) *Counter {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.byLabels[labels]
	if c == nil {
		if t.byLabels == nil {
			t.byLabels = make(map[Labels]*Counter)
		}
		c = new(Counter)
		t.byLabels[labels] = c
	}
	return c
}

// Keep makes the counters of the snapshots' policies, at 0 or as they were for what had
// the same labels, and lets all others go: whoever still counts with them counts for
// nobody.
func (t *Tally) Keep(all ...*snapshot.Snapshot) {
	rules, limits := make(map[*snapshot.Rules]bool), make(map[*snapshot.Limit]bool)
	faults, globals := make(map[*snapshot.Fault]bool), make(map[*snapshot.Global]bool)
	for f := range snapshot.Each(all, (*snapshot.Snapshot).RBAC) {
		if f.Rules != nil {
			t.Rules(f.Name, f.Rules, false, rbac.Decision{Policy: rbac.None})
			rules[f.Rules] = true
		}
		if f.Shadow != nil {
			t.Rules(f.Name, f.Shadow, true, rbac.Decision{Policy: rbac.None})
			rules[f.Shadow] = true
		}
	}
	for l := range snapshot.Each(all, (*snapshot.Snapshot).Limits) {
		t.Limit(l, limit.Skipped)
		limits[l] = true
	}
	for f := range snapshot.Each(all, (*snapshot.Snapshot).Faults) {
		if !f.Idle() {
			t.Fault(f, Delayed)
			faults[f] = true
		}
	}
	for l := range snapshot.Each(all, (*snapshot.Snapshot).All) {
		for _, g := range l.Globals {
			t.Global(g, global.OK)
			globals[g] = true
		}
	}
	live := make(map[*Counter]bool)
	keep(&t.rules, rules, live)
	keep(&t.seen, rules, live)
	keep(&t.limits, limits, live)
	keep(&t.faults, faults, live)
	keep(&t.globals, globals, live)
	t.mu.Lock()
	defer t.mu.Unlock()
	for labels, c := range t.byLabels {
		if !live[c] {
			delete(t.byLabels, labels)
		}
	}
}

// keep deletes what is not wanted, and adds the counters of the rest to live.
func keep[K comparable](m *sync.Map, wanted map[K]bool, live map[*Counter]bool) {
	m.Range(func(key, value any) bool {
		k, isKey := key.(K)
		list, isList := value.(*counters)
		if !isKey || !isList || !wanted[k] {
			m.Delete(key)
			return true
		}
		for _, c := range *list {
			live[c] = true
		}
		return true
	})
}

// Count is a counter's value.
type Count struct {
	Labels Labels
	Total  uint64
}

// All returns the counts, ordered by their labels.
func (t *Tally) All() []Count {
	t.mu.Lock()
	list := make([]Count, 0, len(t.byLabels))
	for labels, c := range t.byLabels {
		list = append(list, Count{labels, c.n.Load()})
	}
	t.mu.Unlock()
	slices.SortFunc(list, func(a, b Count) int {
		x, y := &a.Labels, &b.Labels
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Filter, y.Filter), cmp.Compare(x.Prefix, y.Prefix),
			cmp.Compare(x.Mode, y.Mode), cmp.Compare(x.Action, y.Action), cmp.Compare(x.Policy, y.Policy), cmp.Compare(x.Result, y.Result))
	})
	return list
}
