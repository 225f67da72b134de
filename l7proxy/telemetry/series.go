package telemetry

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry/histogram"
	"github.com/dubway/dubway/l7proxy/telemetry/names"
	"github.com/dubway/dubway/l7proxy/telemetry/shape"
)

// idle is how long series that nobody uses any more are still exposed. Pods come
// and go for as long as the node lives; their series must not stay with it.
const idle = 30 * time.Minute

// shards is into how many cells the requests of equal labels are spread, by
// connection: many cores that add to one cache line wait for each other.
const shards = 8

// identity is what calls with equal labels have in common: label values, already
// fit to be shown, so that two identities never look alike.
type identity struct {
	source, destination                                  peer
	serviceHost, serviceName, serviceNamespace, protocol string
	iface, method                                        string
	security                                             string
	application                                          string // "" unless a label asks
	shape, tags                                          string // of a report.Change; "" for none
}

// as is an identity of calls of a consumer with the labels of a part.
func (r *Recorder) as(id identity, p *shape.Part, from *rpc.Peer) identity {
	if p.Change == nil {
		return id
	}
	id.shape, id.tags = p.Change.Key(), p.Values("", "")
	if !r.tags.Fits(from, id.shape, id.tags) {
		p = p.Others()
	}
	id.tags = p.Values(id.iface, id.method)
	s, d := &id.source, &id.destination
	shape.Clear(p.Change, map[string]*string{
		"source_workload": &s.workload, "source_workload_namespace": &s.namespace, "source_app": &s.app,
		"source_version": &s.version, "source_canonical_service": &s.canonical,
		"source_canonical_revision": &s.revision, "source_cluster": &s.cluster,
		"source_principal": &s.principal, "destination_principal": &d.principal, "connection_security_policy": &id.security,
		"destination_workload": &d.workload, "destination_workload_namespace": &d.namespace, "destination_app": &d.app,
		"destination_version": &d.version, "destination_canonical_service": &d.canonical,
		"destination_canonical_revision": &d.revision, "destination_cluster": &d.cluster,
		"destination_service": &id.serviceHost, "destination_service_name": &id.serviceName,
		"destination_service_namespace": &id.serviceNamespace, "request_protocol": &id.protocol,
		"dubbo_interface": &id.iface, "dubbo_method": &id.method, "dubbo_consumer_application": &id.application,
	})
	return id
}

// peer is one end of a call.
type peer struct {
	workload, namespace, app, version, canonical, revision, cluster string
	principal                                                       string
}

func (r *Recorder) identify(call *rpc.Call, v names.Verdict) identity {
	id := identity{
		source: r.identifyPeer(call.Source), destination: r.identifyPeer(call.Destination),
		serviceHost: names.Known(call.Service.Host), serviceName: names.Known(call.Service.Name),
		serviceNamespace: names.Known(call.Service.Namespace),
		protocol:         call.Protocol.String(), iface: v.Interface, method: v.Method,
		security: call.Security.String(),
	}
	id.source.principal, id.destination.principal = names.Known(call.SourcePrincipal), names.Known(call.DestinationPrincipal)
	if r.apps != nil {
		id.application = r.apps.Look(call.Source, "", call.Application)
	}
	return id
}

func (r *Recorder) identifyPeer(p *rpc.Peer) peer {
	if p == nil {
		p = &rpc.Peer{}
	}
	found := peer{
		workload: names.Known(p.Workload), namespace: names.Known(p.Namespace), app: names.Known(p.App), version: names.Known(p.Version),
		canonical: names.Known(p.App), revision: names.Known(p.Version), cluster: r.cluster,
	}
	if p.App == "" {
		found.canonical = found.workload
	}
	switch {
	case p.Workload == "":
		found.cluster = names.Unknown
	case p.Version == "":
		found.revision = "latest" // Istio's word for no revision
	}
	return found
}

// outcome packs what may differ between two records of equal identity.
type outcome struct {
	reporter rpc.Reporter
	status   uint8 // 0, one of Dubbo's, or statusOther
	result   rpc.Result
	why      rpc.Why
	delayed  bool // by a fault
	lane     bool // of an Aggregate
	shard    uint8
	// serialization is 0, one of Dubbo's, or serializationOther.
	serialization uint8
	exception     uint16 // number in classes
}

// perMethod is how many classes of exceptions the calls of one identity may
// have: each is a set of histograms.
const perMethod = 20

// cell holds the values of one outcome. Every record adds to each of the first three,
// unless the configuration drops a metric or changes its labels.
type cell struct {
	group   *group
	outcome outcome

	duration, request, response histogram.Histogram
	overhead                    histogram.Histogram // only of calls that reached a provider
	// Records that are in requests and not in duration, the other way round, and in
	// neither.
	untimed, uncounted, neither atomic.Uint64
}

