package cluster

import (
	"cmp"
	"slices"
	"strings"

	"github.com/dubway/dubway/l7proxy/cluster/names"
	"github.com/dubway/dubway/l7proxy/snapshot/words"
)

// Status is a cluster as operators see it.
type Status struct {
	Name      string           `json:"name"`
	Kind      string           `json:"kind"`
	Policy    string           `json:"policy"`
	Endpoints []EndpointStatus `json:"endpoints"`
	// Unresolved tells of names that do not resolve at present, and why.
	Unresolved []string `json:"unresolved,omitempty"`
}

// EndpointStatus is an endpoint as operators see it.
type EndpointStatus struct {
	Address  string `json:"address"`
	Hostname string `json:"hostname,omitempty"`
	Locality string `json:"locality,omitempty"` // region/zone/subzone
	Priority uint32 `json:"priority"`
	Weight   uint32 `json:"weight"`
	Healthy  bool   `json:"healthy"` // as the control plane says
	// Unfit says that it failed its active health checks, or has not passed one yet.
	Unfit bool `json:"unfit,omitempty"`
	// Failure is why its last check failed.
	Failure string `json:"failure,omitempty"`
	// Ejected says that outlier detection leaves it alone for a while.
	Ejected bool `json:"ejected,omitempty"`
	// Avoided says that the last connect failed and its back-off runs, or that
	// the provider said that it is about to stop.
	Avoided  bool  `json:"avoided"`
	Failures int   `json:"failures"` // connects, since the last success
	Active   int64 `json:"active"`   // requests in flight
}

// Status tells of all clusters, by name; of a name that several have, of each.
func (m *Manager) Status() []Status {
	list := []Status{}
	for set := range m.sets.Load().All() {
		if st := set.state.Load(); st != nil {
			list = append(list, m.status(set, st))
		}
	}
	slices.SortStableFunc(list, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (m *Manager) status(set *Set, st *state) Status {
	cs := Status{Name: set.name, Kind: words.Kind(st.config.Kind), Policy: words.Policy(st.config.Policy)}
	cs.Endpoints = make([]EndpointStatus, 0)
	for _, p := range st.places {
		for _, e := range p.endpoints {
			es := e.State()
			es.Priority, es.Locality = p.Priority, words.Locality(p.Locality)
			cs.Endpoints = append(cs.Endpoints, es)
		}
	}
	for _, e := range set.originals.All() {
		cs.Endpoints = append(cs.Endpoints, e.State())
	}
	for name := range names.All(st.config) {
		if err := m.dns.Failure(name); err != nil {
			cs.Unresolved = append(cs.Unresolved, name.Host+": "+err.Error())
		}
	}
	slices.Sort(cs.Unresolved)
	slices.SortStableFunc(cs.Endpoints, func(a, b EndpointStatus) int { return cmp.Compare(a.Priority, b.Priority) })
	return cs
}

// State tells how the endpoint is; without the place that it has in its cluster.
func (e *Endpoint) State() EndpointStatus {
	s := EndpointStatus{
		Address: e.Address.String(), Hostname: e.Info.Hostname, Weight: uint32(e.weight()),
		Healthy: e.Info.Healthy, Ejected: e.Ejected(), Avoided: e.Avoided(), Failures: e.Failures(), Active: e.Active(),
	}
	if e.check != nil {
		s.Unfit, s.Failure = !e.check.Fit(), e.check.Failure()
	}
	return s
}
