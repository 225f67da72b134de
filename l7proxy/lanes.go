package l7proxy

import "github.com/dubway/dubway/l7proxy/lane"

// openLanes makes what gives consumers' connections their lanes. There are none yet.
func (p *Proxy) openLanes() {
	p.riders = lane.New(lane.Options{
		Dialer: p.dialer, Tally: p.tally, Tapped: p.tap.Bodies, MaxFrame: p.opts.MaxFrame, Logger: p.log,
	})
}
