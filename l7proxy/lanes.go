package l7proxy

import (
	"github.com/dubway/dubway/internal/handoff"
	lanes "github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/lane"
	"github.com/dubway/dubway/l7proxy/lane/lent"
	"github.com/dubway/dubway/l7proxy/lane/tally"
)

// laneUser makes and counts lanes in the memory that the agent lends.
type laneUser struct {
	lanes *lane.Lanes
	tally *tally.Table
	now   *lanes.Memory
}

var _ lent.User = (*laneUser)(nil)

// openLanes makes what gives consumers' connections their lanes. There are none yet.
func (p *Proxy) openLanes() {
	p.tallies = tally.New(tally.DefaultLimit)
	p.riders = lane.New(lane.Options{
		Dialer: p.dialer, Tally: p.tallies, Tapped: p.tap.Bodies, MaxFrame: p.opts.MaxFrame, Logger: p.log,
	})
	p.lanes = lent.New(&laneUser{lanes: p.riders, tally: p.tallies}, p.log)
}

// Use is part of lent.User. What was counted in the memory before is added up before
// anything is counted in another.
func (u *laneUser) Use(m *lanes.Memory, mode handoff.LaneMode) {
	if m == u.now {
		u.lanes.Use(m, mode)
		return
	}
	u.now = m
	u.lanes.Use(m, handoff.LaneOff)
	u.tally.Use(m)
	u.lanes.Use(m, mode)
}
