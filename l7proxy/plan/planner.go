// Package plan decides where the requests of one consumer connection go, and
// remembers it: requests that look alike have one plan, with an edge for each
// endpoint that it has led to. It follows the snapshots, the consumer's own choice
// of a provider, and what is known of interfaces that are not exported yet. It
// reads no socket and sends nothing.
package plan

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/dubway/dubway/l7proxy/breaker"
	"github.com/dubway/dubway/l7proxy/callback"
	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/export"
	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/filter/global"
	"github.com/dubway/dubway/l7proxy/herald"
	"github.com/dubway/dubway/l7proxy/identity"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/mode"
	"github.com/dubway/dubway/l7proxy/principal"
	"github.com/dubway/dubway/l7proxy/quota"
	"github.com/dubway/dubway/l7proxy/router"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/tracing"
	"github.com/dubway/dubway/l7proxy/telemetry/inverted"
	"github.com/dubway/dubway/l7proxy/telemetry/stale"
	"github.com/dubway/dubway/l7proxy/telling"
	"github.com/dubway/dubway/l7proxy/upstream"
	"github.com/dubway/dubway/l7proxy/workload"
)

// Clusters finds the endpoints of a cluster of a snapshot; nil if that is gone, or nil.
type Clusters interface {
	Of(c *snapshot.Cluster) *cluster.Set
}

// Recorder makes telemetry of calls and connections.
type Recorder interface {
	telling.Recorder
	Connection(c *rpc.Connection)
}

// Tracer begins spans of requests, by their attachments, at random or as these say; nil:
// a request is not sampled.
type Tracer interface {
	Begin(config *tracing.Tracing, a rpc.Attachments, atProvider bool, random uint64) rpc.Span
}

// Env is what all planners share.
type Env struct {
	// View returns what tells, at any time, which snapshot a workload sees.
	View func(workload string) func() *snapshot.Snapshot
	// Changes counts the changes of what workloads see; nil: there are none.
	Changes   func() uint64
	Clusters  Clusters
	Pool      *upstream.Pool
	Recorder  Recorder
	Tracer    Tracer // nil: there are no spans
	Workloads *workload.Registry
	Stale     *stale.List
	Inverted  *inverted.List
	Breakers  *breaker.Breakers
	Policies  *filter.Policies // counters and buckets
	Modes     *mode.Table      // nil: everything is enforced
	// Identities are those of the node's workloads; their trust domain is that of principals.
	Identities identity.Source
	// Applications says that a metric asks for the consumers' own names, which
	// stand behind the arguments.
	Applications bool
	Lane         verdict.Node // what of the node lanes ask; its zero value: there are none
}

// Book says who the pods of this node are.
func (e *Env) Book() principal.Book {
	return principal.Book{Workloads: e.Workloads, Identities: e.Identities}
}

// Source is where the requests of a connection come from.
type Source struct {
	Workload *workload.Workload // in whose namespace the connection was accepted
	Quota    *quota.Workload    // nil: none
	Inbound  bool
	// Original is what the consumer dialled; Remote is the consumer. Neither is
	// v4-mapped.
	Original netip.AddrPort
	Remote   netip.AddrPort
	// Principal is whom mutual TLS has shown the consumer to be, and Own as whom it showed
	// the provider; "" where it was not spoken.
	Principal, Own string
}

// Bound names the connections to the provider that a consumer dialled, before any of his
// requests has come.
func (s *Source) Bound(snap *snapshot.Snapshot, p *codec.Protocol) upstream.Key {
	k := s.Key(p, s.Original)
	k.TLS = router.TLSAt(snap, s.Original)
	return k
}

// Key names the connections that a source's requests to an endpoint share.
func (s *Source) Key(p *codec.Protocol, endpoint netip.AddrPort) upstream.Key {
	k := upstream.Key{Protocol: p, Workload: s.Workload.UID, Endpoint: endpoint}
	if s.Inbound {
		k.Inbound, k.Client = true, s.Remote.Addr()
	}
	return k
}

// Host is the connection whose requests are planned.
type Host interface {
	upstream.Owner
	// Pending tells whether a request has no answer yet.
	Pending() bool
	// ReadOnly says that the pod's own application is about to stop. It must not wait.
	ReadOnly()
}

// Planner routes the requests of one connection. Its owner locks, but for Binds
// and Served.
type Planner struct {
	env       *Env
	source    *Source
	host      Host
	line      *callback.Line
	authority string
	protocol  *codec.Protocol

	current  func() *snapshot.Snapshot
	snap     *snapshot.Snapshot
	domain   string // of principals
	listener *snapshot.Listener
	plans    map[string]*plan
	groups   map[*upstream.Group]bool // referenced
	exports  export.Known
	except   []netip.AddrPort // not to be chosen. Of Elsewhere
	limit    time.Duration    // of Limit
	edits    []snapshot.Edit  // of Edited
	answers  []snapshot.Edit  // of Answers
	share    *snapshot.Edits  // whose they are, if a share of the route has its own
	mirrors  []*upstream.Edge // of Mirrors
	watched  []watch
	held     int // bytes of the quota, for plans
	tab      breaker.Tab
	dialled  router.Dialled
	doomed   bool
	request  rpc.Request
	waits    *Held // of Held
	// Of the request that is being planned: the fault filter to begin with; of Lead; what it was
	// held for; p.request describes it; policies have let it pass already.
	next                int
	lead                router.Lead
	resumed             *Held
	injector            *injector // nil: no faults so far
	described, admitted bool
	questions           []global.Question // of policies that let it pass so far
	guard               *guard            // nil: no policies so far
	mode                *mode.Cell
	// Of the request that is being planned: its workload is only observed, and what
	// policies would have done to it; nil: nothing.
	observed bool
	would    *would
	teller   telling.Teller

	hash   uint64     // of the request that is being planned; 0: none
	body   codec.Body // 2 KiB: only where a rule reads them
	random *rand.Rand
}

