package lane

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/dubway/dubway/agent/datapath/pins"
	"github.com/dubway/dubway/bpf"
)

// hooks are the cgroup programs, in the order in which they are attached: who answers
// questions first.
var hooks = []string{bpf.LaneProgAskSockopt, bpf.LaneProgJoinSockops}

// begin loads the programs, with the maps that are there already and new ones, and has them
// judge what sockets send that come to lane_sockets from now on. The programs for hooks are
// the caller's to attach and to close.
func (l *Lane) begin(there map[string]*ebpf.Map) (*ebpf.Collection, error) {
	coll, err := l.load(there)
	if err != nil {
		return nil, err
	}
	l.take(coll)
	if err := l.judge(coll.Programs[bpf.LaneProgLaneMsg]); err != nil {
		closePrograms(coll)
		return nil, err
	}
	return coll, nil
}

func (l *Lane) load(there map[string]*ebpf.Map) (*ebpf.Collection, error) {
	spec := l.spec.Copy()
	delete(spec.Programs, bpf.LaneProgWakeTcp)
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: there, Cache: l.types})
	var refused *ebpf.VerifierError
	if errors.As(err, &refused) && len(refused.Log) > 0 {
		last := refused.Log[max(0, len(refused.Log)-3):]
		err = fmt.Errorf("%w: %q", refused.Cause, last)
	}
	if err != nil {
		return nil, fmt.Errorf("load programs of lanes (they want Linux 6.1): %w", err)
	}
	return coll, nil
}

func closePrograms(coll *ebpf.Collection) {
	for _, p := range coll.Programs {
		p.Close()
	}
	for _, m := range coll.Maps { // those that were not taken
		m.Close()
	}
}

// judge makes a program that of the sockets that come to lane_sockets from now on. Those
// that are there keep theirs.
func (l *Lane) judge(p *ebpf.Program) error {
	sockets := l.maps[bpf.LaneMapLaneSockets]
	attached, err := link.QueryPrograms(link.QueryOptions{Target: sockets.FD(), Attach: ebpf.AttachSkMsgVerdict})
	if err != nil {
		return fmt.Errorf("ask for the program of lane_sockets: %w", err)
	}
	for _, a := range attached.Programs {
		same, err := isSame(a.ID, p)
		if err != nil || same {
			return err
		}
	}
	err = link.RawAttachProgram(link.RawAttachProgramOptions{Target: sockets.FD(), Program: p, Attach: ebpf.AttachSkMsgVerdict})
	if err != nil {
		return fmt.Errorf("attach %s: %w", bpf.LaneProgLaneMsg, err)
	}
	return nil
}

// isSame tells whether a program that runs has the code of p.
func isSame(running ebpf.ProgramID, p *ebpf.Program) (bool, error) {
	old, err := infoOf(running)
	if err != nil {
		return false, err
	}
	info, err := p.Info()
	if err != nil {
		return false, fmt.Errorf("ask program: %w", err)
	}
	return old.Tag == info.Tag, nil
}

func infoOf(id ebpf.ProgramID) (*ebpf.ProgramInfo, error) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return nil, fmt.Errorf("open program %d: %w", id, err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return nil, fmt.Errorf("ask program %d: %w", id, err)
	}
	return info, nil
}

// check finds out whether the pinned programs read the datapath's sockets: their own went
// with it if its maps were replaced.
func (l *Lane) check(sockets *ebpf.Map) error {
	joined, err := link.LoadPinnedLink(l.pins.LinkFile(bpf.LaneProgJoinSockops), nil)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %s is not attached", errIncompatible, bpf.LaneProgJoinSockops)
	}
	if err != nil {
		return fmt.Errorf("open pin: %w", err)
	}
	defer joined.Close()
	info, err := joined.Info()
	if err != nil {
		return fmt.Errorf("ask link: %w", err)
	}
	program, err := infoOf(info.Program)
	if err != nil {
		return err
	}
	known, err := sockets.Info()
	if err != nil {
		return fmt.Errorf("ask map: %w", err)
	}
	id, _ := known.ID()
	if used, ok := program.MapIDs(); ok && !slices.Contains(used, id) {
		return fmt.Errorf("%w: they are of other sockets than the datapath's", errIncompatible)
	}
	return nil
}

func (l *Lane) attach(name string, p *ebpf.Program) error {
	made, err := link.AttachCgroup(link.CgroupOptions{Path: l.cgroup, Attach: l.spec.Programs[name].AttachType, Program: p})
	if err != nil {
		return fmt.Errorf("link %s to cgroup %s: %w", name, l.cgroup, err)
	}
	l.links[name] = made
	return nil
}

// adoptLink keeps the pinned link if it runs the same program at the same cgroup, swaps its
// program if not, and makes a new one if it is gone or elsewhere.
func (l *Lane) adoptLink(name string, p *ebpf.Program) error {
	file := l.pins.LinkFile(name)
	found, err := link.LoadPinnedLink(file, nil)
	if err == nil {
		here, err := l.isAttachedHere(found)
		if err != nil {
			return errors.Join(err, found.Close())
		}
		if here {
			l.links[name] = found
			return l.replace(found, p)
		}
		if err := errors.Join(pins.Detach(found), found.Close()); err != nil {
			return err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("open pin: %w", err)
	}
	if err := l.attach(name, p); err != nil {
		return err
	}
	return pins.Replace(l.links[name], file)
}

func (l *Lane) isAttachedHere(found link.Link) (bool, error) {
	info, err := found.Info()
	if err != nil {
		return false, fmt.Errorf("ask link: %w", err)
	}
	id, err := l.cgroupID()
	cg := info.Cgroup()
	return cg != nil && cg.CgroupId == id, err
}

func (l *Lane) replace(found link.Link, p *ebpf.Program) error {
	info, err := found.Info()
	if err != nil {
		return fmt.Errorf("ask link: %w", err)
	}
	same, err := isSame(info.Program, p)
	if err != nil || same {
		return err
	}
	if err := found.Update(p); err != nil {
		return fmt.Errorf("update link: %w", err)
	}
	return nil
}
