package kubelet

import (
	"errors"

	"github.com/dubway/dubway/internal/admin"
)

// Report writes what is known of kubelet into the agent's status. That there is none is
// no problem of a machine that is no node.
func (f *Follower) Report(status *admin.AgentStatus) {
	if f.opts.Cgroup == Off {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.state
	status.Kubelet = &admin.Kubelet{Cgroup: s.Cgroup, PID: s.PID}
	if s.Err != nil {
		status.Kubelet.Reason = s.Err.Error()
		if !errors.Is(s.Err, ErrNone) {
			status.Problems = append(status.Problems, "kubelet's probes do not pass: "+s.Err.Error())
		}
		return
	}
	if f.notes == nil {
		status.Kubelet.Reason = "it is being looked for"
		return
	}
	if p, attached := f.notes.Program(); attached {
		status.Kubelet.Passes = true
		status.Programs = append(status.Programs, admin.Program{Name: p.Name, ID: p.ID, Tag: p.Tag, Attached: "cgroup " + s.Cgroup})
	} else {
		status.Kubelet.Reason = "its cgroup has just gone"
	}
}
