package datapath

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath/pins"
	"github.com/dubway/dubway/bpf"
)

// loadLookup loads the instance of take_lookup for one network namespace, which
// the program cannot find out by itself.
func (d *Datapath) loadLookup(cookie uint64) (*ebpf.Program, error) {
	replaced := map[string]*ebpf.Map{
		bpf.SteerMapInboundPorts: d.maps.InboundPorts,
		bpf.SteerMapListeners:    d.maps.Listeners,
		bpf.SteerMapProbes:       d.maps.Probes,
		bpf.SteerMapCounters:     d.maps.Counters,
	}
	spec := d.spec.Copy()
	for name := range spec.Programs {
		if name != bpf.SteerProgTakeLookup {
			delete(spec.Programs, name)
		}
	}
	for _, name := range mapNames {
		if replaced[name] == nil {
			delete(spec.Maps, name)
		}
	}
	if err := spec.Variables[bpf.SteerVarLookupNetns].Set(cookie); err != nil {
		return nil, fmt.Errorf("set %s: %w", bpf.SteerVarLookupNetns, err)
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replaced})
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", bpf.SteerProgTakeLookup, explain(err))
	}
	defer coll.Close()
	return coll.DetachProgram(bpf.SteerProgTakeLookup), nil
}

// setLookup attaches take_lookup to the workload's namespace if it has ports to
// take, and detaches it if not.
func (d *Datapath) setLookup(w Workload) error {
	file := d.pins.LookupFile(w.Cookie)
	if len(w.Ports) == 0 {
		return pins.RemoveLink(file)
	}
	return control(w.Netns, func(ns int) error {
		if same, err := isAttachedTo(file, ns); err != nil || same {
			return err
		}
		if err := pins.RemoveLink(file); err != nil {
			return err
		}
		p, err := d.loadLookup(w.Cookie)
		if err != nil {
			return err
		}
		defer p.Close()
		l, err := link.AttachNetNs(ns, p)
		if err != nil {
			return fmt.Errorf("attach %s: %w", bpf.SteerProgTakeLookup, err)
		}
		defer l.Close() // its pin holds it
		return pins.Replace(l, file)
	})
}

// isAttachedTo tells whether the pinned link lives in the namespace of ns.
func isAttachedTo(file string, ns int) (bool, error) {
	l, err := link.LoadPinnedLink(file, nil)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open pinned link %s: %w", file, err)
	}
	defer l.Close()
	inode, err := attachedNetns(l)
	if err != nil {
		return false, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(ns, &st); err != nil {
		return false, fmt.Errorf("stat netns: %w", err)
	}
	return inode == st.Ino, nil
}

// attachedNetns returns the inode of the link's namespace; 0 if that is gone.
func attachedNetns(l link.Link) (uint64, error) {
	info, err := l.Info()
	if err != nil {
		return 0, fmt.Errorf("ask link: %w", err)
	}
	if ns := info.NetNs(); ns != nil {
		return uint64(ns.NetnsInode), nil
	}
	return 0, nil
}

// adoptLookups brings the pinned instances of take_lookup to this build's code,
// and removes those whose namespace is gone.
func (d *Datapath) adoptLookups() error {
	return d.eachLookup(func(cookie uint64, l link.Link) error {
		inode, err := attachedNetns(l)
		if err != nil {
			return err
		}
		if inode == 0 {
			return os.Remove(d.pins.LookupFile(cookie))
		}
		p, err := d.loadLookup(cookie)
		if err != nil {
			return err
		}
		defer p.Close()
		return d.replaceProgram(l, p)
	})
}

// eachLookup calls f with every pinned link of take_lookup.
func (d *Datapath) eachLookup(f func(cookie uint64, l link.Link) error) error {
	cookies, err := d.pins.Lookups()
	if err != nil {
		return fmt.Errorf("find lookups: %w", err)
	}
	for _, cookie := range cookies {
		l, err := link.LoadPinnedLink(d.pins.LookupFile(cookie), nil)
		if err != nil {
			return fmt.Errorf("open lookup of netns %d: %w", cookie, err)
		}
		if err := errors.Join(f(cookie, l), l.Close()); err != nil {
			return fmt.Errorf("lookup of netns %d: %w", cookie, err)
		}
	}
	return nil
}
