// Package zone shares requests among the zones of a cluster so that they stay in the
// proxy's own as far as its share of the endpoints allows: the arithmetic of Envoy's
// zone aware routing. It knows no endpoint.
package zone

import (
	"fmt"
	"strings"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Zone is where the proxy is: region, zone and subzone, or the first ones of them. Nil
// is nowhere.
type Zone []string

// Parse reads "region/zone/subzone", of which the last parts may be missing.
func Parse(text string) (Zone, error) {
	if text == "" {
		return nil, nil
	}
	parts := strings.Split(text, "/")
	for _, p := range parts {
		if p == "" || len(parts) > 3 {
			return nil, fmt.Errorf("read locality: %q is not region/zone/subzone", text)
		}
	}
	return parts, nil
}

// Name names the zone.
func (z Zone) Name() string { return strings.Join(z, "/") }

// Of names the zone of a locality as finely as z is named.
func (z Zone) Of(l *snapshot.Locality) string {
	return strings.Join([]string{l.Region, l.Zone, l.SubZone}[:len(z)], "/")
}

// Share returns what each zone gets of the requests, the own one among them, by their
// numbers of endpoints: all stay if the own zone has its share of the endpoints or more;
// otherwise as many as its share allows, and the rest goes to the zones that have more
// than theirs, by what they have more. Envoy asks a cluster of all callers how they are
// spread over the zones; the proxy of a node, which works for many, takes them to be
// spread evenly.
func Share(endpoints []int, own int) []float64 {
	var all int
	for _, n := range endpoints {
		all += n
	}
	share := 1 / float64(len(endpoints))
	spare := func(i int) float64 { return max(float64(endpoints[i])/float64(all)-share, 0) }
	stay := min(float64(endpoints[own])/float64(all)/share, 1)
	var sum float64
	for i := range endpoints {
		sum += spare(i)
	}
	parts := make([]float64, len(endpoints))
	for i := range parts {
		if i != own && stay < 1 { // then somebody has more than a share
			parts[i] = (1 - stay) * spare(i) / sum
		}
	}
	parts[own] = stay
	return parts
}
