package datapath

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath/probes"
	"github.com/dubway/dubway/bpf"
)

// node is a namespace from which kubelet and others of a node call a pod with an
// enrolled port.
type node struct {
	*rig

	d       *Datapath
	kubelet string // its cgroup
	from    *pod
	to      *pod
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{rig: newRig(t)}
	n.d = n.open()
	n.from, n.to = n.pods()
	n.kubelet = n.group("kubelet")
	must(t, n.d.SetWorkload(n.to.workload(n.d, 20880)))
	greet(t, "proxy", n.to.in["tcp4"])
	greet(t, "proxy", n.to.in["tcp6"])
	greet(t, "app", n.to.serve("tcp", ":20880"))
	return n
}

// group makes a cgroup.
func (n *node) group(name string) string {
	n.t.Helper()
	dir := filepath.Join(n.cgroup, name)
	must(n.t, os.Mkdir(dir, 0o755))
	n.t.Cleanup(func() { _ = os.Remove(dir) })
	return dir
}

func (n *node) probes() *probes.Probes {
	n.t.Helper()
	p, err := probes.Open(n.opts.PinPath)
	must(n.t, err)
	n.t.Cleanup(func() { _ = p.Close() })
	return p
}

// socketIn makes a socket of the node, as a process of a cgroup: that is what a socket
// remembers.
func (n *node) socketIn(cgroup string, family int) int {
	n.t.Helper()
	must(n.t, joinCgroup(cgroup))
	defer func() { must(n.t, joinCgroup(n.cgroup)) }()
	return n.from.socket(family, unix.SOCK_STREAM, 0)
}

// asks connects and reads who answers.
func (n *node) asks(fd int, to string) string {
	n.t.Helper()
	if err := connect(fd, sockaddr(netip.MustParseAddrPort(to))); err != nil {
		return err.Error()
	}
	var who string
	_, err := fmt.Sscan(fdLine(n.t, fd), &who)
	must(n.t, err)
	return who
}

func (n *node) want(what, got, want string) {
	n.t.Helper()
	if got != want {
		n.t.Errorf("%s: %q answers, want %q", what, got, want)
	}
}

// noted waits until so many connections are written down.
func (n *node) noted(want int) {
	n.t.Helper()
	got := -1
	for range 3000 {
		var err error
		got, err = countKeys(n.d.maps.Probes)
		must(n.t, err)
		if got == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	n.t.Errorf("%d connections are written down, want %d", got, want)
}

// probeWays are how a program may dial the pod.
var probeWays = []struct {
	name   string
	family int
	to     string
}{
	{"IPv4", unix.AF_INET, "10.77.0.2:20880"},
	{"IPv6", unix.AF_INET6, "[fd77::2]:20880"},
	{"v4-mapped", unix.AF_INET6, "[::ffff:10.77.0.2]:20880"},
}

// TestProbesPass: kubelet's connections reach the application, those of the same node's
// other programs do not, and neither does anybody while the program is nowhere.
func TestProbesPass(t *testing.T) {
	n := newNode(t)
	p := n.probes()
	for _, way := range probeWays {
		n.want("before, by "+way.name, n.asks(n.socketIn(n.kubelet, way.family), way.to), "proxy")
	}
	must(t, p.Attach(n.kubelet))
	for _, way := range probeWays {
		n.want("kubelet by "+way.name, n.asks(n.socketIn(n.kubelet, way.family), way.to), "app")
		n.want("another by "+way.name, n.asks(n.socketIn(n.cgroup, way.family), way.to), "proxy")
	}
	if c := counters(t, n.d); c["lookup_probe"] != 3 || c["probe_noted"] != 3 || c["probe_full"] != 0 {
		t.Errorf("%d probes passed, %d were noted, %d had no room, want 3, 3 and 0", c["lookup_probe"], c["probe_noted"], c["probe_full"])
	}
	must(t, p.Detach())
	n.noted(0)
	n.want("after", n.asks(n.socketIn(n.kubelet, unix.AF_INET), probeWays[0].to), "proxy")
	if _, attached := p.Program(); attached {
		t.Error("it is said to be attached after Detach")
	}
}

// TestProbesNeedNoListener: without its listener a port refuses everybody but kubelet,
// whom the mesh does not concern.
func TestProbesNeedNoListener(t *testing.T) {
	n := newNode(t)
	must(t, n.probes().Attach(n.kubelet))
	must(t, n.to.in["tcp4"].Close())
	n.want("kubelet", n.asks(n.socketIn(n.kubelet, unix.AF_INET), probeWays[0].to), "app")
	n.want("another", n.asks(n.socketIn(n.cgroup, unix.AF_INET), probeWays[0].to), unix.ECONNREFUSED.Error())
}

// TestProbeEndsAreCrossedOut: whoever has kubelet's port after kubelet meets the proxy,
// however kubelet's connection ended.
func TestProbeEndsAreCrossedOut(t *testing.T) {
	n := newNode(t)
	must(t, n.probes().Attach(n.kubelet))
	bound := func(cgroup string, port int) int {
		fd := n.socketIn(cgroup, unix.AF_INET)
		must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
		must(t, unix.Bind(fd, &unix.SockaddrInet4{Port: port}))
		return fd
	}
	reset := unix.Linger{Onoff: 1}
	for i, end := range []struct {
		name string
		to   string
		do   func(fd int) error
	}{
		{"a reset", probeWays[0].to, func(fd int) error {
			return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &reset)
		}},
		{"a refused connect", "10.77.0.2:7", func(int) error { return nil }},
		{"connect(AF_UNSPEC)", probeWays[0].to, disconnect},
	} {
		port := 41000 + i
		fd := bound(n.kubelet, port)
		if got := n.asks(fd, end.to); got != "app" && got != unix.ECONNREFUSED.Error() {
			t.Errorf("%s: %q answers", end.name, got)
		}
		must(t, end.do(fd))
		// The duplicate is what closes the connection; the other is closed at the end.
		null, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
		must(t, err)
		must(t, unix.Dup2(null, fd))
		must(t, unix.Close(null))
		n.noted(0)
		n.want("another by the port after "+end.name, n.asks(bound(n.cgroup, port), probeWays[0].to), "proxy")
	}
	// An orderly end: kubelet's side closes first and waits, the ends are nobody's.
	var c net.Conn
	must(t, joinCgroup(n.kubelet))
	c, err := n.from.dial("tcp4", probeWays[0].to)
	must(t, joinCgroup(n.cgroup))
	must(t, err)
	n.want("an orderly one", line(t, c)[:3], "app")
	n.noted(1)
	must(t, c.Close())
	n.noted(0)
}