// observe adds what is counted of a record.
func (c *cell) observe(rec *rpc.Record, of report.Set) {
	if of != report.Every {
		c.count(1, of)
	}
	if of.Has(report.Duration) {
		c.duration.Observe(histogram.Durations, int64(rec.Duration))
	}
	if of.Has(report.RequestBytes) {
		c.request.Observe(histogram.Sizes, int64(rec.RequestBytes))
	}
	if of.Has(report.ResponseBytes) {
		c.response.Observe(histogram.Sizes, int64(rec.ResponseBytes))
	}
}

// count notes which of n calls the histogram of durations does not tell the number of.
func (c *cell) count(n uint64, of report.Set) {
	switch timed, counted := of.Has(report.Duration), of.Has(report.Requests); {
	case timed && !counted:
		c.uncounted.Add(n)
	case counted && !timed:
		c.untimed.Add(n)
	case !counted:
		c.neither.Add(n)
	}
}

// requests is how many are counted, and records how many there were.
func (c *cell) requests() uint64 { return c.timed() - c.uncounted.Load() + c.untimed.Load() }
func (c *cell) records() uint64  { return c.timed() + c.untimed.Load() + c.neither.Load() }

func (c *cell) timed() uint64 {
	var t histogram.Tally
	t.Add(&c.duration)
	return t.Total()
}

// group is all cells of one identity.
type group struct {
	identity identity
	change   *report.Change          // of its labels; nil: none
	cells    atomic.Pointer[[]*cell] // copied when one is added
	mu       sync.Mutex              // held to add a cell
}

// cell returns the cell of an outcome, made if need be: one with another
// exception if the group has as many as it may.
func (g *group) cell(o outcome) *cell {
	if c := g.find(o); c != nil {
		return c
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if o.exception >= names.FirstClass && g.full(o.exception) {
		o.exception = names.OtherClass
	}
	if c := g.find(o); c != nil {
		return c
	}
	c := &cell{group: g, outcome: o}
	cells := slices.Concat(g.all(), []*cell{c})
	g.cells.Store(&cells)
	return c
}

// full tells whether a further class is one too many.
func (g *group) full(class uint16) bool {
	var seen []uint16
	for _, c := range g.all() {
		switch n := c.outcome.exception; {
		case n == class:
			return false
		case n >= names.FirstClass && !slices.Contains(seen, n):
			seen = append(seen, n)
		}
	}
	return len(seen) >= perMethod
}

func (g *group) find(o outcome) *cell {
	for _, c := range g.all() {
		if c.outcome == o {
			return c
		}
	}
	return nil
}

func (g *group) all() []*cell {
	if cells := g.cells.Load(); cells != nil {
		return *cells
	}
	return nil
}

// total is the number of requests of all cells.
func (g *group) total() uint64 {
	var n uint64
	for _, c := range g.all() {
		n += c.records()
	}
	return n
}

// slot is a group's place in the store. A group in use is also held by its
// observers; the store alone holds it strongly until it has been idle, then
// weakly, so that it goes when its last observer does and no count is lost.
type slot struct {
	strong  *group
	weak    weak.Pointer[group]
	total   uint64
	changed time.Time
}

// store finds the group of an identity.
type store struct {
	mu    sync.Mutex
	slots map[identity]*slot
}

func newStore() *store { return &store{slots: make(map[identity]*slot)} }

func (s *store) group(id identity, change *report.Change) *group {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.slots[id]; found != nil {
		if g := found.weak.Value(); g != nil {
			found.strong, found.changed = g, time.Now()
			return g
		}
	}
	// Names may alias what the caller re-uses.
	id.iface, id.method = strings.Clone(id.iface), strings.Clone(id.method)
	g := &group{identity: id, change: change}
	s.slots[id] = &slot{strong: g, weak: weak.Make(g), changed: time.Now()}
	return g
}

// sweep returns all groups, after it has let go of the idle ones.
func (s *store) sweep(now time.Time) []*group {
	s.mu.Lock()
	defer s.mu.Unlock()
	groups := make([]*group, 0, len(s.slots))
	for id, found := range s.slots {
		g := found.weak.Value()
		if g == nil {
			delete(s.slots, id)
			continue
		}
		groups = append(groups, g)
		if total := g.total(); total != found.total {
			found.strong, found.total, found.changed = g, total, now
		} else if now.Sub(found.changed) > idle {
			found.strong = nil
		}
	}
	return groups
}
