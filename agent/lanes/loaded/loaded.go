// Package loaded joins the programs that steer and those of the lanes: the latter are loaded
// beside the former, of which they need the sockets, and a status tells of both.
package loaded

import (
	"errors"
	"log/slog"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/datapath/lane"
	"github.com/dubway/dubway/agent/lanes"
)

// Datapath is a datapath and the lanes' programs beside it, once there are any.
type Datapath struct {
	*datapath.Datapath

	PinPath, Cgroup string
	Log             *slog.Logger
	Programs        func() lanes.Programs // nil for none
}

// Open loads the lanes' programs, or adopts those that are pinned.
func (d *Datapath) Open() (lanes.Programs, error) {
	programs, err := lane.Open(lane.Options{PinPath: d.PinPath, Cgroup: d.Cgroup, Sockets: d.Sockets(), Logger: d.Log})
	if err != nil { // no interface of a nil pointer
		return nil, err
	}
	return programs, nil
}

// Pinned tells whether an earlier agent left some.
func (d *Datapath) Pinned() bool { return lane.Pinned(d.PinPath) }

// Status is the datapath's, with the lanes' programs.
func (d *Datapath) Status() (datapath.Status, error) {
	s, err := d.Datapath.Status()
	programs, ok := d.Programs().(*lane.Lane)
	if !ok {
		return s, err
	}
	all, more := programs.Programs()
	for _, p := range all {
		s.Programs = append(s.Programs, datapath.Program(p))
	}
	return s, errors.Join(err, more)
}
