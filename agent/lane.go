package agent

import (
	"errors"

	"github.com/dubway/dubway/agent/conflicts"
	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/datapath/conflict"
	"github.com/dubway/dubway/agent/datapath/lane"
	"github.com/dubway/dubway/agent/lanes"
)

// laned is a datapath and the lanes' programs beside it, once there are any.
type laned struct {
	*datapath.Datapath

	opts     *Options
	programs func() lanes.Programs // nil for none
}

var _ conflicts.Datapath = (*laned)(nil)

// open loads the lanes' programs, or adopts those that are pinned.
func (d *laned) open() (lanes.Programs, error) {
	programs, err := lane.Open(lane.Options{
		PinPath: d.opts.PinPath, Cgroup: d.opts.Cgroup, Sockets: d.Sockets(), Logger: d.opts.Logger,
	})
	if err != nil { // no interface of a nil pointer
		return nil, err
	}
	return programs, nil
}

// Status is the datapath's, with the lanes' programs.
func (d *laned) Status() (datapath.Status, error) {
	s, err := d.Datapath.Status()
	programs, ok := d.programs().(*lane.Lane)
	if !ok {
		return s, err
	}
	all, more := programs.Programs()
	for _, p := range all {
		s.Programs = append(s.Programs, datapath.Program(p))
	}
	return s, errors.Join(err, more)
}

// useLanes makes the agent's part in lanes. Nothing is loaded before it is decided.
func (a *Agent) useLanes() {
	d := &laned{Datapath: a.datapath, opts: &a.opts}
	a.lanes = lanes.New(lanes.Options{
		Choice: a.opts.Lane, Open: d.open, Pinned: func() bool { return lane.Pinned(a.opts.PinPath) },
		SelfTest: a.opts.LaneTest, Build: lane.Build, Conflict: a.movesSockets,
		Workloads: a.enroller.Workloads, Log: a.log,
	})
	d.programs = a.lanes.Programs
	a.laned = d
	a.dialer.UseLanes(a.lanes)
}

// movesSockets tells of programs of others that move what sockets send.
func (a *Agent) movesSockets() string {
	for _, c := range a.conflicts.Found() {
		if c.Name == conflict.Sockmaps {
			return c.Detail
		}
	}
	return ""
}
