package l7proxy

import (
	"fmt"
	"net/netip"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/router"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// routesOf lists the routes of views, one view after the other.
func routesOf(views []snapshot.View, generation uint64) admin.RouteList {
	list := admin.RouteList{APIVersion: admin.APIVersion, Generation: generation, Items: []admin.RouteStatus{}}
	for _, v := range views {
		for _, r := range Routes(v.Snapshot).Items {
			r.View = v.Key
			list.Items = append(list.Items, r)
		}
	}
	return list
}

// Routes lists every route of a snapshot in the order in which they are tried.
func Routes(s *snapshot.Snapshot) admin.RouteList {
	list := admin.RouteList{APIVersion: admin.APIVersion, Generation: s.Generation, Items: []admin.RouteStatus{}}
	for _, l := range s.Listeners {
		if l.Route != nil {
			for _, v := range l.Route.VirtualHosts {
				for _, r := range v.Routes {
					list.Items = append(list.Items, admin.RouteStatus{
						Listener: l.Name, Address: covers(l), RouteConfig: l.RouteName, VirtualHost: v.Name,
						Domains: v.Domains, Name: r.Name, Match: router.Describe(&r.Match),
						Clusters: targets(s, r.Action.Clusters), Origin: r.Origin, Path: "proxy",
					})
				}
			}
		}
		if l.RouteName == "" || len(l.TCP) > 0 {
			list.Items = append(list.Items, admin.RouteStatus{
				Listener: l.Name, Address: covers(l), Match: "opaque", Clusters: targets(s, l.TCP), Path: "tcp",
			})
		}
	}
	return list
}

func targets(s *snapshot.Snapshot, clusters []snapshot.WeightedCluster) []admin.RouteTarget {
	list := []admin.RouteTarget{}
	for _, w := range clusters {
		t := admin.RouteTarget{Cluster: w.Cluster, Weight: w.Weight, Subset: w.Subset}
		if c := s.Clusters[w.Cluster]; c != nil {
			t.Known = true
			for _, l := range c.Localities {
				t.Endpoints += len(l.Endpoints)
				for _, e := range l.Endpoints {
					if e.Healthy {
						t.Healthy++
					}
				}
			}
		}
		list = append(list, t)
	}
	return list
}

// covers is what a listener is for: "10.0.0.1:20880", "10.0.0.0/8:*".
func covers(l *snapshot.Listener) string {
	port := "*"
	if l.Port != 0 {
		port = fmt.Sprint(l.Port)
	}
	if l.Prefix.IsSingleIP() {
		if l.Port != 0 {
			return netip.AddrPortFrom(l.Prefix.Addr(), l.Port).String()
		}
		return l.Prefix.Addr().String() + ":*"
	}
	return l.Prefix.String() + ":" + port
}
