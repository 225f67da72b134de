// Package filter holds requests and connections against the policies of their
// listener and route, in the one order that is written here, whatever the order of
// kinds in a filter chain (that of filters of one kind is kept):
//
//  1. network RBAC: may this consumer connect (Connection)
//  2. network rate limits: does it connect too often (Connection)
//  3. RBAC: may it call this (Access)
//  4. local rate limits: does it call too often (Limit)
//  5. global rate limits: does it call too often, as a service says (Questions, Answered)
//  6. faults: is it delayed, is it aborted (Fault)
//
// What is denied takes no token, what has no token of this node's is not asked about, and
// what is refused gets no fault: those who test
// how a consumer bears a fault learn nothing of policies. An endpoint is chosen behind
// all of them, for a request that waited when it waits no more. The rooms below judge by one kind of policy each;
// this one neither answers nor closes anything: its caller does.
package filter

import (
	"iter"
	"math"

	"github.com/dubway/dubway/l7proxy/filter/fault"
	"github.com/dubway/dubway/l7proxy/filter/limit"
	"github.com/dubway/dubway/l7proxy/filter/rbac"
	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/filter/tally"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Policies is what all connections share: the buckets and the counters. Its zero
// value is ready. Safe for concurrent use.
type Policies struct {
	Workloads limit.Workloads
	Tally     tally.Tally
	Faults    fault.Active
}

// Keep lets go what a new snapshot does not need any more. It is called once for
// each snapshot that is published, by one goroutine.
func (p *Policies) Keep(all ...*snapshot.Snapshot) {
	p.Workloads.Keep(all...)
	p.Tally.Keep(all...)
}

// Verdict is what the policies say. One goroutine uses it, again and again: then it
// allocates nothing.
type Verdict struct {
	Why    rpc.Why // WhyNone: the subject may pass; WhyDenied; WhyLimited
	Filter string  // the name of the filter that refuses it
	// Policy is the name of the policy that decided: the one of a DENY that matched, or
	// the last of the ALLOWs that let it pass. "" if none matched.
	Policy string
	// Shadow is the name of the filter whose shadow rules would have refused it.
	Shadow string

	counts []*tally.Counter
}

// Count counts the verdict in the metrics: once for each request that it is given to.
func (v *Verdict) Count() {
	for _, c := range v.counts {
		c.Add()
	}
}

// CountMany is Count for n requests.
func (v *Verdict) CountMany(n uint64) {
	for _, c := range v.counts {
		c.AddMany(n)
	}
}

// Kept returns a copy that stays as it is when v is used again, to be given to other
// requests of the same kind (PerRequest). It allocates.
func (v *Verdict) Kept() *Verdict {
	kept := *v
	kept.counts = append([]*tally.Counter(nil), v.counts...)
	return &kept
}

func (v *Verdict) reset() { *v = Verdict{counts: v.counts[:0]} }

func (v *Verdict) count(c *tally.Counter) {
	if c != nil {
		v.counts = append(v.counts, c)
	}
}

// Place is where policies are found. Route is nil for a request that no route
// matches: then the listener's hold as they are.
type Place struct {
	Listener *snapshot.Listener // nil: there are no policies
	Route    *snapshot.Route
}

// Connection judges a connection by the gate of its filter chain: Listener.Gate if it
// brings requests, Listener.OpaqueGate if it is opaque. A nil gate lets it pass. The
// subject was Reset to nil; the verdict is counted.
func (p *Policies) Connection(g *snapshot.Gate, s *subject.Subject, w *limit.Workload, v *Verdict) {
	v.reset()
	if g == nil {
		return
	}
	for _, one := range g.RBAC {
		if p.judge(one, s, v); v.Why != rpc.WhyNone {
			break
		}
	}
	v.Count()
	if v.Why == rpc.WhyNone {
		for _, one := range g.Limits {
			if p.take(one, nil, s, w) {
				v.Why, v.Filter = rpc.WhyLimited, one.Name
				return
			}
		}
	}
}

// Access judges a request by RBAC. It does not count: the caller counts the verdict for
// each request that it gives it to.
func (p *Policies) Access(at Place, s *subject.Subject, v *Verdict) {
	v.reset()
	for one := range at.RBAC() {
		if p.judge(one, s, v); v.Why != rpc.WhyNone {
			return
		}
	}
}

// Limit takes the tokens of a request that Access lets pass, and counts. The name is
// that of the filter that refuses it.
func (p *Policies) Limit(at Place, s *subject.Subject, w *limit.Workload) (why rpc.Why, name string) {
	for one := range at.Limits() {
		if p.take(one, at.rates(), s, w) {
			return rpc.WhyLimited, one.Name
		}
	}
	return rpc.WhyNone, ""
}

// Fault decides which faults are injected into a request that Limit lets pass, from
// the filter with number next on, and returns the number of the filter to go on with
// when its delay is over. It counts what comes to nothing; who delays or aborts the
// request counts that.
func (p *Policies) Fault(at Place, s *fault.Subject, next int) (in fault.Injection, then int) {
	for i := next; at.Listener != nil && i < len(at.Listener.Faults); i++ {
		f := at.fault(at.Listener.Faults[i])
		if f.Idle() {
			continue
		}
		if in = fault.Of(f, s); in.Filter == nil {
			continue
		}
		if f.Most != math.MaxUint32 && p.Faults.Full(s.Workload, f) {
			p.Tally.Fault(f, tally.Overflowed).Add()
			continue
		}
		return in, i + 1
	}
	return fault.Injection{}, math.MaxInt
}

// judge holds a subject against one RBAC filter: the shadow rules, which only count,
// then the others.
func (p *Policies) judge(f *snapshot.RBAC, s *subject.Subject, v *Verdict) {
	if f.Shadow != nil {
		d := rbac.Judge(f.Shadow, s)
		v.count(p.Tally.Rules(f.Name, f.Shadow, true, d))
		if d.Denied && v.Shadow == "" {
			v.Shadow = f.Name
		}
	}
	if f.Rules == nil {
		return
	}
	d := rbac.Judge(f.Rules, s)
	if s.Observe {
		v.count(p.Tally.Observed(f.Name, f.Rules, d))
	} else {
		v.count(p.Tally.Rules(f.Name, f.Rules, false, d))
	}
	if f.Rules.Action != snapshot.RBACLog && d.Policy != rbac.None {
		v.Policy = f.Rules.Policies[d.Policy].Name
	}
	if d.Denied {
		if d.Policy == rbac.None {
			v.Policy = "" // not one that an earlier filter matched
		}
		v.Why, v.Filter = rpc.WhyDenied, f.Name
	}
}

// take tells whether a subject is to be refused for want of a token.
func (p *Policies) take(l *snapshot.Limit, rates []snapshot.Rate, s *subject.Subject, w *limit.Workload) bool {
	d := w.Judge(l, rates, s)
	if s.Observe && d == limit.Limited {
		d = limit.Observed
	}
	if c := p.Tally.Limit(l, d); c != nil {
		c.Add()
	}
	return d == limit.Limited || d == limit.Observed
}

// RBAC lists the filters that hold at the place, in their order.
func (at Place) RBAC() iter.Seq[*snapshot.RBAC] {
	return func(yield func(*snapshot.RBAC) bool) {
		if at.Listener == nil {
			return
		}
		for _, f := range at.Listener.RBAC {
			if !yield(at.rbac(f)) {
				return
			}
		}
	}
}

// Limits lists the limits that hold at the place, in their order.
func (at Place) Limits() iter.Seq[*snapshot.Limit] {
	return func(yield func(*snapshot.Limit) bool) {
		if at.Listener == nil {
			return
		}
		for _, l := range at.Listener.Limits {
			if !yield(at.limit(l)) {
				return
			}
		}
	}
}

func (at Place) rbac(f *snapshot.RBAC) *snapshot.RBAC {
	if at.Route != nil && at.Route.Policies != nil {
		if own, ok := at.Route.Policies.RBAC[f.Name]; ok {
			return own
		}
	}
	return f
}

func (at Place) limit(f *snapshot.Limit) *snapshot.Limit {
	if at.Route != nil && at.Route.Policies != nil {
		if own, ok := at.Route.Policies.Limits[f.Name]; ok {
			return own
		}
	}
	return f
}

func (at Place) fault(f *snapshot.Fault) *snapshot.Fault {
	if at.Route != nil && at.Route.Policies != nil {
		if own, ok := at.Route.Policies.Faults[f.Name]; ok {
			return own
		}
	}
	return f
}

// Abort is what an abort is at the place; nil: what its filter says.
func (at Place) Abort() *snapshot.Abort {
	if at.Route == nil || at.Route.Policies == nil {
		return nil
	}
	return at.Route.Policies.Abort
}

// Faults lists the fault filters that hold at the place, in their order.
func (at Place) Faults() iter.Seq[*snapshot.Fault] {
	return func(yield func(*snapshot.Fault) bool) {
		if at.Listener == nil {
			return
		}
		for _, f := range at.Listener.Faults {
			if !yield(at.fault(f)) {
				return
			}
		}
	}
}

func (at Place) rates() []snapshot.Rate {
	if at.Route == nil || at.Route.Policies == nil {
		return nil
	}
	return at.Route.Policies.Rates
}
