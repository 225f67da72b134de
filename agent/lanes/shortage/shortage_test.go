package shortage

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/dubway/dubway/agent/datapath/lane"
)

// sockets are Sockets of which some leave each time.
type sockets struct {
	strain lane.Strain
	shut   []bool // what was said
	stay   int
	left   int // times
	woken  int // times
	err    error
}

func (s *sockets) Strain() (lane.Strain, error) { return s.strain, s.err }
func (s *sockets) Shut(shut bool) error         { s.shut = append(s.shut, shut); return nil }
func (s *sockets) Leave() (int, error)          { s.left++; return s.stay, nil }
func (s *sockets) Wake() error                  { s.woken++; return nil }

// TestLook: a shortage begins above the second number and ends below the first; while it
// lasts sockets leave, and none joins.
func TestLook(t *testing.T) {
	of := &sockets{}
	s := &Shortage{Log: slog.New(slog.DiscardHandler), Everywhere: func(what func() error) error { return what() }}
	for i, step := range []struct {
		strain lane.Strain
		on     bool
		shut   int // times that it was said
		left   int
		woken  int
	}{
		{lane.StrainNone, false, 1, 0, 0}, // an agent before us may have shut it
		{lane.StrainSome, false, 1, 0, 0},
		{lane.StrainMuch, true, 2, 1, 1},
		{lane.StrainSome, true, 2, 2, 2},
		{lane.StrainMuch, true, 2, 3, 3},
		{lane.StrainNone, false, 3, 3, 4}, // who waited when it ended
		{lane.StrainSome, false, 3, 3, 4},
	} {
		of.strain = step.strain
		if on := s.Look(of); on != step.on || len(of.shut) != step.shut || of.left != step.left || of.woken != step.woken {
			t.Errorf("step %d: shortage %t, said %v, left %d times, woken %d times; want %+v", i, on, of.shut, of.left, of.woken, step)
		}
	}
	if of.shut[0] || !of.shut[1] || of.shut[2] {
		t.Errorf("it was shut: %v", of.shut)
	}
	of.strain, of.err = lane.StrainMuch, errors.New("no such program")
	if s.Look(of) {
		t.Error("a shortage of which nothing is known")
	}
}
