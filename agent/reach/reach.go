// Package reach asks whether the way of a pod's calls works, from end to end: it makes
// an ordinary socket in the pod's network namespace, connects it to an address that
// every table of destinations steers and nobody can have (lack.Asked), and compares
// what it reads with the lines that the proxy may send (package lack). So the connect program, the
// workload's entry, its table, the bridge, the listener, the proxy that accepts and
// SO_ORIGINAL_DST have all done their part, of each family that the pod has; and the proxy
// says whether what the pod sees of the mesh is in force behind it, since until then the
// pod's connects to services would pass unsteered.
//
// What it does not prove: that the programs run for the sockets of the pod's own cgroup,
// which the kernel is asked (Datapath.Effective), and the way in, which cannot be
// tried: a pod's calls to itself are never taken, and whether anybody else may call it
// is a NetworkPolicy's to say.
//
// The agent parses nothing here: the bytes are equal to those of a line, or are not.
// They are the proxy's as long as 127.0.0.1:15001 is; a pod with the power to translate
// its own addresses could feign them, and would feign its own enrolment.
package reach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/handoff/lack"
)

// timeout bounds one question. The proxy is on this node; while it is very busy, its
// answer may take a while.
const timeout = 5 * time.Second

// The reasons that are told apart before anything is sent.
var (
	errNoProxy    = errors.New("no proxy is connected to the agent; see the log of dubway-proxy")
	errNotSteered = errors.New("the connection was not steered: the proxy has published no destinations yet, or another program " +
		"changes where it goes")
)

// Prober asks. Its methods may be called concurrently.
type Prober struct {
	// Connected tells whether a proxy is connected. Without one a question would wait in
	// the listener's backlog, and take a connection's room there.
	Connected func() bool
	// Refused tells why a workload's table of destinations was not put in force; nil if it
	// was, or if nobody asked for that.
	Refused func(uid string) error
}

var _ enroll.Prober = (*Prober)(nil)

// Reach returns nil if the way of a workload's calls works, by each family of its
// outbound listeners, and its own configuration is in force there; else why not: an
// *enroll.Refusal where only the latter is missing. It takes some seconds at most.
func (p *Prober) Reach(ctx context.Context, w *enroll.Workload) error {
	if !p.Connected() {
		return errNoProxy
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for _, l := range w.Listeners {
		if l.Direction != handoff.Outbound {
			continue
		}
		to := lack.Asked()[0]
		if l.Family == 6 {
			to = lack.Asked()[1]
		}
		missing, err := ask(ctx, w, to)
		if err != nil {
			return fmt.Errorf("IPv%d: %w", l.Family, err)
		}
		if missing != lack.None {
			return &enroll.Refusal{Class: enroll.ClassUnconfigured, Err: p.explain(missing, w.Pod.UID)}
		}
	}
	return nil
}

// ask connects by one family and compares the answer, which says what is missing.
func ask(ctx context.Context, w *enroll.Workload, to netip.AddrPort) (lack.Lack, error) {
	fd, err := w.Netns.Dial(to, short)
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return lack.None, errNotSteered
	case err != nil:
		return lack.None, err
	}
	file := os.NewFile(uintptr(fd), "question")
	// Of a socket that is still connecting net knows the peer when it is asked, and
	// waits for the answer as for any other's.
	conn, err := net.FileConn(file)
	_ = file.Close()
	if err != nil {
		return lack.None, fmt.Errorf("use socket: %w", err)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	got, err := io.ReadAll(io.LimitReader(conn, int64(lack.Longest(w.Pod.UID))+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return lack.None, fmt.Errorf("no answer: the proxy does not accept, or another program changes where connections go: %w",
			context.Cause(ctx))
	case err != nil:
		return lack.None, failed(err)
	}
	missing, ok := lack.Of(w.Pod.UID, got)
	if !ok {
		return lack.None, fmt.Errorf("the answer is another one than the proxy's for this pod (%d bytes): another program changes where "+
			"connections go, or the proxy is of another release", len(got))
	}
	return missing, nil
}

// failed says what an error of the connection means.
func failed(err error) error {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("nobody listens for it: %w", err)
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return errNotSteered
	}
	return fmt.Errorf("read answer: %w", err)
}

// short keeps what is not steered within the pod: a packet for the address would be
// nobody's, and should not be on the node's link either.
func short(fd int) error {
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return fmt.Errorf("get SO_DOMAIN: %w", err)
	}
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 1)
	} else {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, 1)
	}
	if err != nil {
		return fmt.Errorf("set hop limit: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DONTROUTE, 1); err != nil {
		return fmt.Errorf("set SO_DONTROUTE: %w", err)
	}
	return nil
}
