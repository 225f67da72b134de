package enroll

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/agent/netns/netnstest"
	"github.com/dubway/dubway/agent/pods"
)

// kernel is a Datapath that remembers. Its maps outlive an Enroller, as the
// pinned ones do.
type kernel struct {
	mu          sync.Mutex
	workloads   map[uint64]datapath.Workload
	log         []string
	full        error
	ineffective error
}

var (
	_ Datapath = (*kernel)(nil)
	_ Tables   = (*kernel)(nil)
)

func (k *kernel) NetnsCookie(socket syscall.Conn) (cookie uint64, err error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		cookie, err = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		if errors.Is(err, unix.ENOPROTOOPT) { // before Linux 5.14
			cookie, err = inode(int(fd))
		}
	})
	return cookie, errors.Join(controlErr, err)
}

// inode is that of a socket's network namespace.
func inode(socket int) (uint64, error) {
	ns, err := unix.IoctlRetInt(socket, unix.SIOCGSKNS)
	if err != nil {
		return 0, err
	}
	defer unix.Close(ns)
	var st unix.Stat_t
	err = unix.Fstat(ns, &st)
	return st.Ino, err
}

func (k *kernel) SetWorkload(_ string, w datapath.Workload) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.full != nil {
		return k.full
	}
	for _, l := range w.Listeners {
		raw, err := l.SyscallConn()
		if err != nil {
			return err
		}
		if err := raw.Control(func(uintptr) {}); err != nil {
			return fmt.Errorf("a closed listener was handed in: %w", err)
		}
	}
	k.workloads[w.Cookie] = w
	k.log = append(k.log, "set")
	return nil
}

func (k *kernel) DeleteWorkload(cookie uint64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.workloads, cookie)
	k.log = append(k.log, "delete")
	return nil
}

func (k *kernel) Workloads() ([]uint64, error) {
	return slices.Collect(maps.Keys(k.workloads)), nil
}

func (k *kernel) Effective(string) error { return k.ineffective }

// world is an Enroller over a fake datapath, with real namespaces and cgroups.
type world struct {
	*testing.T

	kernel *kernel
	cgroup string
	e      *Enroller
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces and cgroups need root")
	}
	w := &world{T: t, kernel: &kernel{workloads: make(map[uint64]datapath.Workload)}, cgroup: cgroup(t)}
	w.restart(30 * time.Second)
	t.Cleanup(func() { w.e.Close() })
	return w
}

// restart is a new agent over the same kernel.
func (w *world) restart(patience time.Duration) {
	w.Helper()
	if w.e != nil {
		w.e.Close()
	}
	e, err := New(Options{Datapath: w.kernel, Tables: w.kernel, Cgroup: w.cgroup, Interval: time.Hour, Retry: time.Hour,
		Patience: patience, IsNode: func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.77") }, Log: slog.New(slog.DiscardHandler)})
	w.must(err)
	w.e = e
}

// cgroup makes a cgroup2 directory with a child "pod".
func cgroup(t *testing.T) string {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		dir := filepath.Join(root, fmt.Sprintf("dubway-enroll-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-")))
		var st unix.Statfs_t
		if unix.Statfs(root, &st) != nil || st.Type != unix.CGROUP2_SUPER_MAGIC || os.Mkdir(dir, 0o755) != nil {
			continue
		}
		pod := filepath.Join(dir, "pod")
		t.Cleanup(func() { os.Remove(pod); os.Remove(dir) })
		if err := os.Mkdir(pod, 0o755); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	t.Skip("no writable cgroup2 hierarchy")
	return ""
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// pod describes a pod in ns with the address 10.98.0.number.
func (w *world) pod(name string, ns *netnstest.Netns, number byte) *pods.Pod {
	return &pods.Pod{
		UID: "shop/" + name, Name: name, Namespace: "shop", Netns: ns.Path, Cgroup: filepath.Join(w.cgroup, "pod"),
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 98, 0, number})}, Ports: []uint16{20880},
	}
}

