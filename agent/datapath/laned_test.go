package datapath

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/bpf"
)

// TestLaned: a connect to what may be in a lane is steered as any other, and its socket says
// so; registries' ports are left alone here too.
func TestLaned(t *testing.T) {
	r := newRig(t)
	d := r.open()
	a, _ := r.steer(d)
	a.do(func() { must(t, defaultRoute()) })
	must(t, publish(d, 1, []Destination{
		{Prefix: prefix("10.96.0.0/16"), Port: 20880, Lane: true}, {Prefix: prefix("10.97.0.0/16"), Port: 20880},
		{Prefix: prefix("10.98.0.0/16"), Lane: true},
	}))
	for to, want := range map[string]struct {
		outcome string
		laned   uint32
	}{
		"10.96.0.1:20880": {"steered", 1},
		"10.97.0.1:20880": {"steered", 0},
		"10.98.0.1:1":     {"steered", 1},
		"10.98.0.1:2181":  {"no_destination", 0},
	} {
		before := counters(t, d)[want.outcome]
		fd := a.socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		_ = connect(fd, sockaddr(netip.MustParseAddrPort(to)))
		if n := counters(t, d)[want.outcome] - before; n != 1 {
			t.Errorf("connect to %s: %s counted %d times, want once", to, want.outcome, n)
		}
		var s bpf.SteerSocket
		if err := d.Sockets().Lookup(uint32(fd), &s); want.outcome == "steered" && err != nil || s.Flow.Laned != want.laned {
			t.Errorf("socket to %s: laned %d (%v), want %d", to, s.Flow.Laned, err, want.laned)
		}
	}
}
