package cluster

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/l7proxy/cluster/checkup"
	"github.com/dubway/dubway/l7proxy/cluster/original"
	"github.com/dubway/dubway/l7proxy/cluster/outlier"
	"github.com/dubway/dubway/l7proxy/cluster/zone"
	"github.com/dubway/dubway/l7proxy/retry"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Set is the endpoints of one cluster. It follows the Manager's updates until
// the cluster is removed; a cluster of the same name that comes later is another
// Set. Safe for concurrent use.
type Set struct {
	name string
	// state is nil when the cluster is gone.
	state     atomic.Pointer[state]
	originals original.Book[Endpoint]
	stale     atomic.Bool // is about to be prepared anew
	retries   retry.Budget

	// The Manager's lock guards what follows.
	known    map[netip.AddrPort]*Endpoint // by address
	detector *outlier.Detector            // nil: none is configured
	checker  *checkup.Checker             // the same
	starting *time.Timer                  // while endpoints start slowly
}

// state is what updates replace as a whole.
type state struct {
	config  *snapshot.Cluster
	places  []place
	known   map[netip.AddrPort]*Endpoint
	table   *table
	subsets *subsets // nil: metadata is not honoured
	starts  bool     // an endpoint starts slowly
}

// Name is the cluster's name.
func (s *Set) Name() string { return s.name }

// Config returns the cluster as the snapshot has it, nil once it is removed.
func (s *Set) Config() *snapshot.Cluster {
	if st := s.state.Load(); st != nil {
		return st.config
	}
	return nil
}

// Pick chooses an endpoint. The errors are ErrNoCluster and ErrNoEndpoint.
func (s *Set) Pick(c Choice) (*Endpoint, error) {
	st := s.state.Load()
	if st == nil {
		return nil, ErrNoCluster
	}
	var e *Endpoint
	if st.dials(&c) {
		e = s.original(&c)
	} else if t := st.choose(c.Subset); t != nil {
		e = t.pick(&c)
	}
	if e == nil {
		return nil, ErrNoEndpoint
	}
	return e, nil
}

// At returns the endpoint at an address if a request may be sent to it because
// its consumer chose it: it is healthy, is not avoided, and carries the route's
// metadata. Of an ORIGINAL_DST cluster without known endpoints every address is. Nil if
// it may not.
func (s *Set) At(addr netip.AddrPort, subset snapshot.Metadata) *Endpoint {
	st := s.state.Load()
	if st == nil {
		return nil
	}
	if st.dials(&Choice{Original: addr, Own: true}) {
		return s.original(&Choice{Original: addr})
	}
	e := st.known[addr]
	if e == nil || !e.Fit() || e.Avoided() || st.subsets != nil && !carries(e.Info, subset) {
		return nil
	}
	return e
}

// Avoids tells whether the endpoint at addr is chosen only where no other is left, for a
// moment.
func (s *Set) Avoids(addr netip.AddrPort) bool {
	st := s.state.Load()
	return st != nil && st.known[addr] != nil && st.known[addr].Avoided()
}

// Retry begins a retry of a request to the cluster; nil if there are as many in flight
// as may be.
func (s *Set) Retry() *retry.Token {
	st := s.state.Load()
	if st == nil || st.config.Retries.None {
		return nil
	}
	return s.retries.Take(retry.Limit(st.config.Retries, func() (active int64) {
		for _, e := range st.known {
			active += e.Active()
		}
		return active
	}))
}

// RetriesActive is the number of retries in flight.
func (s *Set) RetriesActive() int64 { return s.retries.Active() }

// Has tells whether the cluster has an endpoint at addr, whatever its state.
func (s *Set) Has(addr netip.AddrPort) bool {
	st := s.state.Load()
	return st != nil && st.known[addr] != nil
}

// Others tells whether the cluster has an endpoint beside the one at addr.
func (s *Set) Others(addr netip.AddrPort) bool {
	st := s.state.Load()
	if st == nil || st.config.Kind == snapshot.ClusterOriginalDst && st.known[addr] == nil {
		return false // a service's address, which stands for all of them
	}
	return len(st.known) > 1 || len(st.known) == 1 && st.known[addr] == nil
}

// dials tells whether what was dialled is the endpoint.
func (st *state) dials(c *Choice) bool {
	if st.config.Kind != snapshot.ClusterOriginalDst {
		return false
	}
	return len(st.known) == 0 || !c.Own && c.Original.IsValid()
}

func (st *state) choose(subset snapshot.Metadata) *table {
	if st.subsets != nil {
		return st.subsets.table(subset)
	}
	return st.table
}

// prepare makes the choice among st.places, for a proxy that is somewhere.
func (st *state) prepare(w weights, where zone.Zone) *state {
	r := newRecipe(st.config, w)
	st.starts = w.config != nil
	if st.config.Subsets != nil {
		st.subsets = newSubsets(r, st.places)
	} else {
		r.weighted, r.zone = st.config.LocalityWeighted, where
		st.table = newTable(r, st.places)
	}
	return st
}
