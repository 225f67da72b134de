package shelf

import (
	"slices"
	"strings"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// written returns virtual hosts that were asked for by a host in lower case, with the
// clusters of that host named as the route configuration of a listener writes it, HOST:PORT.
// istiod makes routes of a host without a VirtualService out of the name that it is asked by,
// and so names clusters that nobody has: its clusters, as its listeners, keep the capitals.
func written(hosts []*snapshot.VirtualHost, name string) []*snapshot.VirtualHost {
	host, _, _ := strings.Cut(name, ":")
	known := strings.ToLower(host)
	renamed := func(cluster string) string {
		if front, ok := strings.CutSuffix(cluster, "|"+known); ok {
			return front + "|" + host
		}
		return cluster
	}
	list := make([]*snapshot.VirtualHost, len(hosts))
	for i, v := range hosts {
		one := *v
		one.Routes = make([]*snapshot.Route, len(v.Routes))
		for k, r := range v.Routes {
			one.Routes[k] = leading(r, renamed)
		}
		list[i] = &one
	}
	return list
}

// leading returns a route to clusters of other names.
func leading(r *snapshot.Route, renamed func(string) string) *snapshot.Route {
	other := *r
	other.Action.Clusters = slices.Clone(r.Action.Clusters)
	for i := range other.Action.Clusters {
		other.Action.Clusters[i].Cluster = renamed(other.Action.Clusters[i].Cluster)
	}
	other.Action.Mirrors = slices.Clone(r.Action.Mirrors)
	for i := range other.Action.Mirrors {
		other.Action.Mirrors[i].Cluster = renamed(other.Action.Mirrors[i].Cluster)
	}
	return &other
}
