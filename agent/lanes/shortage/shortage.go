// Package shortage takes lanes back while the host has little memory for TCP. Beyond the
// third number of net.ipv4.tcp_mem a socket that lanes may use cannot send at all, where one
// that is TCP's alone can (bpf/lane_leave.h). So beyond the second number, which is what the
// kernel itself calls pressure, there are no lanes, and what is in none leaves their maps;
// below the first one there are lanes again, for connections that are made from then on. It
// ends no lane: package lanes has the proxy do that.
package shortage

import (
	"errors"
	"log/slog"
	"time"

	"github.com/dubway/dubway/agent/datapath/lane"
)

// Every is how often it is to be looked.
const Every = 500 * time.Millisecond

// Why says it in words.
const Why = "the host's TCP has used more than the second number of net.ipv4.tcp_mem: find who holds it (ss -tm), or raise the numbers"

// Sockets are those that lanes may use; package datapath/lane has them.
type Sockets interface {
	Strain() (lane.Strain, error)
	Shut(shut bool) error
	Leave() (stay int, err error)
	Wake() error // in the network namespace of the thread
}

var _ Sockets = (*lane.Lane)(nil)

// Shortage is the watch over one node's memory. One goroutine uses it. The zero value begins
// without a shortage.
type Shortage struct {
	Log *slog.Logger
	// Everywhere does something in the network namespace of each pod.
	Everywhere func(what func() error) error

	on, open bool  // open: it was said once that all may join
	stay     int   // that have not left yet
	failed   error // the last time
}

// Look looks, does what is to be done, and tells whether there is a shortage.
func (s *Shortage) Look(of Sockets) bool {
	err := s.look(of)
	if err != nil && (s.failed == nil || s.failed.Error() != err.Error()) {
		s.Log.Error("look whether TCP has memory", "error", err)
	}
	s.failed = err
	return s.on
}

func (s *Shortage) look(of Sockets) error {
	strain, err := of.Strain()
	if err != nil {
		return err
	}
	if on := strain == lane.StrainMuch || s.on && strain != lane.StrainNone; on != s.on || !s.open {
		if err := of.Shut(on); err != nil { // also what an agent before us shut
			return err
		}
		s.open = true
		if on != s.on {
			s.on, s.stay = on, -1
			s.Log.Warn("memory of the host's TCP", "short", on)
			if !on {
				return s.Everywhere(of.Wake)
			}
		}
	}
	if !s.on {
		return nil
	}
	stay, err := of.Leave()
	err = errors.Join(err, s.Everywhere(of.Wake))
	if err == nil && stay != s.stay {
		s.stay = stay
		s.Log.Info("sockets have left lanes' maps, as memory is short", "stay", stay)
	}
	return err
}
