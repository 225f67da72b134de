// Package loaded joins the programs that steer and those of the lanes: the latter are loaded
// beside the former, of which they need the sockets, and a status tells of both.
package loaded

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/datapath/lane"
	"github.com/dubway/dubway/agent/datapath/lane/selftest"
	"github.com/dubway/dubway/agent/lanes"
)

// Datapath is a datapath and the lanes' programs beside it, once there are any. While it is
// locked no programs are attached of which its status does not tell. Open and SelfTest lock
// it, Status does not.
type Datapath struct {
	*datapath.Datapath
	sync.Mutex

	PinPath, Cgroup string
	Log             *slog.Logger

	programs atomic.Pointer[lane.Lane] // nil: none
}

// SelfTest tries on this kernel what lanes depend on.
func (d *Datapath) SelfTest(ctx context.Context) error {
	d.Lock()
	defer d.Unlock()
	began := time.Now()
	err := selftest.Run(ctx, d.Cgroup)
	if err == nil {
		d.Log.Info("lanes work on this kernel", "took", time.Since(began))
	}
	return err
}

// Open loads the lanes' programs, or adopts those that are pinned.
func (d *Datapath) Open() (lanes.Programs, error) {
	d.Lock()
	defer d.Unlock()
	programs, err := lane.Open(lane.Options{PinPath: d.PinPath, Cgroup: d.Cgroup, Sockets: d.Sockets(), Logger: d.Log})
	if err != nil { // no interface of a nil pointer
		return nil, err
	}
	d.programs.Store(programs)
	return programs, nil
}

// Pinned tells whether an earlier agent left some.
func (d *Datapath) Pinned() bool { return lane.Pinned(d.PinPath) }

// Status is the datapath's, with the lanes' programs.
func (d *Datapath) Status() (datapath.Status, error) {
	s, err := d.Datapath.Status()
	programs := d.programs.Load()
	if programs == nil {
		return s, err
	}
	all, more := programs.Programs()
	for _, p := range all {
		s.Programs = append(s.Programs, datapath.Program(p))
	}
	return s, errors.Join(err, more)
}
