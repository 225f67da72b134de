package roster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/agent/netns/netnstest"
	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/agent/pods/kube"
)

// server is an API that says what a test wants.
type server struct {
	mu      sync.Mutex
	away    error
	entries []kube.Entry
	changed chan struct{}
}

var _ API = (*server)(nil)

func (s *server) Run(ctx context.Context) { <-ctx.Done() }

func (s *server) Synced() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.away
}

func (s *server) Entries() ([]kube.Entry, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.entries), s.changed
}

func (s *server) say(away error, entries ...kube.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away, s.entries = away, entries
	close(s.changed)
	s.changed = make(chan struct{})
}

// world is a Roster with real namespaces, cgroups and processes.
type world struct {
	*testing.T

	api    *server
	cgroup string
	kept   string
	r      *Roster
	stop   func()

	mu  sync.Mutex
	set *pods.Set // last published
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("cgroups and network namespaces need root")
	}
	w := &world{T: t, api: &server{changed: make(chan struct{}), away: errors.New("not yet")}, kept: filepath.Join(t.TempDir(), "pods.json")}
	for _, mount := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		dir := filepath.Join(mount, fmt.Sprintf("dubway-roster-%d-%s", os.Getpid(), t.Name()))
		var st unix.Statfs_t
		if unix.Statfs(mount, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC && os.Mkdir(dir, 0o755) == nil {
			w.cgroup = dir
			break
		}
	}
	if w.cgroup == "" {
		t.Fatal("no writable cgroup2 hierarchy: mount -t cgroup2 none /sys/fs/cgroup")
	}
	t.Cleanup(func() { w.remove(w.cgroup) })
	w.start()
	return w
}

func (w *world) remove(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			w.remove(filepath.Join(dir, e.Name()))
		}
	}
	for end := time.Now().Add(20 * time.Second); os.Remove(dir) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.Errorf("%s cannot be removed", dir)
			return
		}
	}
}

// start runs a Roster, as after a restart of the agent.
func (w *world) start() {
	if w.stop != nil {
		w.stop()
	}
	w.mu.Lock()
	w.set = nil
	w.mu.Unlock()
	w.r = New(Options{
		API: w.api, Cgroup: w.cgroup, Settle: 2 * time.Second, Kept: w.kept, Patience: time.Millisecond, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.r.Run(ctx, func(s pods.Set) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.set = &s
		})
	}()
	w.stop = sync.OnceFunc(func() { cancel(); <-done })
	w.Cleanup(w.stop)
}

// last returns a pod of the last set; nil if it is not there.
func (w *world) last(uid string) *pods.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.set == nil {
		return nil
	}
	for _, p := range w.set.Pods {
		if p.UID == uid {
			return p
		}
	}
	return nil
}

// until waits for a set in which a pod is as it should be.
func (w *world) until(what, uid string, ok func(*pods.Pod) bool) {
	w.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(w.last(uid)); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("waited in vain: %s; it is %+v", what, w.last(uid))
		}
	}
}

func there(p *pods.Pod) bool { return p != nil && p.Netns != "" }
func gone(p *pods.Pod) bool  { return p == nil }

const uid1, uid2 = "0b5c0000-1111-2222-3333-444455556666", "0b5c0000-1111-2222-3333-444455557777"

// entry is a wanted pod with the address 10.98.0.N; 0 for none.
func entry(uid string, n byte, ports ...uint16) kube.Entry {
	e := kube.Entry{Wanted: true, HostUID: uid, Pod: pods.Pod{UID: uid, Name: "p", Namespace: "shop", Ports: ports}}
	if n > 0 {
		e.Pod.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{10, 98, 0, n})}
	}
	return e
}

// network is a namespace with the address 10.98.0.N.
func (w *world) network(n byte) *netnstest.Netns {
	w.Helper()
	ns := netnstest.New(w.T)
	ns.Add("lo", fmt.Sprintf("10.98.0.%d/32", n))
	return ns
}

