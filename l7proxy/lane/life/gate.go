package life

import (
	"errors"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/lane/outlet"
	"github.com/dubway/dubway/l7proxy/lane/tally"
)

var errHeld = errors.New("something stays on its way to the consumer")

// gate is a lane as what is written into it needs it.
type gate struct{ *Lane }

var _ outlet.Gate = (*gate)(nil)

// divert has what is written to the consumer go into the lane.
func (l *Lane) divert() {
	c := &l.consumer
	c.Conn.Divert(outlet.New(c.Conn.TCP(), c.Protocol.Frames, &gate{l}))
}

// Look is part of outlet.Gate.
func (g *gate) Look() (lane.State, error) {
	return g.node.Kernel.Ask(g.consumer.Conn, lane.AskState, 0)
}

// Pause is part of outlet.Gate. Behind the barrier every program sees the flag; what those
// before it have sent holds the consumer's socket until it is there.
func (g *gate) Pause() error {
	g.set(lane.Paused)
	if err := g.node.Barrier.Wait(); err != nil {
		return err
	}
	for end := time.Now().Add(quietLimit); time.Now().Before(end); time.Sleep(look) {
		state, err := g.Look()
		if err != nil {
			return err
		}
		if state.Holders == 0 {
			return nil
		}
	}
	return errHeld
}

// Resume is part of outlet.Gate.
func (g *gate) Resume() { g.clear(lane.Paused) }

// Leave is part of outlet.Gate.
func (g *gate) Leave() {
	g.clear(lane.Answers)
	g.Lane.Leave(tally.Memory)
}
