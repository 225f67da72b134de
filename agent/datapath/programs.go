package datapath

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

// hooks are the cgroup programs in the order in which they are attached: who
// answers questions first, who steers last.
var hooks = []string{
	bpf.SteerProgBridgeSockops,
	bpf.SteerProgAnswerSockopt,
	bpf.SteerProgShowPeername4,
	bpf.SteerProgShowPeername6,
	bpf.SteerProgShowSockname4,
	bpf.SteerProgShowSockname6,
	bpf.SteerProgSteerConnect4,
	bpf.SteerProgSteerConnect6,
}

// mapNames are the maps that are pinned.
var mapNames = []string{
	bpf.SteerMapWorkloads,
	bpf.SteerMapDestinations,
	bpf.SteerMapInboundPorts,
	bpf.SteerMapListeners,
	bpf.SteerMapProbes,
	bpf.SteerMapSockets,
	bpf.SteerMapBridges,
	bpf.SteerMapUnknowns,
	bpf.SteerMapCounters,
}

func (d *Datapath) byName() map[string]*ebpf.Map {
	return map[string]*ebpf.Map{
		bpf.SteerMapWorkloads:    d.maps.Workloads,
		bpf.SteerMapDestinations: d.maps.Destinations,
		bpf.SteerMapInboundPorts: d.maps.InboundPorts,
		bpf.SteerMapListeners:    d.maps.Listeners,
		bpf.SteerMapProbes:       d.maps.Probes,
		bpf.SteerMapSockets:      d.maps.Sockets,
		bpf.SteerMapBridges:      d.maps.Bridges,
		bpf.SteerMapUnknowns:     d.maps.Unknowns,
		bpf.SteerMapCounters:     d.maps.Counters,
	}
}

// loadCgroupPrograms loads the programs of hooks and not those of sk_lookup and of
// kubelet's cgroup, so that a kernel that refuses one of those still steers. It takes over the pinned maps.
func (d *Datapath) loadCgroupPrograms(pinned map[string]*ebpf.Map) (*ebpf.Collection, error) {
	spec := d.spec.Copy()
	delete(spec.Programs, bpf.SteerProgTakeLookup)
	delete(spec.Programs, bpf.SteerProgNoteSockops)
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: pinned, Cache: d.types})
	for _, m := range pinned { // the collection has clones
		m.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("load cgroup programs: %w", explain(err))
	}
	return coll, nil
}

func closePrograms(coll *ebpf.Collection) {
	for _, p := range coll.Programs {
		p.Close()
	}
	for _, m := range coll.Maps { // those that were not assigned
		m.Close()
	}
}

// attach links a program to the cgroup. It is a link always, which survives
// others' BPF_PROG_ATTACH and is replaced in one step: from 5.7 on there is no
// falling back, and what is not a link could not be pinned.
func (d *Datapath) attach(name string, p *ebpf.Program) (link.Link, error) {
	l, err := link.AttachCgroup(link.CgroupOptions{Path: d.cgroup, Attach: d.spec.Programs[name].AttachType, Program: p})
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("link %s to cgroup %s: %w (CAP_NET_ADMIN is missing, or another program holds this hook alone, "+
			"attached without BPF_F_ALLOW_MULTI)", name, d.cgroup, err)
	}
	if err != nil {
		return nil, fmt.Errorf("link %s to cgroup %s: %w", name, d.cgroup, err)
	}
	return l, nil
}

// adoptLink keeps the pinned link if it runs the same program at the same
// cgroup, swaps its program if not, and makes a new one if it is gone.
func (d *Datapath) adoptLink(name string, p *ebpf.Program) error {
	file := d.pins.LinkFile(name)
	l, err := link.LoadPinnedLink(file, nil)
	if err == nil {
		attached, err := d.isAttachedHere(l)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		if attached {
			d.links[name] = l
			return d.replaceProgram(l, p)
		}
		// Two instances must never run for one connect: the second would
		// take the first one's aim for what the application meant.
		d.log.Warn("link is attached elsewhere, attaching anew", "program", name, "cgroup", d.cgroup)
		if err := errors.Join(pins.Detach(l), l.Close()); err != nil {
			return err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("open pin: %w", err)
	}
	if l, err = d.attach(name, p); err != nil {
		return err
	}
	d.links[name] = l
	return pins.Replace(l, file)
}

func (d *Datapath) isAttachedHere(l link.Link) (bool, error) {
	info, err := l.Info()
	if err != nil {
		return false, fmt.Errorf("ask link: %w", err)
	}
	id, err := host.CgroupID(d.cgroup)
	if err != nil {
		return false, err
	}
	cg := info.Cgroup()
	return cg != nil && cg.CgroupId == id, nil
}

// replaceProgram swaps the program of a link, unless it runs the same code
// already. Between the two no connect sees neither.
func (d *Datapath) replaceProgram(l link.Link, p *ebpf.Program) error {
	old, err := tagOf(l)
	if err != nil {
		return err
	}
	info, err := p.Info()
	if err != nil {
		return fmt.Errorf("ask program: %w", err)
	}
	if old == info.Tag {
		return nil
	}
	if err := l.Update(p); err != nil {
		return fmt.Errorf("update link: %w", err)
	}
	d.log.Info("program replaced", "program", info.Name, "old", old, "new", info.Tag)
	return nil
}

func tagOf(l link.Link) (string, error) {
	info, err := l.Info()
	if err != nil {
		return "", fmt.Errorf("ask link: %w", err)
	}
	p, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return "", fmt.Errorf("open program %d: %w", info.Program, err)
	}
	defer p.Close()
	running, err := p.Info()
	if err != nil {
		return "", fmt.Errorf("ask program %d: %w", info.Program, err)
	}
	return running.Tag, nil
}

// explain shortens a verifier's log to its end, where the reason is.
func explain(err error) error {
	var refused *ebpf.VerifierError
	if !errors.As(err, &refused) || len(refused.Log) == 0 {
		return err
	}
	last := refused.Log[max(0, len(refused.Log)-3):]
	return fmt.Errorf("%w: %q", refused.Cause, last)
}
