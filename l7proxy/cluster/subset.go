package cluster

import (
	"slices"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// subsets finds the endpoints that carry a route's metadata (lb_subset_config).
type subsets struct {
	selectors []selector
	fallback  *table // nil: a request without a subset of its own has no endpoint
}

// selector is the subsets that one set of keys makes, by their values.
type selector struct {
	keys   []string
	tables map[string]*table
}

func newSubsets(r recipe, places []place) *subsets {
	s, c := &subsets{}, r.config
	for _, keys := range c.Subsets.Selectors {
		sel := selector{keys: keys, tables: make(map[string]*table)}
		for id, part := range split(places, keys) {
			sel.tables[id] = newTable(r, part)
		}
		s.selectors = append(s.selectors, sel)
	}
	switch c.Subsets.Fallback {
	case snapshot.FallbackAny:
		s.fallback = newTable(r, places)
	case snapshot.FallbackDefault:
		s.fallback = newTable(r, filter(places, c.Subsets.Default))
	case snapshot.FallbackNone:
	}
	return s
}

// split sorts the endpoints that have all keys into subsets by their values.
func split(places []place, keys []string) map[string][]place {
	parts := make(map[string][]place)
	for _, p := range places {
		groups := make(map[string][]*Endpoint)
		for _, e := range p.endpoints {
			if id, ok := identify(nil, keys, e.Info.Metadata); ok {
				groups[string(id)] = append(groups[string(id)], e)
			}
		}
		for id, endpoints := range groups {
			parts[id] = append(parts[id], place{p.Locality, endpoints})
		}
	}
	return parts
}

// table returns the endpoints for a route's metadata: the subset of the selector
// with exactly its keys, else the fallback, nil if that is none.
func (s *subsets) table(want snapshot.Metadata) *table {
	if len(want) == 0 {
		return s.fallback
	}
	var stack [256]byte
	for i := range s.selectors {
		sel := &s.selectors[i]
		if len(sel.keys) != len(want) {
			continue
		}
		if id, ok := identify(stack[:0], sel.keys, want); ok {
			if t := sel.tables[string(id)]; t != nil {
				return t
			}
		}
	}
	return s.fallback
}

// identify appends the values of keys to b; false if one is missing.
func identify(b []byte, keys []string, m snapshot.Metadata) ([]byte, bool) {
	for _, k := range keys {
		v, ok := m[k]
		if !ok {
			return b, false
		}
		b = append(append(b, v...), 0) // JSON has no zero byte
	}
	return b, true
}

// filter keeps the endpoints that carry all of want.
func filter(places []place, want snapshot.Metadata) []place {
	kept := make([]place, 0, len(places))
	for _, p := range places {
		p.endpoints = slices.DeleteFunc(slices.Clone(p.endpoints), func(e *Endpoint) bool {
			return !carries(e.Info, want)
		})
		if len(p.endpoints) > 0 {
			kept = append(kept, p)
		}
	}
	return kept
}

func carries(e *snapshot.Endpoint, want snapshot.Metadata) bool {
	for k, v := range want {
		if has, ok := e.Metadata[k]; !ok || has != v {
			return false
		}
	}
	return true
}
