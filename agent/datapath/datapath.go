// Package datapath loads Dubway's BPF programs, attaches them and is the only
// writer of their maps. Everything that steering needs while the agent is away
// is pinned below one directory of a BPF file system: Open adopts what is
// there, Close leaves it, Uninstall removes it.
//
// It knows network namespaces by their cookie and addresses by netip; what a
// pod is, and which ones are enrolled, is its caller's business.
package datapath

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"

	"github.com/dubway/dubway/agent/datapath/host"
	"github.com/dubway/dubway/agent/datapath/pins"
	"github.com/dubway/dubway/bpf"
)

// DefaultPinPath is where the maps and links are pinned unless told otherwise.
const DefaultPinPath = "/sys/fs/bpf/dubway"

// The ports of the listeners in a pod's network namespace.
const (
	OutboundPort = bpf.OutboundPort // on 127.0.0.1 and ::1
	InboundPort  = 15006            // on every address
)

// ABI is the version of what the pinned maps hold. An agent replaces the pins of another.
const ABI = bpf.ABI

// ErrMapFull says that a workload or a destination does not fit into its map.
// What is reported with it is not in force.
var ErrMapFull = errors.New("map is full")

// errIncompatible says that a pinned map is of another shape than this build's.
var errIncompatible = errors.New("pinned maps are incompatible")

// Options say where the datapath lives. All have a default.
type Options struct {
	PinPath string       // a directory of a BPF file system, made if absent; DefaultPinPath
	Cgroup  string       // the cgroup2 directory above every pod and the agent itself; FindCgroupRoot
	Logger  *slog.Logger // slog.Default()
	Types   *btf.Cache   // the kernel's, which several may share; nil: they are read for this one
}

func (o Options) complete() (Options, error) {
	o.PinPath = pinPath(o.PinPath)
	o.Logger = cmp.Or(o.Logger, slog.Default())
	if o.Cgroup == "" {
		root, err := FindCgroupRoot()
		if err != nil {
			return o, err
		}
		o.Cgroup = root
	}
	return o, errors.Join(host.CheckCgroup(o.Cgroup), host.CheckBPFFS(filepath.Dir(o.PinPath)))
}

// FindCgroupRoot returns where the host's cgroup2 root is mounted.
func FindCgroupRoot() (string, error) {
	root, err := host.FindCgroupRoot()
	if err != nil {
		return "", fmt.Errorf("choose cgroup: %w", err)
	}
	return root, nil
}

func pinPath(path string) string {
	return cmp.Or(path, DefaultPinPath)
}

func pinDir(path string) pins.Dir {
	return pins.Dir{Path: pinPath(path), Version: bpf.ABI, Maps: mapNames, Links: hooks}
}

// Datapath is the loaded and attached datapath. Its methods may be called
// concurrently, except Close.
type Datapath struct {
	log    *slog.Logger
	pins   pins.Dir
	cgroup string
	types  *btf.Cache
	kernel kernel
	spec   *ebpf.CollectionSpec
	maps   bpf.SteerMaps
	links  map[string]link.Link // by program name

	mu     sync.Mutex // one change of workloads or destinations at a time
	tables map[uint32]TableStatus
}

// kernel is what this kernel can do, which the programs cannot find out.
type kernel struct {
	byInode  bool // network namespaces are known by inode: before 5.15
	setErrno bool // a connect program chooses the error: from 6.0
}

// Open loads the programs and attaches them to the cgroup, or adopts the pinned
// ones of an earlier agent without a gap: programs that differ are replaced in
// place, maps are kept with what is in them. Pins of another layout are removed,
// and that is logged: then steering starts when the pods are enrolled anew. An error
// names the kernel feature, the capability or the mount that is missing.
func Open(opts Options) (*Datapath, error) {
	spec, err := bpf.LoadSteer()
	if err != nil {
		return nil, fmt.Errorf("read programs: %w", err)
	}
	d, err := open(opts, spec, kernel{byInode: !host.HaveNetnsCookie(), setErrno: host.HaveSetErrno()})
	if err != nil {
		return nil, errors.Join(err, host.Missing(host.Probe(opts.Cgroup, pinPath(opts.PinPath))))
	}
	return d, nil
}

