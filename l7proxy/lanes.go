package l7proxy

import (
	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/lane"
	"github.com/dubway/dubway/l7proxy/lane/observed"
)

// openLanes makes what gives consumers' connections their lanes. There are none yet.
func (p *Proxy) openLanes() {
	p.observer = new(observed.Observer)
	p.riders = lane.New(lane.Options{
		Dialer: p.dialer, Tally: p.tally, Tapped: p.tap.Bodies, MaxFrame: p.opts.MaxFrame, Logger: p.log,
	})
}

// names are what consumers of this node have called lately, and whether it takes the lane.
func (p *Proxy) names() []admin.LearnedName {
	all := p.riders.Names()
	if p.observer.On() {
		all = p.observer.Names()
	}
	for i := range all {
		if w := p.workloads.ByUID(all[i].Consumer); w != nil {
			all[i].Consumer = w.Namespace + "/" + w.Name
		}
	}
	return all
}
