package plan

import (
	"time"

	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/filter/limit"
	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// guard holds the requests of one connection against policies. It is made for the
// first connection whose listener has any: without, a request costs one comparison.
type guard struct {
	subject subject.Subject
	buckets *limit.Workload
	verdict filter.Verdict
	gate    *snapshot.Gate // that the connection was held against
	gated   filter.Verdict
	woulds  map[would]*would
	policy  string // of the last request
	shadow  string
}

// guarded tells whether a listener has policies on what brings requests.
func guarded(l *snapshot.Listener) bool {
	return l != nil && (l.Gate != nil || len(l.RBAC)+len(l.Limits)+len(l.Globals) > 0)
}

// Policy returns the names of the policy that decided about the request of the last
// Edge, and of the filter whose shadow rules would have refused it; "" for none.
func (p *Planner) Policy() (policy, shadow string) {
	if p.guard == nil {
		return "", ""
	}
	return p.guard.policy, p.guard.shadow
}

// Limited says that the request of the last Edge is refused by a limit: Policy names it.
func (p *Planner) Limited(by string) {
	if p.guard != nil {
		p.guard.policy = by
	}
}

// would is what policies that are only observed would have done to a request.
type would struct {
	why rpc.Why
	by  string
}

// tell notes it in what telemetry is told.
func (w *would) tell(c *rpc.Call) {
	if w != nil {
		c.Would, c.WouldBy = w.why, w.by
	}
}

// admit holds a request against the policies of a route, which may be nil, and notes
// what they would do if its workload is only observed. It is asked once for each
// request, however often that is routed. Open opens its body.
func (p *Planner) admit(pl *plan, route *snapshot.Route, open func()) rpc.Why {
	why := p.judge(pl, route, open)
	if why == rpc.WhyNone || !p.observed {
		return why
	}
	g := p.guard
	w := would{why, g.policy}
	if p.would = g.woulds[w]; p.would == nil {
		if g.woulds == nil {
			g.woulds = make(map[would]*would)
		}
		made := w // allocated here alone
		p.would = &made
		g.woulds[w] = p.would
	}
	return rpc.WhyNone
}

func (p *Planner) judge(pl *plan, route *snapshot.Route, open func()) rpc.Why {
	g := p.guard
	if g == nil {
		g = &guard{buckets: p.env.Policies.Workloads.Of(p.source.Workload.UID)}
		g.subject.Consumer, _ = p.source.Consumer(p.env)
		g.subject.Destination, g.subject.Boundary = p.source.Original, p.source.Inbound
		p.guard = g
	}
	g.subject.Now, g.subject.Random, g.subject.Observe = time.Now(), p.random.Uint64(), p.observed
	if why := g.connected(p); why != rpc.WhyNone {
		return why
	}
	at := filter.Place{Listener: p.listener, Route: route}
	needs := at.Needs(p.source.Inbound)
	g.policy, g.shadow = "", ""
	if !needs.Access && !needs.Limit && !needs.Global {
		return rpc.WhyNone
	}
	p.describe(pl)
	if needs.Body && !pl.undecodable && p.request.Attachments == nil {
		open()
	}
	g.subject.Reset(&p.request)
	if needs.Access {
		v := pl.verdict
		if v == nil || pl.judged != route || pl.seen != p.observed {
			v = &g.verdict
			if p.env.Policies.Access(at, &g.subject, v); !needs.PerRequest {
				v = v.Kept()
				pl.verdict, pl.judged, pl.seen = v, route, p.observed
			}
		}
		v.Count()
		if g.policy, g.shadow = v.Policy, v.Shadow; v.Why != rpc.WhyNone {
			return v.Why
		}
	}
	if needs.Limit {
		if why, name := p.env.Policies.Limit(at, &g.subject, g.buckets); why != rpc.WhyNone {
			g.policy = name
			return why
		}
	}
	if needs.Global {
		p.questions = at.Questions(&g.subject)
	}
	return rpc.WhyNone
}

// connected holds the connection against its gate: once for each that a snapshot
// brings. Every request of one that may not be is refused: a connection that closes
// tells its consumer nothing, and it would be dialled again at once.
func (g *guard) connected(p *Planner) rpc.Why {
	if gate := p.listener.Gate; gate != g.gate {
		g.gate = gate
		g.subject.Reset(nil)
		p.env.Policies.Connection(gate, &g.subject, g.buckets, &g.gated)
	}
	g.policy, g.shadow = g.gated.Policy, g.gated.Shadow
	if g.gated.Why == rpc.WhyLimited {
		g.policy = g.gated.Filter
	}
	return g.gated.Why
}

// describe makes p.request of a plan, unless it is already.
func (p *Planner) describe(pl *plan) {
	if p.described {
		return
	}
	p.described = true
	p.request = rpc.Request{
		Protocol: p.protocol.Name, Interface: pl.iface, Method: pl.method, Version: pl.version, Generic: pl.generic,
		Authority: p.authority, Undecodable: pl.undecodable,
	}
}
