package l7proxy

import (
	"github.com/dubway/dubway/internal/admin"
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

// names are what consumers of this node have called lately, and whether it takes the lane.
func (p *Proxy) names() []admin.LearnedName {
	p.tally.Collect()
	all := p.riders.Names(p.recorder.Ways)
	for i := range all {
		if w := p.workloads.ByUID(all[i].Consumer); w != nil {
			all[i].Consumer = w.Namespace + "/" + w.Name
		}
	}
	return all
}
