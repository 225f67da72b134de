// Package lane loads the programs of bpf/lane.c, by which calls between pods of this node
// go from a consumer's socket to a provider's, and attaches them beside those that
// steer. It makes the memory that they share with the proxy, and governs no lane itself:
// whoever holds a lane's sockets does, by internal/lane.
//
// Steering goes on without it: a kernel that refuses these programs has no lanes.
package lane

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/dubway/dubway/agent/datapath/host"
	"github.com/dubway/dubway/agent/datapath/pins"
	"github.com/dubway/dubway/bpf"
	"github.com/dubway/dubway/internal/lane"
)

// DefaultLanes is how many lanes there may be at a time unless told otherwise.
const DefaultLanes = 1024

// The bounds of what lanes share.
const (
	routes   = 2048
	series   = 2048 // of one CPU
	active   = 4096
	logBytes = 1 << 20
	maxCPUs  = 32 // more share the tallies of these: each CPU's are a MiB
)

// Options say where the lanes' programs live, and how many lanes there may be. 1,024 lanes
// take 17 MiB of the kernel's memory for requests in flight and 3 for routes and the log;
// and each CPU, up to 32, takes 1.
type Options struct {
	PinPath string       // of the datapath, which must be open: the lanes' pins are in a folder there
	Cgroup  string       // as the datapath's
	Sockets *ebpf.Map    // the datapath's sockets, which stay its own
	Lanes   int          // DefaultLanes
	Logger  *slog.Logger // slog.Default()
	Types   *btf.Cache   // the kernel's, which several may share, and somebody keeps; nil: they are read for this one
}

// Lane is the loaded and attached programs. Its methods may be called concurrently, except
// Close.
type Lane struct {
	log    *slog.Logger
	pins   pins.Dir
	cgroup string
	types  *btf.Cache
	spec   *ebpf.CollectionSpec
	sizes  lane.Sizes
	maps   map[string]*ebpf.Map // by name
	links  map[string]link.Link // by program name
	leaver *ebpf.Program        // see ask
	waker  *ebpf.Program        // see Wake; nil: refused
	// counted is where the kernel counts TCP's memory, and its limits; 0: not known yet.
	counted struct{ allocated, limits uint64 }
}

// Folder is the lanes' folder in the datapath's folder of pins.
const Folder = "lane"

func pinDir(path string) pins.Dir {
	return pins.Dir{Path: filepath.Join(path, Folder), Version: bpf.LaneABI, Maps: mapNames, Links: hooks}
}

// Open loads the programs and attaches them to the cgroup, or adopts the pinned ones of an
// earlier agent: lanes go on meanwhile, by the programs that they have. Pins of another
// layout, or of another datapath's sockets, are replaced; then live connections have no
// lanes any more, which their owners find out.
func Open(opts Options) (*Lane, error) {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.Lanes == 0 {
		opts.Lanes = DefaultLanes
	}
	l := &Lane{log: opts.Logger, pins: pinDir(opts.PinPath), cgroup: opts.Cgroup, types: opts.Types, links: map[string]link.Link{}}
	err := l.read(opts.Lanes)
	if err == nil {
		err = l.start(opts.Sockets)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open lanes: %w", err), l.Close())
	}
	l.loadWaker()
	return l, nil
}

// start adopts what is pinned, or creates it.
func (l *Lane) start(sockets *ebpf.Map) error {
	state, err := l.pins.Prepare()
	if err != nil {
		return err
	}
	why := ""
	switch state {
	case pins.Whole:
		pinned, err := l.openMaps()
		if err == nil {
			if err = l.check(sockets); err == nil {
				return l.adopt(pinned, sockets)
			}
			closeMaps(pinned)
		}
		if !errors.Is(err, errIncompatible) {
			return err
		}
		why = err.Error()
	case pins.Damaged:
		why = "it is damaged"
	case pins.Foreign:
		why = "it is of another version of dubway-agent"
	case pins.Absent:
		return l.create(sockets)
	}
	l.log.Warn("pinned state of lanes is replaced: calls of live connections take the proxy", "path", l.pins.Path, "reason", why)
	if err := l.pins.Remove(); err != nil {
		return err
	}
	return l.create(sockets)
}

