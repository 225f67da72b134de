// Package socktest makes connections for tests of what reads and writes them.
package socktest

import (
	"net"
	"testing"

	"github.com/dubway/dubway/l7proxy/sock"
)

// Pair is a connection over loopback that lives until the test ends: the end that accepted,
// as a sock.Conn, and the one that dialled.
func Pair(tb testing.TB) (*sock.Conn, net.Conn) {
	tb.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	far, err := new(net.Dialer).DialContext(tb.Context(), "tcp", ln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	near, err := ln.AcceptTCP()
	if err != nil {
		tb.Fatal(err)
	}
	c, err := sock.New(near)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _, _ = c.Close(), far.Close() })
	return c, far
}