func (w *world) apply(list ...*pods.Pod) { w.e.Apply(set(list...)) }

func set(list ...*pods.Pod) pods.Set { return pods.Set{Pods: list} }

// enrolled checks that exactly these pods are, everywhere where it shows.
func (w *world) enrolled(uids ...string) {
	w.Helper()
	var inStatus []string
	for _, s := range w.e.Status() {
		if s.Enrolled {
			inStatus = append(inStatus, s.Pod.UID)
		}
	}
	if !slices.Equal(inStatus, uids) {
		w.Errorf("enrolled by status: %v, want %v; %+v", inStatus, uids, w.e.Status())
	}
	list, _ := w.e.Workloads()
	if len(list) != len(uids) || len(w.kernel.workloads) != len(uids) {
		w.Errorf("%d workloads, %d in the datapath, want %d", len(list), len(w.kernel.workloads), len(uids))
	}
	for _, uid := range uids {
		l := w.e.Workload(uid)
		if l == nil {
			w.Errorf("%s is not there", uid)
		} else if err := l.check(); err != nil || l.Message().UID != uid {
			w.Errorf("%s: %v", uid, err)
		}
	}
}

// refused checks that a pod is not enrolled, and why.
func (w *world) refused(uid string, class Class, text string) {
	w.Helper()
	for _, s := range w.e.Status() {
		if s.Pod.UID == uid {
			if s.Enrolled || s.Class != class || !strings.Contains(s.Reason, text) {
				w.Errorf("%s: enrolled %v, class %s, reason %q; want %s, %q", uid, s.Enrolled, s.Class, s.Reason, class, text)
			}
			return
		}
	}
	w.Errorf("%s has no status", uid)
}

func TestEnrol(t *testing.T) {
	w := newWorld(t)
	a, b := netnstest.New(t), netnstest.New(t)
	_, changed := w.e.Workloads()
	w.apply(w.pod("a", a, 1), w.pod("b", b, 2))
	w.enrolled("shop/a", "shop/b")
	select {
	case <-changed:
	default:
		t.Error("nobody was told")
	}
	for _, at := range []string{"127.0.0.1:15001", "[::1]:15001", "127.0.0.1:15006", "[::1]:15006"} {
		a.Must(func() error {
			c, err := net.Dial("tcp", at)
			if err == nil {
				c.Close()
			}
			return err
		})
	}
	if l := w.e.Workload("shop/a"); !l.Serves(netip.MustParseAddrPort("10.98.0.1:20880")) ||
		l.Serves(netip.MustParseAddrPort("10.98.0.1:22")) || l.Serves(netip.MustParseAddrPort("10.98.0.2:20880")) {
		t.Error("a serves what it should not, or not what it should")
	}
	w.apply(w.pod("b", b, 2))
	w.enrolled("shop/b")
	a.Must(func() error {
		if c, err := net.Dial("tcp", "127.0.0.1:15001"); err == nil {
			c.Close()
			return errors.New("the listener of a pod that left still listens")
		}
		return nil
	})
}

