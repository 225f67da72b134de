package xds

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/dubway/dubway/l7proxy/xds/shelf"
)

// Served returns the names of tables that listeners refer to and that another server has
// than the one that sends the listeners, by that server's cluster, sorted. The map is the
// caller's.
func (s *Store) Served() map[string][]string {
	s.taking.Lock()
	defer s.taking.Unlock()
	all := make(map[string][]string)
	for one := range s.next.Served.All() {
		cluster, name, _ := strings.Cut(one, " ")
		all[cluster] = append(all[cluster], name)
	}
	for _, names := range all {
		slices.Sort(names)
	}
	return all
}

// Address returns the first endpoint of a cluster that was taken, healthy if one is, as
// HOST:PORT; "" if there is none.
func (s *Store) Address(cluster string) (address string) {
	s.taking.Lock()
	defer s.taking.Unlock()
	e := s.next.Entries[shelf.ClusterKind].Value(cluster)
	if e == nil {
		return ""
	}
	localities := e.Cluster.Localities
	if given := s.next.Entries[shelf.EndpointKind].Value(e.Assignment); e.Assignment != "" && given != nil {
		localities = given.Endpoints.Localities
	}
	for _, l := range localities {
		for _, one := range l.Endpoints {
			at := one.Address.String()
			if one.Hostname != "" {
				at = net.JoinHostPort(one.Hostname, fmt.Sprint(one.Port))
			}
			if one.Healthy {
				return at
			}
			if address == "" {
				address = at
			}
		}
	}
	return address
}