// process starts a process of a pod in a namespace, and returns what ends it.
func (w *world) process(uid string, ns *netnstest.Netns) (kill func()) {
	w.Helper()
	dir := filepath.Join(w.cgroup, "kubepods", "pod"+uid, "sandbox")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.Fatal(err)
	}
	cgroup, err := os.Open(dir)
	if err != nil {
		w.Fatal(err)
	}
	defer cgroup.Close()
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	ns.Must(cmd.Start)
	kill = sync.OnceFunc(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	w.Cleanup(kill)
	return kill
}

// hold opens a namespace as the plugin's descriptor is.
func (w *world) hold(ns *netnstest.Netns) *netns.Namespace {
	w.Helper()
	held, err := netns.Open(ns.Path)
	if err != nil {
		w.Fatal(err)
	}
	return held
}

func (w *world) same(p *pods.Pod, ns *netnstest.Netns) bool {
	if !there(p) {
		return false
	}
	got, err := netns.Open(p.Netns)
	if err != nil {
		return false
	}
	defer got.Close()
	return got.ID() == ns.ID()
}

// TestStartedBefore: pods that run before the agent does are found by their processes,
// and stay when they are deleted in the API, or missing in a list, as long as they run.
func TestStartedBefore(t *testing.T) {
	w := newWorld(t)
	ns := w.network(1)
	kill := w.process(uid1, ns)
	w.api.say(errors.New("not yet"), entry(uid1, 1))
	time.Sleep(50 * time.Millisecond)
	w.mu.Lock()
	if w.set != nil {
		t.Error("published before all pods were known")
	}
	w.mu.Unlock()
	w.api.say(nil, entry(uid1, 1, 20880))
	w.until("the pod is found", uid1, there)
	p := w.last(uid1)
	if !w.same(p, ns) || p.Cgroup != filepath.Join(w.cgroup, "kubepods", "pod"+uid1) || !slices.Equal(p.Ports, []uint16{20880}) {
		t.Errorf("found: %+v", p)
	}
	w.api.say(nil)
	second := w.network(2)
	w.process(uid2, second)
	w.api.say(nil, entry(uid2, 2))
	w.until("another one", uid2, there)
	if w.last(uid1) != p {
		t.Errorf("a pod that runs is gone, or changed: %+v", w.last(uid1))
	}
	kill()
	w.until("it ran out", uid1, gone)
}

// TestAway: an agent that is started while the API server is away takes what the one
// before was told.
func TestAway(t *testing.T) {
	w := newWorld(t)
	ns := w.network(1)
	w.process(uid1, ns)
	e := entry(uid1, 1, 20880)
	e.Pod.ServiceAccount, e.Pod.Annotations = "consumer", map[string]string{"dubway.io/mode": "observe"}
	w.api.say(nil, e)
	w.until("the pod is found", uid1, there)
	before := w.last(uid1)
	w.api.say(errors.New("connection refused"))
	w.start()
	w.until("the pod is remembered", uid1, there)
	after := w.last(uid1)
	if after.ServiceAccount != "consumer" || after.Annotations["dubway.io/mode"] != "observe" || after.Cgroup != before.Cgroup || !w.same(after, ns) {
		t.Errorf("remembered: %+v, was %+v", after, before)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	fresh := entry(uid2, 2)
	if err := w.r.Add(ctx, &fresh, Sandbox{ID: "s", Netns: w.hold(w.network(2))}); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a pod is added while nothing is known: %v", err)
	}
	w.api.say(nil)
	time.Sleep(50 * time.Millisecond) // no pod in the list: but it runs
	if !there(w.last(uid1)) {
		t.Error("withdrawn because the API server came back")
	}
}