func TestChangeKeepsSockets(t *testing.T) {
	w := newWorld(t)
	pod := w.pod("a", netnstest.New(t), 1)
	w.apply(pod)
	before := w.e.Workload("shop/a")
	changed := *pod
	changed.Ports = []uint16{20880, 8080}
	w.apply(&changed)
	w.enrolled("shop/a")
	after := w.e.Workload("shop/a")
	if after == before || after.Listeners[0].Socket != before.Listeners[0].Socket {
		t.Error("the workload is the same, or its sockets are not")
	}
	if !slices.Equal(w.kernel.workloads[after.Cookie].Ports, changed.Ports) || slices.Contains(w.kernel.log, "delete") {
		t.Errorf("datapath: %+v after %v", w.kernel.workloads, w.kernel.log)
	}
	same := changed
	w.apply(&same)
	if w.e.Workload("shop/a") != after {
		t.Error("an equal description made a new workload")
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	own := w.pod("host", netnstest.New(t), 3)
	own.Netns = "/proc/self/ns/net"
	w.apply(own)
	w.refused("shop/host", ClassHostNetwork, "the host's network")

	isNode := netnstest.New(t)
	isNode.Add("lo", "192.0.2.77/32")
	node := w.pod("node", isNode, 3)
	w.apply(node)
	w.refused("shop/node", ClassHostNetwork, "it has 192.0.2.77")

	outside := w.pod("outside", netnstest.New(t), 4)
	outside.Cgroup = filepath.Dir(w.cgroup)
	w.apply(outside)
	w.refused("shop/outside", ClassCgroup, "is not below")
	outside.Cgroup = t.TempDir()
	w.apply(outside)
	w.refused("shop/outside", ClassCgroup, "not on a cgroup2")
	outside.Cgroup = w.cgroup + "/../" // not cheated by spelling
	w.apply(outside)
	w.refused("shop/outside", ClassCgroup, "is not below")

	gone := w.pod("gone", netnstest.New(t), 5)
	gone.Netns = "/proc/self/ns/none"
	w.apply(gone)
	w.refused("shop/gone", ClassNetns, "no such file")

	ns := netnstest.New(t)
	taken := w.pod("taken", ns, 6)
	l, err := ns.Listen(netip.MustParseAddrPort("0.0.0.0:15001"))
	w.must(err)
	w.apply(taken)
	w.refused("shop/taken", ClassListener, "127.0.0.1:15001: the port is taken")
	w.enrolled()
	w.must(l.Close())
	w.apply(taken)
	w.enrolled("shop/taken")

	w.kernel.full = fmt.Errorf("set: %w", datapath.ErrMapFull)
	w.apply(w.pod("full", netnstest.New(t), 7))
	w.refused("shop/full", ClassDatapath, "map is full")
	w.kernel.full = nil

	w.kernel.ineffective = errors.New("another program is first")
	hidden := w.pod("hidden", netnstest.New(t), 8)
	w.apply(hidden)
	w.refused("shop/hidden", ClassNotEffective, "another program")
	w.enrolled()
	w.kernel.ineffective = nil

	first := w.pod("first", ns, 9)
	w.apply(first, w.pod("twin", ns, 10), w.pod("usurper", netnstest.New(t), 9))
	w.refused("shop/twin", ClassConflict, "network namespace is already that of shop/first")
	w.refused("shop/usurper", ClassConflict, "10.98.0.9 is already that of shop/first")
	w.enrolled("shop/first")
}

// TestRestart is the agent's kill -9 with a proxy that holds the listeners: the
// pod stays steered all the time, and a connection that waits in a backlog is
// accepted from the same socket afterwards.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	ns := netnstest.New(t)
	pod := w.pod("a", ns, 1)
	w.apply(pod)
	cookie := w.e.Workload(pod.UID).Cookie
	held := w.hold(pod.UID)
	var waiting net.Conn
	ns.Must(func() (err error) { waiting, err = net.Dial("tcp", "127.0.0.1:15001"); return err })
	defer waiting.Close()

	w.restart(time.Hour)
	w.apply(pod)
	w.refused(pod.UID, ClassWaiting, "still with the proxy")
	if len(w.kernel.workloads) != 1 || slices.Contains(w.kernel.log, "delete") {
		t.Fatalf("steering was interrupted: %v", w.kernel.log)
	}
	// Something else, and another pod's listener, are offered too.
	var junk [2]int
	w.must(unix.Pipe2(junk[:], unix.O_CLOEXEC))
	other, err := netnstest.New(t).Listen(netip.MustParseAddrPort("127.0.0.1:15001"))
	w.must(err)
	offers := append([]*netns.Socket{netns.Keep(junk[0]), netns.Keep(junk[1]), other}, held...)
	w.e.Adopt(map[string][]*netns.Socket{pod.UID: offers, "shop/unknown": w.hold("none")})
	w.enrolled(pod.UID)
	if slices.Contains(w.kernel.log, "delete") || w.e.Workload(pod.UID).Cookie != cookie {
		t.Errorf("steering was interrupted: %v", w.kernel.log)
	}
	for _, s := range offers {
		if err := s.Control(func(uintptr) {}); !errors.Is(err, os.ErrClosed) {
			t.Error("an offered descriptor stays open")
		}
	}
	accepted := -1
	w.must(w.e.Workload(pod.UID).Listeners[0].Socket.Control(func(fd uintptr) {
		accepted, _, err = unix.Accept(int(fd))
	}))
	if err != nil || accepted < 0 {
		t.Errorf("the waiting connection is lost: %v", err)
	}
	unix.Close(accepted)
}