// create loads and attaches everything below a directory aside, then renames it.
func (l *Lane) create(sockets *ebpf.Map) error {
	aside, err := l.pins.Aside()
	if err != nil {
		return err
	}
	coll, err := l.begin(map[string]*ebpf.Map{bpf.LaneMapSockets: sockets})
	if err != nil {
		return err
	}
	defer closePrograms(coll)
	for _, name := range mapNames {
		if err := l.maps[name].Pin(aside.MapFile(name)); err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	for _, name := range hooks {
		if err := l.attach(name, coll.Programs[name]); err != nil {
			return err
		}
		if err := l.links[name].Pin(aside.LinkFile(name)); err != nil {
			return fmt.Errorf("pin link %s: %w", name, err)
		}
	}
	if err := l.pins.Publish(); err != nil {
		return err
	}
	l.log.Info("lanes attached", "cgroup", l.cgroup, "pins", l.pins.Path, "lanes", l.sizes.Lanes)
	return nil
}

// adopt takes over the maps and links of an earlier agent. Sockets that are in a lane keep
// the program that they have; the memory is of one layout.
func (l *Lane) adopt(pinned map[string]*ebpf.Map, sockets *ebpf.Map) error {
	pinned[bpf.LaneMapSockets] = sockets
	coll, err := l.begin(pinned)
	delete(pinned, bpf.LaneMapSockets)
	closeMaps(pinned) // the collection has clones
	if err != nil {
		return err
	}
	defer closePrograms(coll)
	for _, name := range hooks {
		if err := l.adoptLink(name, coll.Programs[name]); err != nil {
			return fmt.Errorf("adopt link %s: %w", name, err)
		}
	}
	l.log.Info("lanes adopted", "cgroup", l.cgroup, "pins", l.pins.Path, "lanes", l.sizes.Lanes)
	return nil
}

// Workload says whether consumers of a network namespace may have lanes, from their next
// connect on. Netns is as the datapath knows it.
func (l *Lane) Workload(netns uint64, on bool) error {
	m := l.maps[bpf.LaneMapLaneWorkloads]
	var err error
	if on {
		err = m.Put(netns, uint32(0))
	} else if err = m.Delete(netns); errors.Is(err, ebpf.ErrKeyNotExist) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("set lanes of workload %d: %w", netns, err)
	}
	return nil
}

// Mark makes a TCP socket the proxy's end of a connection to a provider, for a lane. It must
// be called before connect, and in the provider's own network namespace.
func (l *Lane) Mark(fd int) error {
	state := bpf.LaneLaneSocket{Role: bpf.LaneLaneRoleLaneMarked}
	if err := l.maps[bpf.LaneMapLaneStates].Put(uint32(fd), &state); err != nil {
		return fmt.Errorf("mark socket for a lane: %w", err)
	}
	return nil
}

// Close lets go of the programs, which go on, from their pins.
func (l *Lane) Close() error {
	errs := []error{}
	for _, link := range l.links {
		errs = append(errs, link.Close())
	}
	closeMaps(l.maps)
	for _, p := range []*ebpf.Program{l.leaver, l.waker} {
		if p != nil {
			errs = append(errs, p.Close())
		}
	}
	return errors.Join(errs...)
}

// Uninstall detaches and removes the programs that are pinned in the datapath's folder
// path. That there are none is not an error.
func Uninstall(path string) error {
	if err := pinDir(path).Remove(); err != nil {
		return fmt.Errorf("uninstall lanes: %w", err)
	}
	return nil
}

// cgroupID is that of the cgroup that the programs are attached to.
func (l *Lane) cgroupID() (uint64, error) {
	id, err := host.CgroupID(l.cgroup)
	if err != nil {
		return 0, fmt.Errorf("ask cgroup: %w", err)
	}
	return id, nil
}

// Files returns duplicates of the maps that the proxy maps into its memory, in
// internal/lane's order. They are the caller's.
func (l *Lane) Files() ([]*os.File, error) {
	files := make([]*os.File, 0, lane.Files)
	for _, name := range shared {
		f, err := duplicate(l.maps[name], name)
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}
