package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath/host"
	"github.com/dubway/dubway/agent/datapath/unknown"
	"github.com/dubway/dubway/bpf"
	"github.com/dubway/dubway/internal/handoff/lack"
)

func TestTablesFit(t *testing.T) {
	spec, err := bpf.LoadSteer()
	must(t, err)
	outer := spec.Maps[bpf.SteerMapDestinations]
	if outer.MaxEntries != MaxTables || int(outer.InnerMap.MaxEntries) != MaxDestinations+1+len(asked()) {
		t.Errorf("%d tables of %d entries, Go says %d of %d, one for the rest and those asked", outer.MaxEntries, outer.InnerMap.MaxEntries, MaxTables, MaxDestinations)
	}
}

// TestTablesSteerTheirOwn: two consumers, of which one's table has the destination.
func TestTablesSteerTheirOwn(t *testing.T) {
	r := newRig(t)
	d := r.open()
	a, b := r.steer(d) // what steer published is for all
	greet(t, "proxy of b", b.out["tcp4"])
	a.do(func() { must(t, defaultRoute()) })
	w := b.workload(d)
	must(t, d.SetWorkload(w))
	must(t, d.Publish(7, Table{Number: 3, Generation: 5, Destinations: []Destination{{Prefix: prefix("10.99.0.1/32"), Port: 1}}}))

	// want is what a connect of each becomes.
	want := func(step string, outcomes map[*pod]string) {
		t.Helper()
		for p, outcome := range outcomes {
			before := counters(t, d)[outcome]
			fd := p.socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
			_ = connect(fd, sockaddr(netip.MustParseAddrPort("10.99.0.1:1"))) // counted before it can fail
			if n := counters(t, d)[outcome] - before; n != 1 {
				t.Errorf("%s: %s counted %d times for %s, want once", step, outcome, n, p.addr4)
			}
		}
	}
	want("a table without workloads", map[*pod]string{a: "no_destination", b: "no_destination"})
	must(t, d.Move(w.Cookie, 7))
	want("b has a table", map[*pod]string{a: "no_destination", b: "steered"})
	again, err := Open(r.opts) // which survives the agent
	must(t, err)
	left, err := again.Steering()
	must(t, err)
	if got := left.Tables[7]; got != (TableStatus{Number: 3, Generation: 5, Unknown: PassUnknown, Entries: 1}) {
		t.Errorf("after a restart slot 7 is %+v", got)
	}
	if got := left.Tables[0]; got.Generation != 1 || got.Entries != 4 || len(left.Tables) != 2 {
		t.Errorf("after a restart the tables are %+v", left.Tables)
	}
	if left.Workloads[w.Cookie] != 7 || left.Workloads[a.cookie] != 0 || len(left.Workloads) != 2 {
		t.Errorf("after a restart the workloads are in %v", left.Workloads)
	}
	must(t, again.Close())
	want("the agent restarted", map[*pod]string{a: "no_destination", b: "steered"})
	w.Slot = 7
	must(t, d.SetWorkload(w))
	want("b was put again", map[*pod]string{b: "steered"})
	must(t, d.Move(w.Cookie, 0))
	must(t, d.Withdraw(7))
	must(t, d.Withdraw(7)) // nothing there
	want("b has none again", map[*pod]string{a: "no_destination", b: "no_destination"})
	if s, err := d.Steering(); err != nil || len(s.Tables) != 1 {
		t.Errorf("tables are left: %+v (%v)", s.Tables, err)
	}
	if err := d.Move(1<<40, 0); err == nil {
		t.Error("a workload that is not enrolled was moved")
	}
}

// TestMovesAreOneStep: a workload that goes from table to table, which come and go,
// is steered at each moment.
func TestMovesAreOneStep(t *testing.T) {
	r := newRig(t)
	d := r.open()
	a, _ := r.steer(d)
	must(t, publish(d, 1, nil)) // whoever meets the wrong table is not steered
	always := []Destination{{Prefix: prefix("10.128.0.0/16"), Port: 20880}}
	must(t, d.Publish(1, Table{Generation: 1, Destinations: always}))
	must(t, d.Move(a.cookie, 1))
	stop := hammer(t, a, "10.128.0.1:20880")
	// One processor may be too busy with moves to connect in between.
	deadline := time.Now().Add(30 * time.Second)
	for generation := uint64(0); generation < 150 || counters(t, d)["steered"] < 40 && time.Now().Before(deadline); generation++ {
		from, to := uint32(1+generation%3), uint32(1+(generation+1)%3)
		must(t, d.Publish(to, Table{Generation: generation + 2, Destinations: always}))
		must(t, d.Move(a.cookie, to))
		must(t, d.Withdraw(from))
		must(t, d.Publish(from, Table{Generation: generation, Unknown: RefuseUnknown})) // somebody else's
		must(t, d.Withdraw(from))
	}
	if n := stop(); n < 20 {
		t.Errorf("only %d connects under way", n)
	}
}

