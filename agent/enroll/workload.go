package enroll

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/internal/handoff"
)

// The ports of the mesh in a pod's network namespace.
const (
	OutboundPort = 15001
	InboundPort  = 15006
)

// Workload is an enrolled pod. Immutable: a change makes a new one, which shares
// the sockets with the old.
type Workload struct {
	Pod       *pods.Pod
	Cookie    uint64
	Netns     *netns.Namespace
	Listeners []Listener
}

// Listener is a listening socket in the pod's network namespace.
type Listener struct {
	handoff.Listener

	At     netip.AddrPort
	Socket *netns.Socket
}

// listeners is what is opened in a pod's network namespace. The outbound ones
// are only reachable from the pod itself.
func listeners(ipv6 bool) []Listener {
	at := func(direction handoff.Direction, family int, addr string, port uint16) Listener {
		return Listener{
			Listener: handoff.Listener{Direction: direction, Family: family},
			At:       netip.AddrPortFrom(netip.MustParseAddr(addr), port),
		}
	}
	all := []Listener{
		at(handoff.Outbound, 4, "127.0.0.1", OutboundPort),
		at(handoff.Inbound, 4, "0.0.0.0", InboundPort),
	}
	if ipv6 {
		all = append(all,
			at(handoff.Outbound, 6, "::1", OutboundPort),
			at(handoff.Inbound, 6, "::", InboundPort))
	}
	return all
}

// Message returns the workload as the proxy is told of it.
func (w *Workload) Message() *handoff.Workload {
	m := &handoff.Workload{
		UID: w.Pod.UID, Name: w.Pod.Name, Namespace: w.Pod.Namespace, Labels: w.Pod.Labels, Annotations: w.Pod.Annotations,
		ServiceAccount: w.Pod.ServiceAccount, NetnsCookie: w.Cookie,
		Addresses: w.Pod.Addresses, Ports: w.Pod.Ports,
	}
	for _, l := range w.Listeners {
		m.Listeners = append(m.Listeners, l.Listener)
	}
	return m
}

// Serves tells whether to is one of the pod's own addresses with an enrolled port.
func (w *Workload) Serves(to netip.AddrPort) bool {
	return slices.Contains(w.Pod.Addresses, to.Addr()) && slices.Contains(w.Pod.Ports, to.Port())
}

// datapath returns the workload as the datapath is told of it.
func (w *Workload) datapath() datapath.Workload {
	d := datapath.Workload{Cookie: w.Cookie, Addresses: w.Pod.Addresses, Ports: w.Pod.Ports, Netns: w.Netns}
	for _, l := range w.Listeners {
		d.Listeners = append(d.Listeners, l.Socket)
	}
	return d
}

// close lets go of the workload's sockets. Duplicates that the proxy holds live on.
func (w *Workload) close() {
	w.deafen()
	_ = w.Netns.Close()
}

func (w *Workload) deafen() {
	for _, l := range w.Listeners {
		_ = l.Socket.Close()
	}
}

// errTaken says that somebody else listens on a port of the mesh.
var errTaken = errors.New("the port is taken by another program in the pod")

// listen adopts the wanted listeners from offers, which the proxy holds since an
// earlier agent opened them, and opens those that are not there.
func (w *Workload) listen(offers []*netns.Socket) error {
	for _, l := range listeners(w.Netns.HasIPv6()) {
		socket, err := adopt(w.Netns, offers, l.At)
		if err == nil && socket == nil {
			socket, err = w.Netns.Listen(l.At)
		}
		if errors.Is(err, unix.EADDRINUSE) {
			err = errTaken
		}
		if err != nil {
			return fmt.Errorf("open listener %s: %w", l.At, err)
		}
		l.Socket = socket
		w.Listeners = append(w.Listeners, l)
	}
	return nil
}

// adopt returns a duplicate of the offered listener at an address, or nil. An
// offer is believed in nothing: the kernel says what it is.
func adopt(ns *netns.Namespace, offers []*netns.Socket, at netip.AddrPort) (*netns.Socket, error) {
	for _, o := range offers {
		if ns.CheckListener(o, at) != nil {
			continue
		}
		fd, err := o.Duplicate()
		if err != nil {
			return nil, err
		}
		return netns.Keep(fd), nil
	}
	return nil, nil
}

// check tells whether what was opened is still there: the proxy shares the
// listeners and could have shut one down.
func (w *Workload) check() error {
	for _, l := range w.Listeners {
		if err := w.Netns.CheckListener(l.Socket, l.At); err != nil {
			return fmt.Errorf("check listener %s: %w", l.At, err)
		}
	}
	return nil
}

// cookie asks the datapath for the name of a network namespace.
func cookie(d Datapath, ns *netns.Namespace) (uint64, error) {
	var result uint64
	probe, err := ns.Socket()
	if err != nil {
		return 0, err
	}
	defer func() { _ = probe.Close() }()
	result, err = d.NetnsCookie(syscall.Conn(probe))
	if err != nil {
		return 0, fmt.Errorf("get netns cookie: %w", err)
	}
	return result, nil
}
