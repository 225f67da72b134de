package listener

import (
	"slices"

	"github.com/dubway/dubway/l7proxy/downstream"
	"github.com/dubway/dubway/l7proxy/overload"
)

var _ overload.Tenant = (*pod)(nil)

// Name is namespace/name. Part of overload.Tenant.
func (p *pod) Name() string {
	w := p.workload.Load()
	return w.Namespace + "/" + w.Name
}

// Shed refuses the pod's requests, those too of which a part is here already, or takes
// them again. Part of overload.Tenant.
func (p *pod) Shed(on bool) {
	p.quota.Shed(on)
	if !on {
		return
	}
	for _, l := range p.set.of(p.workload.Load().UID) {
		l.Unload()
	}
}

// of returns the live connections of a workload.
func (s *Set) of(uid string) (all []downstream.Live) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l, whose := range s.live {
		if whose == uid {
			all = append(all, l)
		}
	}
	return all
}

// Heaviest returns the pod that holds most of the proxy and is not among those given;
// nil: there is none.
func (s *Set) Heaviest(but []overload.Tenant) overload.Tenant {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found *pod
	for _, p := range s.pods {
		if p.workload.Load() == nil || slices.Contains(but, overload.Tenant(p)) {
			continue
		}
		if found == nil || p.quota.Weight() > found.quota.Weight() {
			found = p
		}
	}
	if found == nil {
		return nil
	}
	return found
}