// bothErrnos runs a test with the errors that old and new kernels give.
func bothErrnos(t *testing.T, f func(t *testing.T, d *Datapath, r *rig, errno unix.Errno)) {
	t.Helper()
	for _, setErrno := range []bool{false, true} {
		t.Run(fmt.Sprintf("setErrno=%t", setErrno), func(t *testing.T) {
			if setErrno && !host.HaveSetErrno() {
				t.Skip("connect programs cannot choose the error (Linux 6.0)")
			}
			r := newRig(t)
			spec, err := bpf.LoadSteer()
			must(t, err)
			d := r.uninstallAfter(open(r.opts, spec, kernel{byInode: !host.HaveNetnsCookie(), setErrno: setErrno}))
			errno := unix.EPERM
			if setErrno {
				errno = unix.ECONNREFUSED
			}
			f(t, d, r, errno)
		})
	}
}

// TestUnknownDestinations is what becomes of connects that no entry is for, and of
// those that are never meant by that.
func TestUnknownDestinations(t *testing.T) {
	bothErrnos(t, func(t *testing.T, d *Datapath, r *rig, errno unix.Errno) {
		a, b := r.steer(d)
		a.do(func() { must(t, defaultRoute()) })
		greet(t, "app", b.serve("tcp4", ":9000"))
		greet(t, "app", b.serve("tcp6", ":9000"))
		greet(t, "own", a.serve("tcp4", "10.77.0.1:9000"))
		greet(t, "own", a.serve("tcp6", "[fd77::1]:9000"))
		greet(t, "own", a.serve("tcp4", "127.0.0.1:9000"))
		entries := []Destination{{Prefix: prefix("10.96.0.0/16"), Port: 0}, {Prefix: prefix("10.98.0.1/32"), Port: 20880}}
		const refused, counted, passes, steered = "unknown_refused", "unknown_counted", "no_destination", "steered"
		for _, test := range []struct {
			to            string
			refuse, count string // outcomes
			silent        bool   // nobody answers: it need not come to an end
		}{
			{"10.77.0.2:9000", refused, counted, false},
			{"[::ffff:10.77.0.2]:9000", refused, counted, false},
			{"[fd77::2]:9000", refused, counted, false},
			{"10.97.0.1:3306", refused, counted, true},
			{"10.98.0.1:20881", refused, counted, true}, // another port of it
			{"10.97.0.1:2181", refused, counted, true},  // a registry that is not in the mesh
			{"10.96.0.1:2181", passes, passes, true},    // one that is, and is not steered
			{"10.96.0.1:80", steered, steered, false},
			{"10.98.0.1:20880", steered, steered, false},
			{"10.77.0.1:9000", passes, passes, false}, // itself
			{"[fd77::1]:9000", passes, passes, false},
			{"127.0.0.1:9000", "loopback", "loopback", false},
			{"0.0.0.0:9000", "loopback", "loopback", false},
			{"169.254.169.254:80", passes, passes, true},
			{"[fe80::1%2]:80", passes, passes, true},
		} {
			to := netip.MustParseAddrPort(test.to)
			for mode, want := range map[Unknown]string{RefuseUnknown: test.refuse, CountUnknown: test.count, PassUnknown: ""} {
				must(t, publishUnknown(d, mode, entries))
				if want == "" {
					want = test.count
					if want == counted {
						want = passes
					}
				}
				before := counters(t, d)
				fd := a.socket(familyOf(to.Addr()), unix.SOCK_STREAM, 0)
				if test.silent && want != refused {
					must(t, unix.SetNonblock(fd, true))
				}
				sa := sockaddr(to)
				if six, ok := sa.(*unix.SockaddrInet6); ok && to.Addr().Zone() != "" {
					six.ZoneId = 2
				}
				err := connect(fd, sa)
				if want == refused && !errors.Is(err, errno) || want != refused && !test.silent && err != nil {
					t.Errorf("%s, %s: connect = %v, want %s", test.to, mode, err, want)
				}
				after := counters(t, d)
				if n := after[want] - before[want]; n != 1 {
					t.Errorf("%s, %s: %s counted %d times, want once", test.to, mode, want, n)
				}
			}
		}
	})
}