// watch is an endpoint that is told how a group fares, while plans choose it.
type watch struct {
	group    *upstream.Group
	endpoint herald.Endpoint
}

// Init makes p the planner of a host, whose line it follows. All of them outlive
// it.
func (p *Planner) Init(env *Env, source *Source, host Host, line *callback.Line) {
	p.env, p.source, p.host, p.line = env, source, host, line
	p.mode, p.current = env.Modes.Of(source.Workload.UID), env.View(source.Workload.UID)
	p.authority = source.Original.String()
	p.groups = make(map[*upstream.Group]bool)
	p.dialled.Address = source.Original
	p.random = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
}

// Speak says which protocol the connection's requests are of, before the first one.
func (p *Planner) Speak(protocol *codec.Protocol) { p.protocol = protocol }

// refresh follows the current snapshot, and the trust domain, which is known from the
// node's first certificate on. What was remembered of another one goes.
func (p *Planner) refresh() {
	snap, domain, outdated := p.current(), p.env.Identities.TrustDomain(), p.teller.Outdated(p.env.Changes)
	if domain != p.domain {
		p.domain, p.guard = domain, nil // the consumer has another name
	} else if snap == p.snap && p.plans != nil && len(p.plans) < maxPlans && !outdated {
		return
	}
	if !p.host.Pending() {
		p.Close()
		clear(p.groups)
	}
	p.unwatch()
	p.release()
	p.snap, p.plans, p.tab = snap, make(map[string]*plan), breaker.Tab{}
	if p.source.Inbound {
		p.listener = p.source.Entrance(p.env, snap, false)
	} else {
		p.listener = p.dialled.Look(snap)
	}
	// References that the new plans do not take again are given back when the
	// connection ends: a group without requests costs a heartbeat.
}

// Forget drops what was remembered; requests to come are looked at anew.
func (p *Planner) Forget() {
	p.unwatch()
	p.snap, p.listener, p.plans, p.exports, p.waits, p.injector = nil, nil, nil, export.Known{}, nil, nil
	p.body, p.request, p.guard, p.questions = nil, rpc.Request{}, nil, nil // which refer to body
	p.release()
}

// unwatch takes back what newEdge watched: each snapshot has endpoints of its own.
func (p *Planner) unwatch() {
	for _, w := range p.watched {
		w.group.Unwatch(w.endpoint)
	}
	p.watched = nil
}

// Close gives back what the plans referenced, and abandons what is pending.
func (p *Planner) Close() {
	p.unwatch()
	pending := p.host.Pending() // or there is nothing to search for
	for g := range p.groups {
		if pending {
			for _, c := range g.Conns() {
				c.Abandon(p.host)
			}
		}
		g.Release()
	}
}

// Streamable tells whether requests can be routed by their first bytes.
func (p *Planner) Streamable() bool {
	p.refresh()
	l := p.listener
	if p.source.Inbound {
		return !guarded(l) || (l.Route == nil || l.Route.Static) && !filter.Whole(l, true)
	}
	return l == nil || l.Route == nil || l.Route.Static && !l.Route.Whole && !filter.Whole(l, false)
}

// Doomed tells whether the connection is to end once nothing is pending: the
// provider that its consumer dialled is dead, and nobody serves in its stead.
func (p *Planner) Doomed() bool { return p.doomed }

// Off tells whether the workload is to be left alone: what serves its connection ends it,
// and those to come are passed on as they are.
func (p *Planner) Off() bool { return p.mode.Mode() == mode.Off }

// Idle returns how long the connection may be silent while nothing is pending; 0: for
// ever. Any goroutine may ask.
func (p *Planner) Idle() time.Duration {
	snap := p.current()
	l := snap.Listener(p.source.Original)
	if p.source.Inbound {
		l = p.source.Entrance(p.env, snap, false)
	}
	if l == nil {
		return 0
	}
	return l.Idle
}

// Binds tells whether the connection lives and dies with the address that its
// consumer dialled. It is asked before the first request.
func (p *Planner) Binds() bool { return !p.source.Inbound && p.dialled.Binds(p.current()) }

// Served tells whether requests can be served although nobody is at the dialled
// address. Any goroutine may ask.
func (p *Planner) Served() bool { return p.dialled.Served(p.current()) }
