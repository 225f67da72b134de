package agent

import (
	"github.com/dubway/dubway/agent/datapath/conflict"
	"github.com/dubway/dubway/agent/datapath/lane"
	"github.com/dubway/dubway/agent/lanes"
	"github.com/dubway/dubway/agent/lanes/loaded"
)

// useLanes makes the agent's part in lanes. Nothing is loaded before it is decided.
func (a *Agent) useLanes() {
	a.loaded = &loaded.Datapath{Datapath: a.datapath, PinPath: a.opts.PinPath, Cgroup: a.opts.Cgroup, Log: a.log}
	test := a.opts.LaneTest
	if test == nil {
		test = a.loaded.SelfTest
	}
	a.lanes = lanes.New(lanes.Options{
		Choice: a.opts.Lane, Open: a.loaded.Open, Pinned: a.loaded.Pinned, SelfTest: test,
		Build: lane.Build, Conflict: a.movesSockets, Workloads: a.enroller.Workloads, Log: a.log,
	})
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
