package shelf

import (
	"fmt"
	"net/netip"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/convert"
	"github.com/dubway/dubway/l7proxy/xds/files"
	"github.com/dubway/dubway/l7proxy/xds/listeners"
	"github.com/dubway/dubway/l7proxy/xds/metaprotocol"
	"github.com/dubway/dubway/l7proxy/xds/problems"
	"github.com/dubway/dubway/l7proxy/xds/routes"
)

// Entry is what one resource means, or all that is wrong with it. Immutable; without
// problems one of Listeners, Inbounds, Unknown, Route, Cluster and Endpoints is set.
type Entry struct {
	Kind, Name string
	Sum        files.Sum
	Problems   problems.List

	Listeners  []*snapshot.Listener
	Inbounds   []*snapshot.Inbound // of a listener too
	Unknown    *snapshot.Unknown   // the same
	Route      *snapshot.RouteConfig
	Cluster    *snapshot.Cluster
	Assignment string // of Cluster: the Assignment to join, or ""
	Endpoints  *convert.Assignment

	pod  netip.Addr // of a listener that says something of the pod that it was sent to
	body string     // what it was sent as, packed
}

// Own tells whether the entry says something of the pod that it was sent to.
func (e *Entry) Own() bool { return e.pod.IsValid() }

// opened opens a resource that has no problem so far, and converts it. What it
// says of the pod that it was sent to holds for pod.
func opened(r files.Resource, pod netip.Addr) *Entry {
	e := &Entry{Kind: r.Kind, Name: r.Name, Sum: r.Sum}
	if r.Open(); len(r.Problems) > 0 {
		e.Problems = r.Problems
		return e
	}
	m, isListener := r.Message.(*listenerv3.Listener)
	if isListener && pod.IsValid() && m.GetTrafficDirection() == corev3.TrafficDirection_INBOUND {
		listeners.Locate(m, pod)
		e.pod = pod
	}
	e.Problems = e.set(r.Message)
	return e
}

// set sets what a message means.
func (e *Entry) set(m proto.Message) (p problems.List) {
	switch m := m.(type) {
	case *listenerv3.Listener:
		switch {
		case m.GetTrafficDirection() == corev3.TrafficDirection_INBOUND:
			e.Inbounds, p = listeners.Inbound(m)
		case listeners.CatchesAll(m):
			e.Unknown = new(snapshot.Unknown)
			*e.Unknown, p = listeners.Unknown(m)
		default:
			e.Listeners, p = listeners.Outbound(m)
		}
	case *routev3.RouteConfiguration:
		e.Route, p = routes.RouteConfiguration(m)
	case *metaprotocol.RouteConfiguration:
		e.Route, p = routes.MetaRouteConfiguration(m)
	case *clusterv3.Cluster:
		e.Cluster, e.Assignment, p = convert.Cluster(m)
	case *endpointv3.ClusterLoadAssignment:
		e.Endpoints, p = convert.ClusterLoadAssignment(m)
	default:
		p.Addf("@type", "%s", fmt.Sprintf("%T: not a resource that is implemented", m))
	}
	if len(p) > 0 {
		return p
	}
	if e.Route != nil {
		e.Route.Settle() // before it has an alias
	}
	for _, l := range e.Listeners {
		if l.Route != nil {
			l.Route.Settle()
		}
	}
	e.oneName()
	return nil
}

// oneName has the name of the resource in memory once.
func (e *Entry) oneName() {
	same := func(name *string) {
		if *name == e.Name {
			*name = e.Name
		}
	}
	same(&e.Assignment)
	if e.Cluster != nil {
		same(&e.Cluster.Name)
	}
	if e.Endpoints != nil {
		same(&e.Endpoints.Name)
	}
	if e.Route != nil {
		same(&e.Route.Name)
	}
	for _, l := range e.Listeners {
		same(&l.Name)
	}
}
