package listener

import (
	"slices"

	"github.com/dubway/dubway/l7proxy/overload"
)

var _ overload.Tenant = (*pod)(nil)

// Name is namespace/name. Part of overload.Tenant.
func (p *pod) Name() string {
	w := p.workload.Load()
	return w.Namespace + "/" + w.Name
}

// Shed refuses the pod's requests, or takes them again. Part of overload.Tenant.
func (p *pod) Shed(on bool) { p.quota.Shed(on) }

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
