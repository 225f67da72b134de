package learned

import (
	"cmp"
	"slices"
	"strings"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// route is that of a name that is placed.
func (n *Name) route() string {
	for _, e := range n.Edges {
		if e != nil {
			return e.SameNode.Route
		}
	}
	return ""
}

// Ways tells how many requests that were recorded by some calls took the lane, and how many others
// there were.
type Ways func(calls ...*rpc.Call) (lane, proxy uint64)

// List lists the names, by consumer, destination, interface and method. Whose the consumer is the
// caller fills in.
func (b *Book) List(count Ways) []admin.LearnedName {
	var all []admin.LearnedName
	for key, w := range b.ways {
		for n := range w.Names() {
			one := admin.LearnedName{
				Consumer: key.Workload, Destination: key.Original.String(), Interface: n.Path, Method: n.Method,
				Version: n.Version, Serialization: "hessian2", Way: admin.WayProxy, Reason: string(n.Verdict.Reason),
			}
			if n.Serialization == lane.Fastjson2 {
				one.Serialization = "fastjson2"
			}
			one.InLane, one.ByProxy = count(n.Verdict.Calls...)
			if n.Placed {
				one.Way, one.Reason = admin.WayLane, ""
				one.Route = n.route()
			}
			all = append(all, one)
		}
	}
	slices.SortFunc(all, func(a, b admin.LearnedName) int {
		return cmp.Or(strings.Compare(a.Consumer, b.Consumer), strings.Compare(a.Destination, b.Destination),
			strings.Compare(a.Interface, b.Interface), strings.Compare(a.Method, b.Method),
			strings.Compare(a.Serialization, b.Serialization))
	})
	return all
}