// TestAwayEarly: a pod whose addresses the runtime alone had told of, when that was written
// down, is remembered with them.
func TestAwayEarly(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	early := entry(uid1, 0)
	w.api.say(nil, early)
	ns := w.network(1)
	if err := w.r.Add(ctx, &early, Sandbox{ID: "s1", Netns: w.hold(ns), Addresses: []netip.Addr{netip.MustParseAddr("10.98.0.1")}}); err != nil {
		t.Fatal(err)
	}
	w.process(uid1, ns)
	w.until("the pod runs", uid1, func(p *pods.Pod) bool {
		return there(p) && p.Cgroup == filepath.Join(w.cgroup, "kubepods", "pod"+uid1)
	})
	w.api.say(errors.New("connection refused"))
	w.start()
	w.until("the pod is remembered", uid1, there)
}

// TestSandbox: what the runtime says goes before what is found, at once.
func TestSandbox(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w.api.say(nil)
	ns := w.network(1)
	early := entry(uid1, 0) // the API server has no address yet, nor told of the pod
	if err := w.r.Add(ctx, &early, Sandbox{ID: "s1", Netns: w.hold(ns), Addresses: []netip.Addr{
		netip.MustParseAddr("10.98.0.1"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("::ffff:10.98.0.1"),
	}}); err != nil {
		t.Fatal(err)
	}
	p := w.last(uid1)
	if !w.same(p, ns) || fmt.Sprint(p.Addresses) != "[10.98.0.1]" || p.Cgroup != w.cgroup {
		t.Fatalf("not in force when Add returned: %+v", p)
	}
	// Later it runs, and is told of: the namespace stays the one that it is.
	kill := w.process(uid1, ns)
	w.api.say(nil, entry(uid1, 1, 20880))
	w.until("its cgroup is known", uid1, func(p *pods.Pod) bool {
		return there(p) && p.Cgroup == filepath.Join(w.cgroup, "kubepods", "pod"+uid1) && slices.Equal(p.Ports, []uint16{20880})
	})
	if w.last(uid1).Netns != p.Netns {
		t.Error("its namespace has another path now")
	}
	if uid, err := w.r.Holds(ctx, "s1"); uid != uid1 || err != nil {
		t.Errorf("s1 is of %q, %v", uid, err)
	}

	// Of a sandbox that is not known the processes tell.
	if err := w.r.Remove(ctx, "other"); err != nil || !there(w.last(uid1)) {
		t.Errorf("another sandbox was removed: %v, %+v", err, w.last(uid1))
	}
	if err := w.r.Remove(ctx, "s1"); err != nil || w.last(uid1) != nil {
		t.Errorf("in force after Remove: %v, %+v", err, w.last(uid1))
	}
	// Its old processes are not found again while they end; a new sandbox is.
	if err := w.r.Keep(ctx, nil); err != nil || w.last(uid1) != nil {
		t.Errorf("%v, %+v", err, w.last(uid1))
	}
	kill()
	again := w.network(1)
	e := entry(uid1, 1)
	if err := w.r.Add(ctx, &e, Sandbox{ID: "s2", Netns: w.hold(again)}); err != nil || !w.same(w.last(uid1), again) {
		t.Errorf("the new sandbox: %v, %+v", err, w.last(uid1))
	}
	if err := w.r.Keep(ctx, []string{"s2"}); err != nil || !there(w.last(uid1)) {
		t.Errorf("kept: %v, %+v", err, w.last(uid1))
	}
	if err := w.r.Keep(ctx, nil); err != nil || w.last(uid1) != nil {
		t.Errorf("not kept: %v, %+v", err, w.last(uid1))
	}
}

// TestBurst: a hundred sandboxes at once are in force when each was said to be.
func TestBurst(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w.api.say(nil)
	ns := w.network(1)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			uid := fmt.Sprintf("0b5c0000-1111-2222-3333-%012d", i)
			e := entry(uid, byte(i+1))
			if err := w.r.Add(ctx, &e, Sandbox{ID: uid, Netns: w.hold(ns)}); err != nil || !there(w.last(uid)) {
				t.Errorf("%s: %v, %+v", uid, err, w.last(uid))
			}
		})
	}
	all.Wait()
}