func open(opts Options, spec *ebpf.CollectionSpec, k kernel) (*Datapath, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		opts.Logger.Warn("cannot raise RLIMIT_MEMLOCK", "error", err)
	}
	d := &Datapath{
		log: opts.Logger, pins: pinDir(opts.PinPath), cgroup: opts.Cgroup, types: opts.Types,
		kernel: k, spec: spec, links: map[string]link.Link{}, tables: map[uint32]TableStatus{},
	}
	for name, value := range map[string]bool{
		bpf.SteerVarNetnsByInode: k.byInode, bpf.SteerVarRefuseByErrno: k.setErrno,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	if err := d.start(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// start adopts what is pinned, or creates it.
func (d *Datapath) start() error {
	state, err := d.pins.Prepare()
	if err != nil {
		return err
	}
	switch state {
	case pins.Whole:
		pinned, err := d.openMaps()
		if errors.Is(err, errIncompatible) {
			return d.replace(err.Error())
		}
		if err != nil {
			return err
		}
		return d.adopt(pinned)
	case pins.Damaged:
		return d.replace("it is damaged")
	case pins.Foreign:
		return d.replace("it is of another version of dubway-agent")
	case pins.Absent:
	}
	return d.create()
}

// replace removes what is pinned and creates it anew.
func (d *Datapath) replace(why string) error {
	d.log.Warn("pinned state is replaced: until pods are enrolled anew, nothing of theirs is steered, refused or handed "+
		"to the inbound listener; established connections go on", "path", d.pins.Path, "reason", why)
	if err := d.pins.Remove(); err != nil {
		return err
	}
	return d.create()
}

// create loads and attaches everything below a directory aside, then renames
// it: an agent that is killed on the way leaves nothing that counts as state.
func (d *Datapath) create() error {
	aside, err := d.pins.Aside()
	if err != nil {
		return err
	}
	coll, err := d.loadCgroupPrograms(nil)
	if err != nil {
		return err
	}
	defer closePrograms(coll)
	if err := coll.Assign(&d.maps); err != nil {
		return fmt.Errorf("assign maps: %w", err)
	}
	for name, m := range d.byName() {
		if err := m.Pin(aside.MapFile(name)); err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	table, err := d.newTable(Table{})
	if err != nil {
		return fmt.Errorf("try destinations: %w", err)
	}
	defer table.Close()
	for _, name := range hooks {
		l, err := d.attach(name, coll.Programs[name])
		if err != nil {
			return err
		}
		d.links[name] = l
		if err := l.Pin(aside.LinkFile(name)); err != nil {
			return fmt.Errorf("pin link %s: %w", name, err)
		}
	}
	if err := d.pins.Publish(); err != nil {
		return err
	}
	d.log.Info("datapath attached", "cgroup", d.cgroup, "pins", d.pins.Path)
	return nil
}

// adopt takes over the maps and links of an earlier agent.
func (d *Datapath) adopt(pinned map[string]*ebpf.Map) error {
	coll, err := d.loadCgroupPrograms(pinned)
	if err != nil {
		return err
	}
	defer closePrograms(coll)
	if err := coll.Assign(&d.maps); err != nil {
		return fmt.Errorf("assign maps: %w", err)
	}
	for _, name := range hooks {
		if err := d.adoptLink(name, coll.Programs[name]); err != nil {
			return fmt.Errorf("adopt link %s: %w", name, err)
		}
	}
	if err := d.adoptLookups(); err != nil {
		return err
	}
	if err := d.adoptTables(); err != nil {
		return err
	}
	d.log.Info("datapath adopted", "cgroup", d.cgroup, "pins", d.pins.Path)
	return nil
}

// openMaps opens the pinned maps, all of this build's shape.
func (d *Datapath) openMaps() (map[string]*ebpf.Map, error) {
	pinned := map[string]*ebpf.Map{}
	for _, name := range mapNames {
		m, err := ebpf.LoadPinnedMap(d.pins.MapFile(name), nil)
		if err == nil {
			pinned[name] = m
			if err = d.spec.Maps[name].Compatible(m); err != nil {
				err = fmt.Errorf("%w: %w", errIncompatible, err)
			}
		}
		if err != nil {
			for _, m := range pinned {
				m.Close()
			}
			return nil, fmt.Errorf("open pinned map %s: %w", name, err)
		}
	}
	return pinned, nil
}

// Close lets go of the datapath; the programs go on, from their pins.
func (d *Datapath) Close() error {
	errs := []error{}
	for _, l := range d.links {
		errs = append(errs, l.Close())
	}
	for _, m := range d.byName() {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// Uninstall detaches and removes everything that is pinned below path. That
// there is nothing is not an error. Connections that were steered go on as long
// as the proxy lives.
func Uninstall(path string) error {
	if err := pinDir(path).Remove(); err != nil {
		return fmt.Errorf("uninstall: %w", err)
	}
	return nil
}
