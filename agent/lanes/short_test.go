package lanes

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dubway/dubway/agent/datapath/lane"
	"github.com/dubway/dubway/agent/lanes/shortage"
	"github.com/dubway/dubway/internal/handoff"
)

// strained are programs on a host whose memory for TCP a test says.
type strained struct {
	*programs

	strain atomic.Uint32
	shut   atomic.Bool
	left   atomic.Int64
}

var _ shortage.Sockets = (*strained)(nil)

func (s *strained) Strain() (lane.Strain, error) { return lane.Strain(s.strain.Load()), nil }
func (s *strained) Shut(shut bool) error         { s.shut.Store(shut); return nil }
func (s *strained) Leave() (int, error)          { s.left.Add(1); return 0, nil }
func (s *strained) Wake() error                  { return nil }

// TestShortage: while the host has no memory for TCP there are no lanes, whatever was chosen,
// and an operator is told; afterwards there are again.
func TestShortage(t *testing.T) {
	n := newNode(t, Auto, nil)
	p := &strained{programs: n.programs}
	n.opts.Open = func() (Programs, error) { return p, nil }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx, time.Hour) }()
	defer func() { cancel(); <-done }()
	is := func(mode handoff.LaneMode) func() bool { return func() bool { return n.Status().Mode == string(mode) } }
	n.eventually("it is on", is(handoff.LaneOn))
	p.strain.Store(uint32(lane.StrainMuch))
	n.eventually("it is off", is(handoff.LaneOff))
	n.want(handoff.LaneOff, "tcp_mem")
	if !p.shut.Load() || p.left.Load() == 0 || !strings.Contains(n.Problem(), "tcp_mem") {
		t.Errorf("shut %t, sockets left %d times, problem %q", p.shut.Load(), p.left.Load(), n.Problem())
	}
	p.strain.Store(uint32(lane.StrainNone))
	n.eventually("it is on again", is(handoff.LaneOn))
	n.want(handoff.LaneOn, "")
	if p.shut.Load() || n.Problem() != "" {
		t.Errorf("with memory again: shut %t, problem %q", p.shut.Load(), n.Problem())
	}
}
