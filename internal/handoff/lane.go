package handoff

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/dubway/dubway/internal/handoff/field"
	"github.com/dubway/dubway/internal/handoff/rights"
	"github.com/dubway/dubway/internal/lane"
)

// LaneMode says whether same-node calls take a lane.
type LaneMode string

// The modes of lanes.
const (
	LaneOn      LaneMode = "on"
	LaneObserve LaneMode = "observe" // it is decided which calls would, and none does
	LaneOff     LaneMode = "off"     // those that are open are closed, without losing a call
)

// Lanes says whether there are lanes on this node, and with which memory. It comes after
// Hello, before the first Workload, and again when something of it changes. The files of
// the memory, lane.Files in the order of package lane, come the first time that there are
// any on a connection: those of a later message without Sizes are the same.
type Lanes struct {
	Mode LaneMode `json:"mode"`
	Why  string   `json:"why,omitempty"` // of the mode, for people
	// Maps tells memories apart: one with the number of an earlier connection is the same,
	// with all lanes that are in it. 0 where there is none.
	Maps  uint64     `json:"maps,omitempty"`
	Sizes lane.Sizes `json:"sizes,omitzero"` // zero where no files come
}

// Lane is an open lane, of which the agent holds the sockets: while there is no proxy they
// live, and the next one gets them. A proxy tells of each when it is open and whenever it
// has changed, and of all after each SnapshotEnd; those of it that the agent knew from an
// earlier connection it has let go by then. An agent gives a new proxy those of one that is
// gone after the Workloads, before SnapshotEnd; what that one does not take is closed.
//
// The sockets are duplicates: the last close ends a connection, so who ends one shuts it
// down first, or says LaneGone. They are in the order A, then one for each of Ends.
type Lane struct {
	Number      uint32         `json:"number"`      // in the memory
	Maps        uint64         `json:"maps"`        // of Lanes: which memory
	Workload    string         `json:"workload"`    // UID of the consumer
	Destination netip.AddrPort `json:"destination"` // what it dialled
	Consumer    netip.AddrPort `json:"consumer"`    // its end of A
	Ends        []LaneEnd      `json:"ends,omitempty"`
}

// LaneEnd is a lane's connection to a provider of this node.
type LaneEnd struct {
	Number   uint8          `json:"number"`   // below lane.Ends
	Workload string         `json:"workload"` // UID of the provider
	Address  netip.AddrPort `json:"address"`  // that was dialled
}

// LaneGone says that a lane is no more; its sockets are let go of.
type LaneGone struct {
	Number uint32 `json:"number"`
}

// Adopter is a Handler that takes the lanes of a proxy that is gone. A Client whose Handler
// is none refuses them.
type Adopter interface {
	// Lane is one of them, between the last Workload and SnapshotEnd. The files are its
	// sockets, A first, and are the Adopter's to close. An error refuses it: the agent
	// closes its connections then.
	Lane(l *Lane, files []*os.File) error
}

func (l *Lanes) validate() error {
	switch l.Mode {
	case LaneOn, LaneObserve, LaneOff:
	default:
		return fmt.Errorf("mode is %q, not on, observe or off", l.Mode)
	}
	if l.Mode == LaneOn && l.Maps == 0 {
		return errors.New("on without maps")
	}
	s := &l.Sizes
	if *s == (lane.Sizes{}) {
		return field.Text("why", l.Why)
	}
	switch {
	case l.Maps == 0:
		return errors.New("files without maps")
	case min(s.Version, s.Lanes, s.Routes, s.Series, s.CPUs, s.Active, s.Log) <= 0:
		return fmt.Errorf("sizes %+v", *s)
	}
	return field.Text("why", l.Why)
}

func (l *Lane) validate() error {
	switch n := len(l.Ends); {
	case l.Maps == 0:
		return errors.New("maps are missing")
	case n > lane.Ends:
		return fmt.Errorf("%d ends", n)
	}
	if err := errors.Join(field.Name("workload", l.Workload), field.AddrPort("destination", l.Destination),
		field.AddrPort("consumer", l.Consumer)); err != nil {
		return err
	}
	for i, e := range l.Ends {
		switch {
		case e.Number >= lane.Ends:
			return fmt.Errorf("end %d", e.Number)
		case slices.ContainsFunc(l.Ends[:i], func(other LaneEnd) bool { return other.Number == e.Number }):
			return fmt.Errorf("two ends %d", e.Number)
		}
		if err := errors.Join(field.Name("workload", e.Workload), field.AddrPort("address", e.Address)); err != nil {
			return err
		}
	}
	return nil
}

// Lane gives the agent duplicates of a lane's sockets, A first, which stay the caller's;
// ErrNotConnected if there is no agent. When it returns nil a proxy that dies leaves them.
func (c *Client) Lane(l *Lane, fds ...int) error {
	return c.tell(&Message{Kind: KindLane, Lane: l}, fds...)
}

// LaneGone has the agent let go of a lane; ErrNotConnected if there is none, which then
// holds nothing either.
func (c *Client) LaneGone(number uint32) error {
	return c.tell(&Message{Kind: KindLaneGone, LaneGone: &LaneGone{Number: number}})
}

// tell sends what wants no answer.
func (c *Client) tell(m *Message, fds ...int) error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return ErrNotConnected
	}
	return conn.Send(m, fds...)
}

// lanes hands what is said of lanes over. It owns fds.
func (c *Client) lanes(l *Lanes, fds []int) error {
	err := c.handler.Lanes(l, named(fds, "lanes"))
	if err == nil && l.Maps != 0 {
		c.maps = l.Maps
	}
	return err
}

// lane hands a lane of an earlier proxy over. It owns fds.
func (c *Client) lane(l *Lane, fds []int) error {
	adopter, ok := c.handler.(Adopter)
	if !ok {
		rights.Close(fds)
		return errors.New("this proxy adopts no lanes")
	}
	return adopter.Lane(l, named(fds, "lane"))
}

// named makes files of descriptors, which are the files' then.
func named(fds []int, name string) []*os.File {
	files := make([]*os.File, len(fds))
	for i, fd := range fds {
		files[i] = os.NewFile(uintptr(fd), name)
	}
	return files
}
