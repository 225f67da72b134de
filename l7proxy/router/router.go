// Package router finds the route of a request in a snapshot: virtual host,
// route and weighted cluster, by Envoy's rules applied to Dubbo's attributes.
// It chooses no endpoint and changes nothing.
//
// A rule sees a request as these attributes: "interface", "method", "version",
// ":path" (which is /<interface>/<method>) and ":authority" (the dialled
// "ip:port"). Every other name, "group" too, is an attachment. A condition may
// also be on an argument, and on an attachment whatever its spelling; for these
// and for attachments the request's body is read, only when a rule asks. An
// attribute that is empty is missing, as a header can be in Envoy; an attachment
// may be there and empty. A generic call has the method that it names, and that
// method's arguments.
//
// A consumer that dialled a provider has chosen already: Pinned, ByCaller and
// Rightful say what that is worth (docs/xds.md, "Who chooses the endpoint").
//
// Match is on the path of every request: it allocates nothing. Explain is the
// same decision in slow motion, made by the same functions.
package router

import (
	"math/bits"
	"math/rand/v2"
	"strings"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Match returns the route of a request, nil if there is none. The random number
// decides about routes that take a fraction of the requests.
//
// A request that cannot be decoded takes a default route: one whose path
// matches everything and which has no condition on anything but ":authority",
// and on there being an interface and a method.
//
// One request has one random number, so a route with a smaller fraction takes
// some of those that a later one with a larger fraction would have taken.
func Match(rc *snapshot.RouteConfig, req *rpc.Request, random uint64) *snapshot.Route {
	vh := virtualHost(rc, req)
	if vh == nil {
		return nil
	}
	m := newMatcher(req)
	for _, r := range vh.Routes {
		if snapshot.Hit(r.Match.Fraction, random) && m.check(&r.Match) == matches {
			return r
		}
	}
	return nil
}

// Cluster chooses one of the clusters of a as random says.
func Cluster(a *snapshot.Action, random uint64) snapshot.WeightedCluster {
	if len(a.Clusters) == 1 {
		return a.Clusters[0]
	}
	place, _ := bits.Mul64(random, a.Total)
	for i := range a.Clusters {
		w := uint64(a.Clusters[i].Weight)
		if place < w {
			return a.Clusters[i]
		}
		place -= w
	}
	return a.Clusters[len(a.Clusters)-1] // not reached: the weights sum to Total
}

// Led is the target of a request that somebody has drawn already, by its number from 1 on; 0:
// Cluster draws.
func Led(a *snapshot.Action, number int, random *rand.Rand) snapshot.WeightedCluster {
	if 0 < number && number <= len(a.Clusters) {
		return a.Clusters[number-1]
	}
	return Cluster(a, random.Uint64())
}

// million is the unit of Match.Fraction.
const million = snapshot.Million

// virtualHost chooses the virtual host by what the consumer dialled, "ip:port"
// and the address alone, and by the called interface.
func virtualHost(rc *snapshot.RouteConfig, req *rpc.Request) *snapshot.VirtualHost {
	host := req.Authority
	if i := strings.LastIndexByte(host, ':'); i > 0 {
		host = host[:i]
	}
	whole := req.Authority
	if rc.IgnorePort {
		whole = ""
	}
	// Istio writes IPv6 domains with and without brackets.
	bare := ""
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		bare = host[1 : len(host)-1]
	}
	return rc.VirtualHost(whole, host, bare, req.Interface)
}
