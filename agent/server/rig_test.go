package server

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/netns/netnstest"
	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/agent/table"
)

// stub is a datapath that remembers what it is told.
type stub struct {
	mu         sync.Mutex
	clients    []netip.AddrPort // of each marked socket
	published  []datapath.Destination
	generation uint64
	full       error
	gate       atomic.Pointer[gate] // for generation 9
}

var (
	_ enroll.Datapath = (*stub)(nil)
	_ Marker          = (*stub)(nil)
	_ table.Datapath  = (*stub)(nil)
)

func (s *stub) MarkSocket(_ int, client netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients = append(s.clients, client)
	return nil
}

// gate is where a generation waits before it is put in force.
type gate struct{ reached, opens chan struct{} }

func (s *stub) Publish(_ uint32, t datapath.Table) error {
	if g := s.gate.Load(); g != nil && t.Generation == 9 {
		close(g.reached)
		<-g.opens
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full != nil {
		return s.full
	}
	s.generation, s.published = t.Generation, t.Destinations
	return nil
}

func (s *stub) last() (uint64, []datapath.Destination) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation, s.published
}

func (s *stub) fill(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = err
}

func (s *stub) NetnsCookie(socket syscall.Conn) (cookie uint64, err error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		cookie, err = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	})
	return cookie, errors.Join(controlErr, err)
}

func (s *stub) SetWorkload(datapath.Workload) error { return nil }

func (s *stub) DeleteWorkload(uint64) error { return nil }

func (s *stub) Withdraw(uint32) error { return nil }

func (s *stub) Move(uint64, uint32) error { return nil }

func (s *stub) Workloads() ([]uint64, error) { return nil, nil }

func (s *stub) Effective(string) error { return nil }

func describe(name string, ns *netnstest.Netns, addresses ...string) *pods.Pod {
	p := &pods.Pod{UID: "shop/" + name, Name: name, Namespace: "shop", Netns: ns.Path, Ports: []uint16{20880}}
	for _, a := range addresses {
		p.Addresses = append(p.Addresses, netip.MustParseAddr(a))
	}
	return p
}

// trap listens in a namespace and counts who comes.
type trap struct {
	mu    sync.Mutex
	peers []netip.AddrPort
}

func (c *trap) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.peers)
}

// wait waits for the nth connection.
func (c *trap) wait(t *testing.T, n int) {
	t.Helper()
	for range 3000 {
		if c.count() >= n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%d connections instead of %d", c.count(), n)
}

func setTrap(t *testing.T, ns *netnstest.Netns, at string) *trap {
	t.Helper()
	var l net.Listener
	network := "tcp4"
	if at[0] == '[' {
		network = "tcp6"
	}
	ns.Must(func() (err error) { l, err = net.Listen(network, at); return err })
	t.Cleanup(func() { l.Close() })
	c := &trap{}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.peers = append(c.peers, conn.RemoteAddr().(*net.TCPAddr).AddrPort())
			c.mu.Unlock()
			conn.Close()
		}
	}()
	return c
}
