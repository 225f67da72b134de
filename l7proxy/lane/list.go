package lane

import (
	"cmp"
	"slices"
	"strings"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/lane"
)

// List tells of the lanes, by number.
func (ls *Lanes) List() []admin.LaneStatus {
	ls.node.Mu.Lock()
	defer ls.node.Mu.Unlock()
	all := make([]admin.LaneStatus, 0, len(ls.live))
	for l := range ls.live {
		all = append(all, l.Status())
	}
	slices.SortFunc(all, func(a, b admin.LaneStatus) int { return cmp.Compare(a.Lane, b.Lane) })
	return all
}

// Names lists what was learned, by consumer, destination, interface and method. Whose the
// consumer is, and counts, the caller fills in.
func (ls *Lanes) Names() []admin.LearnedName {
	ls.node.Mu.Lock()
	defer ls.node.Mu.Unlock()
	var all []admin.LearnedName
	if ls.node.Book == nil {
		return nil
	}
	for key, w := range ls.node.Book.Ways() {
		for n := range w.Names() {
			one := admin.LearnedName{
				Consumer: key.Workload, Destination: key.Original.String(), Interface: n.Path, Method: n.Method,
				Version: n.Version, Serialization: "hessian2", Way: admin.WayProxy, Reason: string(n.Verdict.Reason),
			}
			if n.Serialization == lane.Fastjson2 {
				one.Serialization = "fastjson2"
			}
			if n.Placed {
				one.Way, one.Reason = admin.WayLane, ""
				one.Route = n.Verdict.Shares[0].Ends[0].Edge.SameNode.Route
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
