package lane

import (
	"fmt"
	"os"

	"github.com/dubway/dubway/bpf"
)

// Pinned tells whether an earlier agent left its lanes in the datapath's folder path.
func Pinned(path string) bool {
	_, err := os.Stat(pinDir(path).Path)
	return err == nil
}

// Workloads returns the network namespaces whose consumers may have lanes, also by an
// earlier agent.
func (l *Lane) Workloads() ([]uint64, error) {
	var all []uint64
	var netns uint64
	var value uint32
	entries := l.maps[bpf.LaneMapLaneWorkloads].Iterate()
	for entries.Next(&netns, &value) {
		all = append(all, netns)
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("list workloads that may have lanes: %w", err)
	}
	return all, nil
}

// Program is a program that is attached to the cgroup.
type Program struct {
	Name     string // as in bpf/lane.c
	ID       uint32
	Tag      string
	Attached string // "cgroup PATH"; empty if detached
}

// Programs asks the kernel for them. Lane_msg is none of them: it is the sockets', and those
// that came before an upgrade keep an older one.
func (l *Lane) Programs() ([]Program, error) {
	var all []Program
	for _, name := range hooks {
		info, err := l.links[name].Info()
		if err != nil {
			return nil, fmt.Errorf("ask link %s: %w", name, err)
		}
		running, err := infoOf(info.Program)
		if err != nil {
			return nil, err
		}
		here, err := l.isAttachedHere(l.links[name])
		if err != nil {
			return nil, err
		}
		p := Program{Name: name, ID: uint32(info.Program), Tag: running.Tag}
		if here {
			p.Attached = "cgroup " + l.cgroup
		}
		all = append(all, p)
	}
	return all, nil
}