func publishUnknown(d *Datapath, mode Unknown, entries []Destination) error {
	return d.Publish(0, Table{Generation: 1, Unknown: mode, Destinations: entries})
}

// TestUnknownIsRefusedByEveryWay: whichever way an application connects, and that a
// refused socket may be used again; what is not a pod's TCP is never refused.
func TestUnknownIsRefusedByEveryWay(t *testing.T) {
	bothErrnos(t, func(t *testing.T, d *Datapath, r *rig, errno unix.Errno) {
		a, b := r.steer(d)
		greet(t, "app", b.serve("tcp4", ":9000"))
		must(t, publishUnknown(d, RefuseUnknown, []Destination{{Prefix: prefix(vip4 + "/32"), Port: 20880}}))
		to := netip.MustParseAddrPort("10.77.0.2:9000")
		refused := func(what string, fd int, connect func() error) {
			t.Helper()
			if err := connect(); !errors.Is(err, errno) {
				t.Errorf("%s: %v, want %v", what, err, errno)
			}
			if errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || errno != 0 {
				t.Errorf("%s: SO_ERROR = %d (%v): the error was told already", what, errno, err)
			}
		}
		fd := a.socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		refused("blocking", fd, func() error { return connect(fd, sockaddr(to)) })
		must(t, connect(fd, sockaddr(netip.MustParseAddrPort(vip4+":20880"))))
		if got := fdLine(t, fd); !strings.HasPrefix(got, "proxy4 "+vip4+":20880 ") {
			t.Errorf("the same socket then reaches %q", got)
		}
		nonblocking := a.socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		refused("non-blocking", nonblocking, func() error { return unix.Connect(nonblocking, sockaddr(to)) })
		fast := a.socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		refused("MSG_FASTOPEN", fast, func() error { return unix.Sendto(fast, []byte("hello"), unix.MSG_FASTOPEN, sockaddr(to)) })
		// io_uring and MPTCP meet the same hook.
		a.do(func() {
			if _, err := net.DialTimeout("tcp4", to.String(), 30*time.Second); !errors.Is(err, errno) {
				t.Errorf("a Go application sees %v, want %v", err, errno)
			}
		})

		udp := a.socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		must(t, connect(udp, sockaddr(to)))
		mesh := a.socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		must(t, d.MarkSocket(mesh, netip.AddrPort{}))
		must(t, connect(mesh, sockaddr(to)))
		if got := fdLine(t, mesh); !strings.HasPrefix(got, "app none ") {
			t.Errorf("the mesh's own socket reaches %q", got)
		}
		b.dialLine(t, "10.77.0.2:9000", "app") // not enrolled
		if n := counters(t, d)["unknown_refused"]; n != 4 {
			t.Errorf("unknown_refused = %d, want 4", n)
		}
	})
}

