//go:build guest

package lane_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/dubway/dubway/agent/datapath/lane"
	"github.com/dubway/dubway/agent/datapath/lane/lanetest"
)

// hoard makes connections whose other ends read nothing, until the kernel counts what they
// hold: it counts by the MiB on each CPU.
func hoard(t *testing.T, r *lanetest.Rig) {
	t.Helper()
	for range 8 {
		c := r.DialPlain(lanetest.Families[0])
		lanetest.Must(t, c.App.SetWriteDeadline(time.Now().Add(time.Second)))
		if n, err := c.App.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%d bytes were hoarded: %v", n, err)
		}
	}
}

// exchange has a few bytes go there and back within a limit.
func exchange(c lanetest.Pair, limit time.Duration) error {
	for i, way := range [][2]*net.TCPConn{{c.App, c.Proxy}, {c.Proxy, c.App}} {
		sent, got := bytes.Repeat([]byte{byte('a' + i)}, 200), make([]byte, 200)
		for _, one := range way {
			if err := one.SetDeadline(time.Now().Add(limit)); err != nil {
				return err
			}
		}
		if _, err := way[0].Write(sent); err != nil {
			return fmt.Errorf("write, way %d: %w", i, err)
		}
		if _, err := io.ReadFull(way[1], got); err != nil {
			return fmt.Errorf("read, way %d: %w", i, err)
		}
		if !bytes.Equal(sent, got) {
			return fmt.Errorf("way %d: %q is %q", i, sent, got)
		}
	}
	return nil
}

// TestBeyondMemoryOfTCP: when TCP on this host has more than the third number of tcp_mem a
// connection goes on if no lane knows it, and if its sockets have left the lanes' maps. In
// the maps it stands still, and goes on standing when there is memory again, unless its other
// end sends something, or it is woken: that is the kernel's, and why they leave.
func TestBeyondMemoryOfTCP(t *testing.T) {
	before, set := memoryOfTCP(t)
	r := lanetest.New(t, 8)
	plain, c, other := r.DialPlain(lanetest.Families[0]), r.DialConsumer(lanetest.Families[0]), r.DialConsumer(lanetest.Families[0])
	for _, one := range []lanetest.Pair{plain, c, other} {
		lanetest.Must(t, exchange(one, 30*time.Second))
	}
	hoard(t, r)
	if s, err := r.Lane.Strain(); err != nil || s != lane.StrainNone {
		t.Errorf("strain is %d, %v", s, err)
	}
	for _, step := range []struct {
		memory string
		want   lane.Strain
	}{{"1 100000 200000", lane.StrainSome}, {"1 2 200000", lane.StrainMuch}, {"1 2 3", lane.StrainMuch}} {
		set(step.memory)
		if s, err := r.Lane.Strain(); err != nil || s != step.want {
			t.Errorf("%s: strain is %d, %v; want %d", step.memory, s, err, step.want)
		}
	}
	for range 10 {
		lanetest.Must(t, exchange(plain, 30*time.Second))
	}
	t.Logf("in the maps: %v", exchange(c, 3*time.Second))
	lanetest.Must(t, r.Lane.Shut(true))
	leave(t, r, 0)
	for range 10 {
		if err := exchange(other, 30*time.Second); err != nil {
			t.Fatalf("a connection that has left the maps: %v", err)
		}
	}
	late := r.DialConsumer(lanetest.Families[0])
	if err := exchange(late, 30*time.Second); err != nil {
		t.Errorf("a connection that was made meanwhile: %v", err)
	}

	// How the kernel treats one that stays.
	lanetest.Must(t, r.Lane.Shut(false))
	set(before)
	stays := r.DialConsumer(lanetest.Families[0])
	lanetest.Must(t, exchange(stays, 30*time.Second))
	set("1 2 3")
	written := make(chan error, 1)
	lanetest.Must(t, stays.App.SetDeadline(time.Time{}))
	go func() { _, err := stays.App.Write(make([]byte, 200)); written <- err }()
	said := func(when string) {
		select {
		case err := <-written:
			written <- err
			t.Logf("%s it had written (%v)", when, err)
		case <-time.After(3 * time.Second):
			t.Logf("%s it has not written", when)
		}
	}
	said("in the maps, without memory")
	set(before)
	said("with memory again")
	r.Consumer.Do(func() { lanetest.Must(t, r.Lane.Wake()) })
	select {
	case err := <-written:
		lanetest.Must(t, err)
	case <-time.After(30 * time.Second):
		t.Error("who waited to write was not woken")
	}
}
