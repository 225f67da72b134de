package server

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/limit"
	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/internal/handoff"
)

// Marker makes a socket the mesh's own; package datapath has it.
type Marker interface {
	// MarkSocket does so before the socket connects; client may be invalid.
	MarkSocket(fd int, client netip.AddrPort) error
}

// LaneMarker makes a socket a lane's end to a provider; package lanes has it.
type LaneMarker interface {
	// MarkLane does so before the socket connects, for the provider's workload. Its errors
	// say why that one has no lanes.
	MarkLane(w *enroll.Workload, fd int) error
}

// Dialer makes the sockets that the proxy asks for. The proxy is the part of the
// mesh that an attacker would take over: nothing that it says is believed, and
// what it may reach is limited to what a service mesh has business with.
type Dialer struct {
	mark     Marker
	lanes    LaneMarker // nil where there are none
	workload func(uid string) *enroll.Workload
	node     atomic.Pointer[map[netip.Addr]bool] // never nil
	quota    *limit.Quota
	halted   atomic.Bool // see Halt
}

// NewDialer makes a Dialer that knows nobody until Use.
func NewDialer() *Dialer {
	nobody := func(string) *enroll.Workload { return nil }
	d := &Dialer{workload: nobody, quota: limit.NewQuota()}
	d.node.Store(&map[netip.Addr]bool{})
	return d
}

// Use sets how sockets are marked and whose they may be. Before the first dial.
func (d *Dialer) Use(mark Marker, workload func(uid string) *enroll.Workload) {
	d.mark, d.workload = mark, workload
}

// UseLanes sets how sockets are marked for lanes. Before the first dial.
func (d *Dialer) UseLanes(mark LaneMarker) { d.lanes = mark }

// Forget drops what is counted of workloads that are no more.
func (d *Dialer) Forget() {
	d.quota.Forget(func(uid string) bool { return d.workload(uid) != nil })
}

// Halt refuses all dials from now on: another agent's programs do not know our marks, and
// would steer what we dial.
func (d *Dialer) Halt() { d.halted.Store(true) }

// begin admits a dial by its workload's limits. Every nil error wants an end.
func (d *Dialer) begin(uid string) error {
	if d.workload(uid) == nil {
		return &handoff.DialError{Code: handoff.DialUnknown, Text: "no workload " + uid + " is enrolled"}
	}
	return d.quota.Take(uid)
}

func (d *Dialer) end(uid string) { d.quota.Give(uid) }

// dial returns a socket that connects, or a *handoff.DialError.
func (d *Dialer) dial(ask *handoff.Dial) (int, error) {
	if d.halted.Load() {
		return -1, &handoff.DialError{Code: handoff.DialExhausted, Text: "an agent of another release has replaced the datapath"}
	}
	w := d.workload(ask.Workload)
	if w == nil {
		return -1, &handoff.DialError{Code: handoff.DialUnknown, Text: "no workload " + ask.Workload + " is enrolled"}
	}
	to := netip.AddrPortFrom(ask.Destination.Addr().Unmap(), ask.Destination.Port())
	own, err := d.permit(w, to)
	if err != nil {
		return -1, err
	}
	if ask.Lane && (!own || d.lanes == nil) {
		return -1, deny(to, "a lane leads to a pod of this node at its own address, where there are lanes")
	}
	client := netip.AddrPort{}
	if own {
		client = ask.Client
	}
	fd, err := w.Netns.Dial(to, func(fd int) error {
		if !own {
			if err := abroad(to.Addr()); err != nil {
				return err
			}
		}
		if err := d.mark.MarkSocket(fd, client); err != nil || !ask.Lane {
			return err
		}
		if err := d.lanes.MarkLane(w, fd); err != nil {
			return deny(to, err.Error())
		}
		return nil
	})
	if _, ok := errors.AsType[*handoff.DialError](err); err != nil && !ok {
		err = &handoff.DialError{Code: handoff.DialFailed, Text: err.Error()}
	}
	return fd, err
}

// permit tells whether w may be dialled for at to, and whether that is the pod
// itself.
func (d *Dialer) permit(w *enroll.Workload, to netip.AddrPort) (own bool, err error) {
	for _, a := range w.Pod.Addresses {
		if a != to.Addr() {
			continue
		}
		if !w.Serves(to) {
			return true, deny(to, "the pod has no such enrolled port")
		}
		return true, nil
	}
	if why := limit.Denied(to.Addr(), *d.node.Load()); why != "" {
		return false, deny(to, why)
	}
	return false, nil
}

// abroad refuses what the pod's own routes would keep in the pod: an address
// that its description does not tell of would lead to a debug port just as well.
func abroad(to netip.Addr) error {
	unicast, err := netns.Unicast(to)
	switch {
	case err != nil:
		return err
	case !unicast:
		return deny(netip.AddrPortFrom(to, 0), "the pod's routes keep it in the pod")
	}
	return nil
}

func deny(to netip.AddrPort, why string) error {
	return &handoff.DialError{Code: handoff.DialDenied, Text: fmt.Sprintf("%s: %s", to.Addr(), why)}
}

// RefreshNode reads the node's addresses again: those of the agent's own network
// namespace, those of the host's where the agent sees the host's processes
// (hostPID), and the fixed ones. What cannot be read keeps its last known
// addresses: a denied address stays denied.
func (d *Dialer) RefreshNode(fixed []netip.Addr) error {
	fresh := make(map[netip.Addr]bool)
	own, err := ownAddresses()
	host, hostErr := netns.ProcessAddresses(1)
	err = errors.Join(err, hostErr)
	for _, list := range [][]netip.Addr{fixed, own, host} {
		for _, a := range list {
			fresh[a.Unmap()] = true
		}
	}
	if err != nil {
		maps.Copy(fresh, *d.node.Load())
	}
	d.node.Store(&fresh)
	return err
}

// IsNode tells whether an address is one of the node's.
func (d *Dialer) IsNode(a netip.Addr) bool { return (*d.node.Load())[a] }

func ownAddresses() ([]netip.Addr, error) {
	ns, err := netns.Open(netns.Self)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }()
	return ns.Addresses()
}

// closeFD closes what nobody took.
func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}
