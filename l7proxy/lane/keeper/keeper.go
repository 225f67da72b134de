// Package keeper has the agent keep what lanes are made of, so that it outlives the proxy.
// It opens and closes nothing of a lane.
package keeper

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/workload"
)

// Agent keeps sockets. It is a *handoff.Client.
type Agent interface {
	Lane(l *handoff.Lane, fds ...int) error
	LaneGone(number uint32) error
}

var _ Agent = (*handoff.Client)(nil)

// Lane is one that is open.
type Lane struct {
	Number      uint32
	Workload    string // the consumer's
	Destination netip.AddrPort
	Consumer    netip.AddrPort
	Conn        *sock.Conn
	Ends        []End
}

// End is its connection to a provider.
type End struct {
	Number  uint8
	Address netip.AddrPort
	Conn    *sock.Conn
}

// Keeper tells the agent. Safe for concurrent use.
type Keeper struct {
	agent     Agent
	maps      func() uint64
	workloads *workload.Registry
}

// New makes a Keeper. Maps returns the number of the memory that lanes are in at present.
func New(a Agent, maps func() uint64, r *workload.Registry) *Keeper {
	return &Keeper{agent: a, maps: maps, workloads: r}
}

// Keep gives the agent duplicates of a lane's sockets in place of those that it had. An end
// whose connection has closed, or whose pod has gone, is left out. Handoff.ErrNotConnected
// says that there is no agent.
func (k *Keeper) Keep(l *Lane) error {
	said := handoff.Lane{
		Number: l.Number, Maps: k.maps(), Workload: l.Workload, Destination: l.Destination, Consumer: l.Consumer,
	}
	var fds []int
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	fd, err := duplicate(l.Conn)
	if err != nil {
		return fmt.Errorf("keep lane: %w", err)
	}
	fds = append(fds, fd)
	for _, e := range l.Ends {
		provider := k.workloads.ByAddress(e.Address.Addr())
		if provider == nil {
			continue
		}
		if fd, err = duplicate(e.Conn); err != nil {
			continue
		}
		fds = append(fds, fd)
		said.Ends = append(said.Ends, handoff.LaneEnd{Number: e.Number, Workload: provider.UID, Address: e.Address})
	}
	if err = k.agent.Lane(&said, fds...); err != nil {
		return fmt.Errorf("keep lane: %w", err)
	}
	return nil
}

// LetGo says that a lane is no more. Without an agent there is nobody who has it.
func (k *Keeper) LetGo(number uint32) { _ = k.agent.LaneGone(number) }

func duplicate(c *sock.Conn) (fd int, err error) {
	closed := c.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	if closed != nil {
		return -1, closed
	}
	if err != nil {
		return -1, fmt.Errorf("duplicate socket: %w", err)
	}
	return fd, nil
}
