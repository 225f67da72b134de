package cluster

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/l7proxy/cluster/checkup"
	"github.com/dubway/dubway/l7proxy/cluster/names"
	"github.com/dubway/dubway/l7proxy/cluster/outlier"
	"github.com/dubway/dubway/l7proxy/cluster/register"
	"github.com/dubway/dubway/l7proxy/cluster/slowstart"
	"github.com/dubway/dubway/l7proxy/cluster/zone"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Options are a Manager's optional parts.
type Options struct {
	// Resolver resolves STRICT_DNS names; nil means net.DefaultResolver.
	Resolver names.Resolver
	// Prober makes active health checks; nil means that none are made.
	Prober checkup.Prober
	// Zone is where the proxy is; nil if that is not known.
	Zone zone.Zone
}

// Manager keeps a Set for each cluster of the snapshots.
type Manager struct {
	logger *slog.Logger
	dns    *names.Follower
	sets   atomic.Pointer[register.Register[Set]]

	prober   checkup.Prober
	zone     zone.Zone
	outliers outlier.Stats
	checks   checkup.Stats

	mu     sync.Mutex // held while sets change
	closed bool
}

// NewManager returns a Manager without clusters. Close ends it.
func NewManager(logger *slog.Logger, opts Options) *Manager {
	if opts.Resolver == nil {
		opts.Resolver = net.DefaultResolver
	}
	m := &Manager{logger: logger, prober: opts.Prober, zone: opts.Zone}
	m.sets.Store(register.New[Set]())
	m.dns = names.New(logger, opts.Resolver, m.resolved)
	return m
}

// Close stops name resolution and the judging of endpoints. Sets keep their last
// endpoints.
func (m *Manager) Close() {
	m.dns.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for set := range m.sets.Load().All() {
		m.watch(set, nil)
	}
}

// Outliers returns the counters of outlier detection in all clusters.
func (m *Manager) Outliers() *outlier.Stats { return &m.outliers }

// Of returns the Set of a cluster of a snapshot, nil if that snapshot is no more; that of
// a nil Cluster is nil.
func (m *Manager) Of(c *snapshot.Cluster) *Set { return m.sets.Load().Of(c) }

// Set returns the Set of the cluster of a name, nil if there is none. Where snapshots
// have different ones, it is the first's.
func (m *Manager) Set(name string) *Set {
	if list := m.sets.Load().Named(name); len(list) > 0 {
		return list[0]
	}
	return nil
}

// Checks returns the counters of active health checks in all clusters.
func (m *Manager) Checks() *checkup.Stats { return &m.checks }

// touch prepares a set's choice anew because the health of its endpoints has
// changed. It does not wait: whoever noticed may be in the middle of a request.
func (m *Manager) touch(set *Set) {
	if set.stale.Swap(true) {
		return
	}
	go func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		set.stale.Store(false) // what changes from here on is for another one
		if st := set.state.Load(); st != nil && !m.closed {
			m.prepare(set, state{config: st.config, places: st.places, known: st.known})
		}
	}()
}

// prepare gives a set the choice among endpoints that is right at the moment. The
// caller locks.
func (m *Manager) prepare(set *Set, st state) {
	w := newWeights(st.config, st.places, time.Now())
	set.state.Store(st.prepare(w, m.zone))
	if w.config == nil || set.starting != nil {
		return
	}
	set.starting = time.AfterFunc(slowstart.Interval(w.config), func() {
		m.mu.Lock()
		set.starting = nil
		m.mu.Unlock()
		m.touch(set)
	})
}

// resolved rebuilds the sets that name a host whose addresses have changed.
func (m *Manager) resolved(name names.Name) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for set := range m.sets.Load().All() {
		if c := set.Config(); c != nil && names.All(c)[name] {
			m.rebuild(set, c)
		}
	}
}

// rebuild gives a set new endpoints. An address keeps its health, and what the
// snapshot has not changed its Endpoint. The caller locks.
func (m *Manager) rebuild(set *Set, c *snapshot.Cluster) {
	m.watch(set, c)
	known := make(map[netip.AddrPort]*Endpoint)
	add := func(list []*Endpoint, addr netip.AddrPort, info *snapshot.Endpoint) []*Endpoint {
		e := known[addr]
		if e == nil {
			e = set.known[addr]
		}
		e = set.watched(e, addr, info)
		known[addr] = e
		return append(list, e)
	}
	places := make([]place, 0, len(c.Localities))
	for _, l := range c.Localities {
		p := place{Locality: l}
		for _, info := range l.Endpoints {
			if info.Hostname == "" {
				p.endpoints = add(p.endpoints, info.Address, info)
				continue
			}
			for _, addr := range m.dns.Addresses(names.Of(c, info)) {
				p.endpoints = add(p.endpoints, netip.AddrPortFrom(addr, info.Port), info)
			}
		}
		places = append(places, p)
	}
	set.known = known
	set.forget()
	m.prepare(set, state{config: c, places: places, known: known})
}