// TestProbesWithoutRoom: a connection that finds no room is anybody's, and counted.
func TestProbesWithoutRoom(t *testing.T) {
	n := newNode(t)
	must(t, n.probes().Attach(n.kubelet))
	for i := range n.d.maps.Probes.MaxEntries() {
		must(t, n.d.maps.Probes.Put(&bpf.SteerProbe{Kubelet: bpf.SteerEndpoint{Addr: [4]uint32{i}}}, uint32(0)))
	}
	n.want("kubelet", n.asks(n.socketIn(n.kubelet, unix.AF_INET), probeWays[0].to), "proxy")
	if c := counters(t, n.d); c["probe_full"] != 1 || c["lookup_probe"] != 0 {
		t.Errorf("%d had no room, %d passed, want 1 and 0", c["probe_full"], c["lookup_probe"])
	}
}

// TestProbesAreAdopted: the next agent goes on with what is attached, follows kubelet to
// another cgroup, and survives that a cgroup goes. Uninstall removes it with the rest.
func TestProbesAreAdopted(t *testing.T) {
	n := newNode(t)
	p := n.probes()
	must(t, p.Attach(n.kubelet))
	first, ok := p.Program()
	if !ok || first.Name != bpf.SteerProgNoteSockops || first.ID == 0 || first.Tag == "" {
		t.Fatalf("program %+v (%t)", first, ok)
	}
	must(t, p.Close())
	n.want("kubelet without an agent", n.asks(n.socketIn(n.kubelet, unix.AF_INET), probeWays[0].to), "app")
	p = n.probes()
	must(t, p.Attach(n.kubelet))
	n.want("kubelet with the next agent", n.asks(n.socketIn(n.kubelet, unix.AF_INET), probeWays[0].to), "app")
	must(t, p.Close())

	other := n.group("kubelet-again")
	p = n.probes()
	must(t, p.Attach(other))
	n.noted(0)
	n.want("kubelet in its new cgroup", n.asks(n.socketIn(other, unix.AF_INET), probeWays[0].to), "app")
	n.want("who is in its old one", n.asks(n.socketIn(n.kubelet, unix.AF_INET), probeWays[0].to), "proxy")

	gone := n.group("kubelet-gone")
	must(t, p.Attach(gone))
	must(t, os.Remove(gone))
	attached := true
	for range 3000 { // the kernel takes its time
		if _, attached = p.Program(); !attached {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if attached {
		t.Error("it is said to be attached to a cgroup that is gone")
	}
	must(t, p.Attach(n.kubelet))
	n.want("kubelet after that", n.asks(n.socketIn(n.kubelet, unix.AF_INET), probeWays[0].to), "app")

	must(t, Uninstall(n.opts.PinPath))
	if _, ok := p.Program(); ok {
		t.Error("it is said to be attached after uninstall")
	}
}