// hold duplicates a pod's listeners as a proxy that was told of it does.
func (w *world) hold(uid string) []*netns.Socket {
	w.Helper()
	var held []*netns.Socket
	l := w.e.Workload(uid)
	if l == nil {
		return nil
	}
	for _, listener := range l.Listeners {
		fd, err := listener.Socket.Duplicate()
		w.must(err)
		held = append(held, netns.Keep(fd))
	}
	return held
}

// TestRestartAlone: agent and proxy were both dead, so that the new agent opens
// new listeners; what is not desired any more is not steered.
func TestRestartAlone(t *testing.T) {
	w := newWorld(t)
	a, b := w.pod("a", netnstest.New(t), 1), w.pod("b", netnstest.New(t), 2)
	w.apply(a, b)
	w.restart(time.Hour)
	w.apply(a)
	w.enrolled("shop/a")
}

// TestPatienceEnds: a proxy that does not come back, or does not have the
// listeners, leaves the pod unsteered.
func TestPatienceEnds(t *testing.T) {
	for name, end := range map[string]func(*world, *pods.Pod){
		"no proxy":        func(w *world, p *pods.Pod) { time.Sleep(20 * time.Millisecond); w.apply(p) },
		"nothing offered": func(w *world, _ *pods.Pod) { w.e.Adopt(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			pod := w.pod("a", netnstest.New(t), 1)
			w.apply(pod)
			held := w.hold(pod.UID)
			defer func() {
				for _, s := range held {
					s.Close()
				}
			}()
			patience := time.Hour
			if name == "no proxy" {
				patience = 10 * time.Millisecond
			}
			w.restart(patience)
			w.apply(pod)
			end(w, pod)
			w.refused(pod.UID, ClassListener, "taken")
			w.enrolled()
		})
	}
}

func TestCheck(t *testing.T) {
	w := newWorld(t)
	ns := netnstest.New(t)
	pod := w.pod("a", ns, 1)
	w.apply(pod)

	w.kernel.ineffective = errors.New("another program is first")
	w.e.Check()
	w.refused(pod.UID, ClassNotEffective, "another program")
	if w.e.Workload(pod.UID) == nil {
		t.Error("live connections lost their workload")
	}
	w.kernel.ineffective = nil
	w.e.Check()
	w.enrolled(pod.UID)

	// The proxy shuts a listener down that it shares with the agent.
	held := w.hold(pod.UID)
	w.must(held[0].Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) }))
	w.e.Check()
	w.enrolled(pod.UID)
	for _, s := range held {
		w.must(s.Close())
	}

	// The path of the pod names another namespace: a container was restarted.
	link := ns.Link()
	moved := *pod
	moved.Netns = link
	w.apply(&moved)
	w.enrolled(pod.UID)
	before := w.e.Workload(pod.UID).Cookie
	next := netnstest.New(t)
	w.must(os.Remove(link))
	w.must(os.Symlink(next.Path, link))
	w.e.Check()
	w.enrolled(pod.UID)
	if w.e.Workload(pod.UID).Cookie == before {
		t.Error("the pod is still enrolled in its old namespace")
	}
	w.must(os.Remove(link))
	w.e.Check()
	w.refused(pod.UID, ClassNetns, "no such file")
	w.enrolled()
}
