package l7proxy

import (
	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/cluster"
)

// clusterList tells of all clusters and their endpoints.
func clusterList(m *cluster.Manager) admin.ClusterList {
	list := admin.ClusterList{APIVersion: admin.APIVersion, Items: []admin.ClusterStatus{}}
	for _, c := range m.Status() {
		s := admin.ClusterStatus{
			Name: c.Name, Kind: c.Kind, Policy: c.Policy, Endpoints: []admin.EndpointStatus{}, Unresolved: c.Unresolved,
		}
		for _, e := range c.Endpoints {
			s.Endpoints = append(s.Endpoints, admin.EndpointStatus(e))
		}
		list.Items = append(list.Items, s)
	}
	return list
}