// TestLeaving: whose neighbours encrypt stays until they have heard that they should not.
func TestLeaving(t *testing.T) {
	w := newWorld(t)
	w.process(uid1, w.network(1))
	e := entry(uid1, 1)
	e.Marked = true
	w.api.say(nil, e)
	w.until("the pod is found", uid1, there)
	e.Wanted = false
	w.api.say(nil, e)
	w.process(uid2, w.network(2))
	w.api.say(nil, e, entry(uid2, 2))
	w.until("another one", uid2, there)
	if !there(w.last(uid1)) {
		t.Error("withdrawn while neighbours encrypt to it")
	}
	e.Marked = false
	said := time.Now()
	w.api.say(nil, e, entry(uid2, 2))
	w.until("it leaves", uid1, gone)
	if took := time.Since(said); took < w.r.opts.Settle {
		t.Errorf("withdrawn after %v", took)
	}
	e.Pod.UID = uid2 // one that never was marked leaves at once
	plain := entry(uid2, 2)
	plain.Wanted = false
	w.api.say(nil, plain)
	w.until("the other leaves", uid2, gone)
}

// TestFinished: the address of a finished pod is another's.
func TestFinished(t *testing.T) {
	w := newWorld(t)
	ns := w.network(1)
	w.process(uid1, ns)
	job, next := entry(uid1, 1), entry(uid2, 1)
	w.api.say(nil, job)
	w.until("the job runs", uid1, there)
	job.Finished = true
	w.process(uid2, w.network(1))
	w.api.say(nil, job, next)
	w.until("the next has its address", uid2, there)
	if w.last(uid1) != nil {
		t.Errorf("the finished pod is there: %+v", w.last(uid1))
	}

	// An undecided one stays as it is, one that is excluded says why.
	next.Wanted, next.Undecided = false, true
	w.api.say(nil, job, next)
	other := entry(uid1, 3)
	other.Pod.Excluded = "the pod uses the host's network"
	w.api.say(nil, other, next)
	w.until("the excluded one", uid1, func(p *pods.Pod) bool { return p != nil && p.Excluded != "" && p.Netns == "" })
	if !there(w.last(uid2)) {
		t.Error("a pod whose namespace is not known was withdrawn")
	}
}

// TestPorts: where applications listen is taken over, without what only they reach.
func TestPorts(t *testing.T) {
	w := newWorld(t)
	ns := w.network(1)
	w.process(uid1, ns)
	for _, at := range []string{"0.0.0.0:20881", "127.0.0.1:9999", "10.98.0.1:20882", "0.0.0.0:15006", "[::]:20883"} {
		l, err := ns.Listen(netip.MustParseAddrPort(at))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	w.api.say(nil, entry(uid1, 1, 20880))
	w.until("all ports", uid1, func(p *pods.Pod) bool {
		return there(p) && slices.Equal(p.Ports, []uint16{20880, 20881, 20882, 20883})
	})
}

func TestNote(t *testing.T) {
	c := &record{entry: entry(uid1, 1, 20880)}
	now := time.Now()
	at := []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:1234")}
	c.note(at, now)
	c.note(nil, now.Add(remember))
	if !slices.Equal(c.ports(), []uint16{1234, 20880}) {
		t.Errorf("a port is forgotten while its container restarts: %v", c.ports())
	}
	c.note(nil, now.Add(remember+time.Second))
	if !slices.Equal(c.ports(), []uint16{20880}) {
		t.Errorf("not forgotten: %v", c.ports())
	}
	at = nil
	for i := range 2 * maxPorts {
		at = append(at, netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(30000+i)))
	}
	if c.note(at, now); len(c.heard) != maxPorts {
		t.Errorf("%d ports are heard of one pod", len(c.heard))
	}
}
