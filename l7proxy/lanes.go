package l7proxy

import (
	"github.com/dubway/dubway/l7proxy/lane"
	"github.com/dubway/dubway/l7proxy/lane/keeper"
)

// openLanes makes what gives consumers' connections their lanes. There are none yet.
func (p *Proxy) openLanes() {
	maps := func() uint64 { return p.lanes.Said().Maps }
	p.riders = lane.New(lane.Options{
		Dialer: p.dialer, Tally: p.tally, Tapped: p.tap.Bodies, MaxFrame: p.opts.MaxFrame, Logger: p.log,
		Keeper: keeper.New(p.agent, maps, p.workloads),
	})
}
