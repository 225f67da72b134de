package life

import (
	"errors"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/lane/outlet"
)

var errHeld = errors.New("something stays on its way to the consumer")

// gate is a lane as what is written into it needs it.
type gate struct{ *Lane }

var _ outlet.Gate = (*gate)(nil)

// Queued is part of outlet.Gate.
func (g *gate) Queued() (uint32, error) {
	state, err := g.node.Kernel.Ask(g.consumer.Conn, lane.AskState, 0)
	return state.Queued, err
}

// Pause is part of outlet.Gate. Behind the barrier every program sees the flag; what those
// before it have sent holds the consumer's socket until it is there.
func (g *gate) Pause() error {
	g.set(lane.Paused)
	if err := g.node.Barrier.Wait(); err != nil {
		return err
	}
	for end := time.Now().Add(quietLimit); time.Now().Before(end); time.Sleep(look) {
		state, err := g.node.Kernel.Ask(g.consumer.Conn, lane.AskState, 0)
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
