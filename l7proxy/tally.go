package l7proxy

import (
	"net/http"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/lane/lent"
)

var _ lent.User = laneUser{}

// laneUser gives the memory of lanes to those who use it.
type laneUser struct{ proxy *Proxy }

// Use is part of lent.User. Whoever counts has the memory before calls can take it, and
// when none takes the one before any more.
func (u laneUser) Use(m *lane.Memory, mode handoff.LaneMode) {
	if !u.proxy.riders.Uses(m) {
		u.proxy.riders.Use(m, handoff.LaneOff)
		u.proxy.tally.Use(m)
	}
	u.proxy.riders.Use(m, mode)
}

// laneList tells of the lanes.
func (p *Proxy) laneList() admin.LaneList {
	p.tally.Collect()
	list := admin.LaneList{
		APIVersion: admin.APIVersion, Mode: admin.LaneOff, Reason: "the agent has not said yet whether there are any",
		Calls: p.tally.Totals().Calls, Items: p.riders.List(),
	}
	if said := p.lanes.Said(); said.Mode != "" {
		list.Mode, list.Reason = string(said.Mode), said.Why
	}
	return list
}

// counted answers when every call of the lane that has ended is counted.
func (p *Proxy) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.tally.Collect()
		h.ServeHTTP(w, r)
	})
}
