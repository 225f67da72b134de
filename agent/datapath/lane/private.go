package lane

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/dubway/dubway/bpf"
)

// Private loads programs, those of bpf.LoadLane, with maps of their own, which nobody else
// sees, and attaches them to the cgroup beside what is there. Nothing of it is pinned: it
// is gone with Close, or with the process. Options.PinPath is not used. The spec is changed.
func Private(spec *ebpf.CollectionSpec, opts Options) (*Lane, error) {
	l := &Lane{log: opts.Logger, cgroup: opts.Cgroup, types: opts.Types, links: map[string]link.Link{}}
	if err := l.size(spec, opts.Lanes); err != nil {
		return nil, fmt.Errorf("open private lanes: %w", err)
	}
	if err := l.privately(opts); err != nil {
		return nil, errors.Join(fmt.Errorf("open private lanes: %w", err), l.Close())
	}
	return l, nil
}

func (l *Lane) privately(opts Options) error {
	coll, err := l.begin(map[string]*ebpf.Map{bpf.LaneMapSockets: opts.Sockets})
	if err != nil {
		return err
	}
	defer closePrograms(coll)
	for _, name := range hooks {
		if err := l.attach(name, coll.Programs[name]); err != nil {
			return err
		}
	}
	return nil
}
