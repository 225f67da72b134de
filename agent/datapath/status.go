package datapath

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/dubway/dubway/agent/datapath/host"
	"github.com/dubway/dubway/bpf"
)

// Status is what is loaded, as the kernel tells it.
type Status struct {
	PinPath    string
	Cgroup     string
	Generation uint64 // of the destinations in the first table
	Programs   []Program
	Maps       []Map
}

// Program is a loaded program and the place where it is attached.
type Program struct {
	Name     string // as in bpf/steer.c
	ID       uint32
	Tag      string
	Attached string // "cgroup PATH" or "netns COOKIE"; empty if detached
}

// Map is a pinned map. Entries is -1 where counting them makes no sense: the
// kernel does not list sockets, and counters are always all there.
type Map struct {
	Name       string
	ID         uint32
	Type       string
	Entries    int
	MaxEntries int
}

// Status asks the kernel what is loaded and attached.
func (d *Datapath) Status() (Status, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Status{PinPath: d.pins.Path, Cgroup: d.cgroup, Generation: d.tables[0].Generation}
	for _, name := range hooks {
		p, err := programOf(d.links[name])
		if err != nil {
			return s, err
		}
		here, err := d.isAttachedHere(d.links[name])
		if err != nil {
			return s, err
		}
		if here {
			p.Attached = "cgroup " + d.cgroup
		}
		s.Programs = append(s.Programs, p)
	}
	err := d.eachLookup(func(cookie uint64, l link.Link) error {
		p, err := programOf(l)
		if err != nil {
			return err
		}
		inode, err := attachedNetns(l)
		if inode != 0 {
			p.Attached = fmt.Sprintf("netns %d", cookie)
		}
		s.Programs = append(s.Programs, p)
		return err
	})
	if err != nil {
		return s, err
	}
	s.Maps, err = d.mapStatus()
	return s, err
}

func programOf(l link.Link) (Program, error) {
	info, err := l.Info()
	if err != nil {
		return Program{}, fmt.Errorf("ask link: %w", err)
	}
	p, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return Program{}, fmt.Errorf("open program %d: %w", info.Program, err)
	}
	defer p.Close()
	loaded, err := p.Info()
	if err != nil {
		return Program{}, fmt.Errorf("ask program %d: %w", info.Program, err)
	}
	return Program{Name: loaded.Name, ID: uint32(info.Program), Tag: loaded.Tag}, nil
}

func (d *Datapath) mapStatus() ([]Map, error) {
	var all []Map
	maps := d.byName()
	for _, name := range mapNames {
		m := maps[name]
		info, err := m.Info()
		if err != nil {
			return nil, fmt.Errorf("ask map %s: %w", name, err)
		}
		id, _ := info.ID()
		entry := Map{Name: name, ID: uint32(id), Type: m.Type().String(), Entries: -1, MaxEntries: int(m.MaxEntries())}
		switch name {
		case bpf.SteerMapDestinations:
			entry.Entries, entry.MaxEntries = d.countDestinations()
		case bpf.SteerMapSockets, bpf.SteerMapCounters: // not listed by the kernel; always full
		default:
			entry.Entries, err = countKeys(m)
		}
		if err != nil {
			return nil, fmt.Errorf("count map %s: %w", name, err)
		}
		all = append(all, entry)
	}
	return all, nil
}

func countKeys(m *ebpf.Map) (int, error) {
	n := 0
	key := make([]byte, m.KeySize())
	var last any // nil asks for the first
	for ; n < int(m.MaxEntries()); n++ {
		err := m.NextKey(last, &key)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			break
		}
		if err != nil {
			return n, fmt.Errorf("list keys: %w", err)
		}
		last = key
	}
	return n, nil
}

// Counters returns how often each outcome of bpf/outcome.h happened, over all
// CPUs, since the maps were made.
func (d *Datapath) Counters() (map[string]uint64, error) {
	var outcomes *btf.Enum
	if err := d.spec.Types.TypeByName("outcome", &outcomes); err != nil {
		return nil, fmt.Errorf("read outcomes: %w", err)
	}
	counts := map[string]uint64{}
	for _, outcome := range outcomes.Values {
		var perCPU []uint64
		if err := d.maps.Counters.Lookup(uint32(outcome.Value), &perCPU); err != nil {
			return nil, fmt.Errorf("read counter %s: %w", outcome.Name, err)
		}
		var sum uint64
		for _, n := range perCPU {
			sum += n
		}
		counts[outcome.Name] = sum
	}
	return counts, nil
}

// queryEffective is BPF_F_QUERY_EFFECTIVE.
const queryEffective = 1

// Effective asks the kernel whether the programs would run for the sockets of a
// cgroup, the connect programs before anybody else's. A nil error means yes.
func (d *Datapath) Effective(cgroup string) error {
	if err := host.CheckCgroup(cgroup); err != nil {
		return fmt.Errorf("check cgroup: %w", err)
	}
	dir, err := os.Open(cgroup)
	if err != nil {
		return fmt.Errorf("open cgroup: %w", err)
	}
	defer dir.Close()
	for _, name := range hooks {
		info, err := d.links[name].Info()
		if err != nil {
			return fmt.Errorf("ask link %s: %w", name, err)
		}
		running, err := link.QueryPrograms(link.QueryOptions{
			Target:     int(dir.Fd()),
			Attach:     d.spec.Programs[name].AttachType,
			QueryFlags: queryEffective,
		})
		if err != nil {
			return fmt.Errorf("query %s: %w", name, err)
		}
		if err := checkOrder(name, info.Program, running.Programs); err != nil {
			return fmt.Errorf("cgroup %s: %w", cgroup, err)
		}
	}
	return nil
}

// checkOrder finds a program among those that run at a hook, in their order.
func checkOrder(name string, id ebpf.ProgramID, running []link.AttachedProgram) error {
	first := name == bpf.SteerProgSteerConnect4 || name == bpf.SteerProgSteerConnect6
	for i, p := range running {
		if p.ID != id {
			continue
		}
		if first && i > 0 {
			return fmt.Errorf("program %s runs before %s and may change the destination", host.Describe(running[0].ID), name)
		}
		return nil
	}
	return fmt.Errorf("program %s is not effective", name)
}
