// Package probes attaches note_sockops to kubelet's cgroup: it writes kubelet's
// connections down, and take_lookup lets exactly those past the inbound listener. Which
// cgroup that is, and whether it may be, is package kubelet's.
//
// The link is pinned beside those of package datapath, whose state must be there, and
// goes with it. One Probes at a time; its methods are not for concurrent use.
package probes

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath/host"
	"github.com/dubway/dubway/agent/datapath/pins"
	"github.com/dubway/dubway/bpf"
)

// Probes is the program, loaded, and where it is attached.
type Probes struct {
	file    string // of the pinned link
	program *ebpf.Program
	tag     string
	noted   *ebpf.Map
	link    link.Link // nil: nowhere
	cgroup  uint64    // its id, where link is attached
}

// Open loads the program over the pinned maps of a datapath.
func Open(pinPath string) (*Probes, error) {
	dir := pins.Dir{Path: pinPath, Version: bpf.ABI}
	noted, err := ebpf.LoadPinnedMap(dir.MapFile(bpf.SteerMapProbes), nil)
	if err != nil {
		return nil, fmt.Errorf("open map of probes: %w", err)
	}
	p := &Probes{file: dir.LinkFile(bpf.SteerProgNoteSockops), noted: noted}
	if err := p.load(dir); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// load loads the program alone: a kernel that refuses it steers without.
func (p *Probes) load(dir pins.Dir) error {
	spec, err := bpf.LoadSteer()
	if err != nil {
		return fmt.Errorf("read programs: %w", err)
	}
	counters, err := ebpf.LoadPinnedMap(dir.MapFile(bpf.SteerMapCounters), nil)
	if err != nil {
		return fmt.Errorf("open counters: %w", err)
	}
	defer counters.Close()
	used := map[string]*ebpf.Map{bpf.SteerMapProbes: p.noted, bpf.SteerMapCounters: counters}
	for name, m := range spec.Maps {
		// Those of variables stay.
		if used[name] == nil && m.Type != ebpf.Array {
			delete(spec.Maps, name)
		}
	}
	for name := range spec.Programs {
		if name != bpf.SteerProgNoteSockops {
			delete(spec.Programs, name)
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: used})
	if err != nil {
		return fmt.Errorf("load %s: %w", bpf.SteerProgNoteSockops, err)
	}
	defer coll.Close()
	p.program = coll.DetachProgram(bpf.SteerProgNoteSockops)
	info, err := p.program.Info()
	if err != nil {
		return fmt.Errorf("ask program: %w", err)
	}
	p.tag = info.Tag
	return nil
}

// Attach attaches the program to a cgroup, and to no other. Where it is there already,
// also by an earlier agent, it stays, with this build's code.
func (p *Probes) Attach(cgroup string) error {
	id, err := host.CgroupID(cgroup)
	if err != nil {
		return err
	}
	if p.link == nil {
		if err := p.adopt(); err != nil {
			return err
		}
	}
	if p.link != nil {
		if at, err := attachedTo(p.link); err == nil && at == id {
			p.cgroup = id
			return nil
		}
		if err := p.Detach(); err != nil {
			return err
		}
	}
	l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: ebpf.AttachCGroupSockOps, Program: p.program})
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("link %s to %s: %w (CAP_NET_ADMIN is missing, or another program holds this hook alone, attached "+
			"without BPF_F_ALLOW_MULTI)", bpf.SteerProgNoteSockops, cgroup, err)
	}
	if err != nil {
		return fmt.Errorf("link %s to %s: %w", bpf.SteerProgNoteSockops, cgroup, err)
	}
	if err := pins.Replace(l, p.file); err != nil {
		return errors.Join(err, pins.Detach(l), l.Close())
	}
	p.link, p.cgroup = l, id
	return nil
}

// adopt takes over the link of an earlier agent, if there is one.
func (p *Probes) adopt() error {
	l, err := link.LoadPinnedLink(p.file, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pinned link %s: %w", p.file, err)
	}
	// A link whose cgroup is gone cannot be updated, and need not.
	if err := l.Update(p.program); err != nil && !errors.Is(err, unix.ENOLINK) {
		return errors.Join(fmt.Errorf("update link of %s: %w", bpf.SteerProgNoteSockops, err), l.Close())
	}
	p.link = l
	return nil
}

// attachedTo returns the id of the link's cgroup; 0 if that is gone.
func attachedTo(l link.Link) (uint64, error) {
	info, err := l.Info()
	if err != nil {
		return 0, fmt.Errorf("ask link: %w", err)
	}
	if cg := info.Cgroup(); cg != nil {
		return cg.CgroupId, nil
	}
	return 0, nil
}

// Detach attaches the program to nothing, also what an earlier agent attached. Nobody
// would cross out what is written down: all of it goes. A probe whose SYN is on its
// way just then is taken as anybody's connection.
func (p *Probes) Detach() error {
	if p.link != nil {
		_ = p.link.Close()
		p.link, p.cgroup = nil, 0
	}
	if err := pins.RemoveLink(p.file); err != nil {
		return err
	}
	var stale []bpf.SteerProbe
	var key bpf.SteerProbe
	var value uint32
	entries := p.noted.Iterate()
	for entries.Next(&key, &value) {
		stale = append(stale, key)
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("list probes: %w", err)
	}
	for i := range stale {
		if err := p.noted.Delete(&stale[i]); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("delete probe: %w", err)
		}
	}
	return nil
}

// Program is what runs in kubelet's cgroup.
type Program struct {
	Name string
	ID   uint32
	Tag  string
}

// Program tells what is attached; false if nothing is, or its cgroup is gone.
func (p *Probes) Program() (Program, bool) {
	if p.link == nil {
		return Program{}, false
	}
	info, err := p.link.Info()
	if err != nil {
		return Program{}, false
	}
	if cg := info.Cgroup(); cg == nil || cg.CgroupId != p.cgroup {
		return Program{}, false
	}
	return Program{Name: bpf.SteerProgNoteSockops, ID: uint32(info.Program), Tag: p.tag}, true
}

// Close lets go; what is attached goes on, from its pin.
func (p *Probes) Close() error {
	errs := []error{p.noted.Close()}
	if p.program != nil {
		errs = append(errs, p.program.Close())
	}
	if p.link != nil {
		errs = append(errs, p.link.Close())
	}
	return errors.Join(errs...)
}