// TestUnknownsAreListed: each address once, with what became of its connects, until
// the workload leaves.
func TestUnknownsAreListed(t *testing.T) {
	r := newRig(t)
	d := r.open()
	a, b := r.steer(d)
	must(t, d.SetWorkload(b.workload(d)))
	for _, p := range []*pod{a, b} {
		p.do(func() { _ = defaultRoute() })
	}
	try := func(p *pod, to string) {
		t.Helper()
		at := netip.MustParseAddrPort(to)
		fd := p.socket(familyOf(at.Addr()), unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		_ = connect(fd, sockaddr(at))
	}
	start := time.Now()
	must(t, publishUnknown(d, CountUnknown, nil))
	try(a, "10.97.0.1:3306")
	try(a, "10.97.0.1:3306")
	try(b, "10.97.0.1:3306")
	try(a, "169.254.1.1:80")
	must(t, publishUnknown(d, RefuseUnknown, nil))
	try(a, "10.97.0.1:3306")
	try(a, "[fd97::1]:443")
	list := func() map[string]string {
		t.Helper()
		all, err := d.Unknowns()
		must(t, err)
		found := map[string]string{}
		for _, u := range all {
			who := map[uint64]string{a.cookie: "a", b.cookie: "b"}[u.Cookie]
			found[who+" "+u.To.String()] = fmt.Sprintf("%d passed, %d refused", u.Passed, u.Refused)
			if age := u.Last.Sub(start); age < -time.Second || age > 5*time.Minute {
				t.Errorf("%s was last seen at %v, the test began at %v", u.To, u.Last, start)
			}
		}
		return found
	}
	want := map[string]string{
		"a 10.97.0.1:3306": "2 passed, 1 refused", "b 10.97.0.1:3306": "1 passed, 0 refused", "a [fd97::1]:443": "0 passed, 1 refused",
	}
	if got := list(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("listed %v, want %v", got, want)
	}
	must(t, d.DeleteWorkload(a.cookie))
	if got := list(); len(got) != 1 || got["b 10.97.0.1:3306"] == "" {
		t.Errorf("after a left: %v", got)
	}
	// However many there are, the list is bounded, and the counter is exact.
	before := counters(t, d)["unknown_refused"]
	const many = 6000
	b.do(func() {
		for i := range many {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			must(t, err)
			_ = unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{10, 98, byte(i >> 8), byte(i)}, Port: 1})
			must(t, unix.Close(fd))
		}
	})
	if n := counters(t, d)["unknown_refused"] - before; n != many {
		t.Errorf("unknown_refused counted %d of %d", n, many)
	}
	all, err := d.Unknowns()
	if most := int(d.maps.Unknowns.MaxEntries()); err != nil || len(all) == 0 || len(all) > most {
		t.Errorf("%d are listed (%v), at most %d fit", len(all), err, most)
	}
}

// TestUnknownsAreReadWhileTheyChange: a reader ends, and meets no error.
func TestUnknownsAreReadWhileTheyChange(t *testing.T) {
	r := newRig(t)
	d := r.open()
	a, _ := r.steer(d)
	must(t, publishUnknown(d, RefuseUnknown, nil))
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		a.do(func() {
			for i := 0; !done.Load() && i < 1<<20; i++ {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				must(t, err)
				_ = unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}, Port: 1})
				must(t, unix.Close(fd))
			}
		})
	})
	defer func() { done.Store(true); wg.Wait() }()
	deadline := time.Now().Add(time.Minute)
	for n := 0; n < 1000; {
		all, err := d.Unknowns()
		must(t, err)
		n = max(n, len(all))
		if time.Now().After(deadline) {
			t.Fatalf("only %d were seen", n)
		}
	}
	for range rounds(20, 5) {
		_, err := d.Unknowns()
		must(t, errors.Join(err, unknown.Forget(d.maps.Unknowns, 1)))
	}
}

// TestAskedIsSteeredByEveryTable: by an empty one, by one that refuses what it does not
// know, and after a restart; and counted apart from what applications do. Without a table
// or a workload it goes its own way.
func TestAskedIsSteeredByEveryTable(t *testing.T) {
	r := newRig(t)
	d := r.open()
	a, b := r.pods()
	greet(t, "proxy", a.out["tcp4"])
	greet(t, "proxy", a.out["tcp6"])
	for _, p := range []*pod{a, b} {
		p.do(func() { must(t, defaultRoute()) })
	}
	asks := func() (answers []string) {
		t.Helper()
		for _, to := range lack.Asked() {
			c, err := a.dial("tcp", to.String())
			must(t, err)
			answers = append(answers, line(t, c)[:len("proxy ")+len(to.String())])
		}
		return answers
	}
	must(t, d.SetWorkload(a.workload(d)))
	for step, publish := range []func() error{
		func() error { return d.Publish(0, Table{Generation: 1}) },
		func() error { return d.Publish(0, Table{Generation: 2, Unknown: RefuseUnknown}) },
		func() error { return d.Publish(5, Table{Number: 1, Unknown: RefuseUnknown}) },
		func() error { return d.Move(a.cookie, 5) },
		func() error {
			must(t, d.Close())
			d = r.open()
			return nil
		},
	} {
		must(t, publish())
		if got := fmt.Sprint(asks()); got != "[proxy 192.0.0.8:15001 proxy [100::8]:15001]" {
			t.Errorf("step %d: %s", step, got)
		}
	}
	if c := counters(t, d); c["asked_steered"] != 10 || c["steered"] != 0 {
		t.Errorf("%d were asked and %d steered, want 10 and 0", c["asked_steered"], c["steered"])
	}
	if s := d.tables[5]; s.Entries != 0 {
		t.Errorf("an empty table has %d entries after a restart", s.Entries)
	}
}
