package datapath

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/bpf"
)

// hammer connects to a destination over and over, until stop; every connection
// must reach the proxy with its original destination.
func hammer(t *testing.T, p *pod, to string) (stop func() (conns int64)) {
	t.Helper()
	var done atomic.Bool
	var conns atomic.Int64
	var wg sync.WaitGroup
	most := int64(rounds(20_000, 2000))
	for range 4 {
		wg.Go(func() {
			p.do(func() {
				for !done.Load() && conns.Load() < most {
					c, err := net.DialTimeout("tcp4", to, 30*time.Second)
					if err != nil {
						t.Error(err)
						return
					}
					buf := make([]byte, 128)
					n, err := c.Read(buf)
					if want := "proxy4 " + to + " "; !strings.HasPrefix(string(buf[:n]), want) {
						t.Errorf("answer %q (%v), want %q", buf[:n], err, want)
					}
					conns.Add(1)
					c.Close()
				}
			})
		})
	}
	stop = func() int64 {
		done.Store(true)
		wg.Wait()
		return conns.Load()
	}
	t.Cleanup(func() { stop() }) // also when the test fails on the way
	return stop
}

// changed is this build's object with other code in every program: what a new
// version brings.
func changed(t *testing.T) *ebpf.CollectionSpec {
	t.Helper()
	spec, err := bpf.LoadSteer()
	must(t, err)
	for _, p := range spec.Programs {
		nop := asm.Mov.Imm(asm.R0, 7)
		first := p.Instructions[0]
		p.Instructions[0] = nop.WithMetadata(first.Metadata)
		first.Metadata = asm.Metadata{}
		p.Instructions = slices.Insert(p.Instructions, 1, first)
	}
	return spec
}

func TestReopenWithoutAGap(t *testing.T) {
	r := newRig(t)
	d := r.open()
	a, _ := r.steer(d)
	w := a.workload(d, 20880)
	must(t, d.SetWorkload(w))
	stop := hammer(t, a, "10.128.0.1:20880")
	before, err := d.Status()
	must(t, err)
	for range rounds(5, 2) {
		again, err := Open(r.opts) // the same code: nothing is replaced
		must(t, err)
		same, err := again.Status()
		must(t, err)
		if !slices.Equal(programIDs(before), programIDs(same)) {
			t.Errorf("programs were replaced by the same code: %v, were %v", same.Programs, before.Programs)
		}
		if same.Generation != 1 {
			t.Errorf("generation after a restart = %d, want 1", same.Generation)
		}
		must(t, again.Close())

		newer, err := open(r.opts, changed(t), d.kernel) // a new version: everything is
		must(t, err)
		after, err := newer.Status()
		must(t, err)
		for i, p := range after.Programs {
			if p.ID == before.Programs[i].ID || p.Tag == before.Programs[i].Tag {
				t.Errorf("%s runs the old code", p.Name)
			}
			if p.Attached == "" || p.Attached != before.Programs[i].Attached {
				t.Errorf("%s is attached to %q, was %q", p.Name, p.Attached, before.Programs[i].Attached)
			}
		}
		must(t, newer.Effective(r.cgroup))
		cookies, err := newer.Workloads()
		if !slices.Equal(cookies, []uint64{w.Cookie}) {
			t.Errorf("workloads after a restart = %v (%v), want %d", cookies, err, w.Cookie)
		}
		must(t, newer.Close())
		older, err := Open(r.opts) // and back
		must(t, err)
		before, err = older.Status()
		must(t, errors.Join(err, older.Close()))
	}
	if n := stop(); n < 100 {
		t.Errorf("only %d connects under way", n)
	} else {
		t.Logf("%d connects", n)
	}
}

func programIDs(s Status) []uint32 {
	var ids []uint32
	for _, p := range s.Programs {
		ids = append(ids, p.ID)
	}
	return ids
}

func TestPublishFlipsAtOnce(t *testing.T) {
	r := newRig(t)
	d := r.open()
	a, _ := r.steer(d)
	always := Destination{Prefix: prefix("10.128.0.1/32"), Port: 20880}
	many := []Destination{always}
	for i := range 500 {
		many = append(many, Destination{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 129, byte(i / 250), byte(i % 250)}), 32), Port: 20880})
	}
	must(t, publish(d, 2, many))
	stop := hammer(t, a, "10.128.0.1:20880")
	for generation := uint64(3); generation < 200; generation++ {
		set := many
		if generation%2 == 1 {
			set = []Destination{always}
		}
		must(t, publish(d, generation, set))
	}
	bad := Destination{Prefix: prefix("127.0.0.0/8"), Port: 20880}
	if err := publish(d, 1000, []Destination{bad}); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("publish loopback: %v", err)
	}
	if n := stop(); n < 20 {
		t.Errorf("only %d connects under way", n)
	}
	s, err := d.Status()
	must(t, err)
	if s.Generation != 199 || entriesOf(s, bpf.SteerMapDestinations) != 1 {
		t.Errorf("generation %d with %d destinations, want 199 with 1", s.Generation, entriesOf(s, bpf.SteerMapDestinations))
	}
	must(t, publish(d, 200, nil))
	if err := dialFails(a, "10.128.0.1:20880"); err == nil {
		t.Error("steered after an empty generation")
	}
}

func TestDestinationsMatch(t *testing.T) {
	r := newRig(t)
	d := r.open()
	a, _ := r.steer(d)
	a.do(func() { must(t, defaultRoute()) })
	for _, test := range []struct {
		set      Destination
		to, want string // the outcome
	}{
		{Destination{Prefix: prefix("10.96.0.0/12"), Port: 0}, "10.111.1.1:1", "steered"},
		{Destination{Prefix: prefix("10.96.0.0/12"), Port: 0}, "10.112.1.1:1", "no_destination"},
		{Destination{Prefix: prefix("10.96.0.0/12"), Port: 20880}, "10.97.0.1:20880", "steered"},
		{Destination{Prefix: prefix("10.96.0.0/12"), Port: 20880}, "10.97.0.1:20881", "no_destination"},
		{Destination{Prefix: prefix("10.96.0.0/12"), Port: 0}, "10.97.0.1:2181", "no_destination"},
		{Destination{Prefix: prefix("10.96.0.0/12"), Port: 0}, "10.97.0.1:9848", "no_destination"},
		{Destination{Prefix: prefix("10.96.0.0/12"), Port: 8848}, "10.97.0.1:8848", "steered"},
		{Destination{Prefix: prefix("0.0.0.0/0"), Port: 0}, "10.97.0.1:1", "steered"},
		{Destination{Prefix: prefix("0.0.0.0/0"), Port: 0}, "[fd96::1]:1", "no_destination"},
		{Destination{Prefix: prefix("::/0"), Port: 0}, "[fd96::1]:1", "steered"},
		{Destination{Prefix: prefix("::/0"), Port: 0}, "10.97.0.1:1", "no_destination"},
		{Destination{Prefix: prefix("fd96::/64"), Port: 1}, "[fd96::9]:1", "steered"},
		{Destination{Prefix: prefix("fd96::/64"), Port: 1}, "[fd96:0:0:1::9]:1", "no_destination"},
		{Destination{Prefix: prefix("::ffff:10.96.0.10/128"), Port: 1}, "10.96.0.10:1", "steered"},
		{Destination{Prefix: prefix("0.0.0.0/0"), Port: 0}, "127.0.0.1:1", "loopback"},
		{Destination{Prefix: prefix("::/0"), Port: 0}, "[::1]:1", "loopback"},
	} {
		must(t, publish(d, 1, []Destination{test.set}))
		to := netip.MustParseAddrPort(test.to)
		before := counters(t, d)[test.want]
		fd := a.socket(familyOf(to.Addr()), unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		_ = connect(fd, sockaddr(to)) // where it goes is counted before it can fail
		if n := counters(t, d)[test.want] - before; n != 1 {
			t.Errorf("%v: connect to %s: %s counted %d times, want once", test.set, to, test.want, n)
		}
	}
	w := a.workload(d)
	w.Listeners = []syscall.Conn{a.out["tcp4"]} // a pod without IPv6 on lo
	must(t, d.SetWorkload(w))
	must(t, publish(d, 1, []Destination{{Prefix: prefix("::/0"), Port: 0}}))
	fd := a.socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	_ = connect(fd, sockaddr(netip.MustParseAddrPort("[fd96::1]:1")))
	if n := counters(t, d)["no_listener"]; n != 1 {
		t.Errorf("no_listener = %d, want 1", n)
	}
	for _, bad := range []Destination{{}, {Prefix: prefix("127.0.0.1/32"), Port: 1}, {Prefix: prefix("::1/128"), Port: 1}, {Prefix: prefix("0.0.0.0/32"), Port: 1}, {Prefix: prefix("::ffff:0:0/80"), Port: 1}} {
		if err := publish(d, 2, []Destination{bad}); err == nil {
			t.Errorf("%v was published", bad)
		}
	}
}

func dialFails(p *pod, to string) error {
	c, err := p.dial("tcp4", to)
	if err == nil {
		c.Close()
	}
	return err
}

func entriesOf(s Status, name string) int {
	for _, m := range s.Maps {
		if m.Name == name {
			return m.Entries
		}
	}
	return -1
}

func TestFullMapsAreReported(t *testing.T) {
	r := newRig(t)
	d := r.open()
	const most = MaxDestinations
	all := make([]Destination, most+1)
	for i := range all {
		all[i] = Destination{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32), Port: 20880}
	}
	err := publish(d, 1, all)
	if !errors.Is(err, ErrMapFull) || !strings.Contains(err.Error(), all[most].Prefix.String()) {
		t.Errorf("one destination too many: %v", err)
	}
	must(t, publish(d, 1, all[:most]))
	s, err := d.Status()
	must(t, err)
	if n := entriesOf(s, bpf.SteerMapDestinations); n != most {
		t.Errorf("%d destinations, want %d", n, most)
	}

	workloads := int(d.maps.Workloads.MaxEntries())
	for cookie := range workloads {
		must(t, d.maps.Workloads.Put(uint64(1<<40+cookie), &bpf.SteerWorkload{}))
	}
	_, b := r.pods()
	if err := d.SetWorkload(b.workload(d, 20880)); !errors.Is(err, ErrMapFull) || !strings.Contains(err.Error(), "workloads") {
		t.Errorf("one workload too many: %v", err)
	}
	if ports, err := d.portsOf(b.cookie); err != nil || len(ports) != 0 {
		t.Errorf("%d ports of a refused workload are left (%v)", len(ports), err)
	}
}

func TestEffective(t *testing.T) {
	r := newRig(t)
	d := r.open()
	child := filepath.Join(r.cgroup, "pod")
	must(t, os.Mkdir(child, 0o755))
	t.Cleanup(func() { must(t, os.Remove(child)) })
	must(t, d.Effective(child))

	foreign := passConnect(t)
	l, err := link.AttachCgroup(link.CgroupOptions{Path: child, Attach: ebpf.AttachCGroupInet4Connect, Program: foreign})
	must(t, err)
	if err := d.Effective(child); err == nil || !strings.Contains(err.Error(), "(foreign) runs before steer_connect4") {
		t.Errorf("with a program below ours: %v", err)
	}
	must(t, d.Effective(r.cgroup))
	must(t, l.Close())
	must(t, d.Effective(child))

	outside := r.cgroup + "-outside"
	must(t, os.Mkdir(outside, 0o755))
	t.Cleanup(func() { must(t, os.Remove(outside)) })
	if err := d.Effective(outside); err == nil || !strings.Contains(err.Error(), "is not effective") {
		t.Errorf("outside of our cgroup: %v", err)
	}
	if err := d.Effective(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a cgroup2") {
		t.Errorf("not a cgroup: %v", err)
	}

	// Somebody detaches us.
	must(t, d.links[bpf.SteerProgBridgeSockops].Detach())
	if err := d.Effective(child); err == nil || !strings.Contains(err.Error(), "bridge_sockops is not effective") {
		t.Errorf("after a detach: %v", err)
	}
	again, err := Open(r.opts) // heals it
	must(t, err)
	must(t, again.Effective(child))
	must(t, again.Close())
}

// passConnect is somebody else's connect program.
func passConnect(t *testing.T) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "foreign", Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	must(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

func TestEarlierForeignProgramIsReported(t *testing.T) {
	r := newRig(t)
	l, err := link.AttachCgroup(link.CgroupOptions{Path: r.cgroup, Attach: ebpf.AttachCGroupInet4Connect, Program: passConnect(t)})
	must(t, err)
	defer l.Close()
	d := r.open()
	if err := d.Effective(r.cgroup); err == nil || !strings.Contains(err.Error(), "runs before steer_connect4") {
		t.Errorf("with an earlier program beside ours: %v", err)
	}
}

func TestExclusiveForeignProgramIsNamed(t *testing.T) {
	r := newRig(t)
	dir, err := os.Open(r.cgroup)
	must(t, err)
	defer dir.Close()
	p := passConnect(t)
	must(t, link.RawAttachProgram(link.RawAttachProgramOptions{Target: int(dir.Fd()), Program: p, Attach: ebpf.AttachCGroupInet4Connect}))
	_, err = Open(r.opts)
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "holds this hook alone") {
		t.Errorf("open = %v", err)
	}
	must(t, link.RawDetachProgram(link.RawDetachProgramOptions{Target: int(dir.Fd()), Program: p, Attach: ebpf.AttachCGroupInet4Connect}))
	r.open() // takes the half-made state away
	wantNoPins(t, r.opts.PinPath+"-new")
}

func TestHalfWrittenStateIsReplaced(t *testing.T) {
	r := newRig(t)
	d := r.open()
	must(t, d.Close())

	// Killed before the rename, with links attached; killed while uninstalling.
	must(t, os.Rename(r.opts.PinPath, r.opts.PinPath+"-new"))
	again, err := Open(r.opts)
	must(t, err)
	must(t, again.Effective(r.cgroup))
	must(t, again.Close())
	must(t, os.Rename(r.opts.PinPath, r.opts.PinPath+"-old"))
	again, err = Open(r.opts)
	must(t, err)
	must(t, again.Effective(r.cgroup))
	must(t, again.Close())
	wantNoPins(t, r.opts.PinPath+"-new")
	wantNoPins(t, r.opts.PinPath+"-old")

	// Killed between pinning a link aside and renaming it; a link is gone.
	file := pinDir(r.opts.PinPath).LinkFile(bpf.SteerProgSteerConnect6)
	must(t, os.Rename(file, file+"-new"))
	again, err = Open(r.opts)
	must(t, err)
	must(t, again.Effective(r.cgroup))
	must(t, again.Close())

	// A map is gone: that is no state to go on with.
	must(t, os.Remove(pinDir(r.opts.PinPath).MapFile(bpf.SteerMapBridges)))
	again, err = Open(r.opts)
	must(t, err)
	must(t, again.Effective(r.cgroup))
	must(t, again.Close())
	for _, name := range hooks {
		if n := attached(t, r, name); n != 1 {
			t.Errorf("%s is attached %d times, want once", name, n)
		}
	}
}

func attached(t *testing.T, r *rig, name string) int {
	t.Helper()
	spec, err := bpf.LoadSteer()
	must(t, err)
	dir, err := os.Open(r.cgroup)
	must(t, err)
	defer dir.Close()
	found, err := link.QueryPrograms(link.QueryOptions{Target: int(dir.Fd()), Attach: spec.Programs[name].AttachType})
	must(t, err)
	return len(found.Programs)
}

func wantNoPins(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left (%v)", path, err)
	}
}

// TestOtherLayoutsAreReplaced: pins of another version, older or newer, or with a
// map of another shape, are no reason not to start. What is done about them is said.
func TestOtherLayoutsAreReplaced(t *testing.T) {
	r := newRig(t)
	var said bytes.Buffer
	r.opts.Logger = slog.New(slog.NewTextHandler(&said, nil))
	d := r.open()
	a, b := r.steer(d)
	must(t, d.SetWorkload(b.workload(d, 20880)))
	steered := a.socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, connect(steered, sockaddr(netip.MustParseAddrPort(vip4+":20880"))))
	if got := fdLine(t, steered); !strings.HasPrefix(got, "proxy4 ") {
		t.Fatalf("steered to %q", got)
	}
	maps := filepath.Dir(pinDir(r.opts.PinPath).MapFile("any"))
	otherShape, err := bpf.LoadSteer()
	must(t, err)
	otherShape.Maps[bpf.SteerMapBridges].MaxEntries *= 2
	for _, test := range []struct {
		name, renamed string
		spec          *ebpf.CollectionSpec
		want          string // in the log
	}{
		{"older", "maps_v1", nil, "another version of dubway-agent"},
		{"newer", "maps_v999", nil, "another version of dubway-agent"},
		{"another shape", "", otherShape, "bridges"},
		{"and back", "", nil, "bridges"},
	} {
		said.Reset()
		if test.renamed != "" {
			must(t, os.Rename(maps, filepath.Join(r.opts.PinPath, test.renamed)))
			must(t, os.Remove(filepath.Join(r.opts.PinPath, test.renamed, bpf.SteerMapUnknowns)))
		}
		if test.spec == nil {
			test.spec, err = bpf.LoadSteer()
			must(t, err)
		}
		again, err := open(r.opts, test.spec, d.kernel)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if got := said.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, "pinned state is replaced") || !strings.Contains(got, test.want) {
			t.Errorf("%s: the log says %q", test.name, got)
		}
		must(t, again.Effective(r.cgroup))
		for _, name := range hooks {
			if n := attached(t, r, name); n != 1 {
				t.Errorf("%s: %s is attached %d times, want once", test.name, name, n)
			}
		}
		if left, err := again.Steering(); err != nil || len(left.Workloads)+len(left.Tables) != 0 {
			t.Errorf("%s: left %+v (%v)", test.name, left, err)
		}
		must(t, again.SetWorkload(a.workload(again)))
		must(t, publish(again, 1, []Destination{{Prefix: prefix(vip4 + "/32"), Port: 20880}}))
		c, err := a.dial("tcp4", vip4+":20880")
		must(t, err)
		if got := line(t, c); !strings.HasPrefix(got, "proxy4 "+vip4+":20880 ") {
			t.Errorf("%s: steered to %q", test.name, got)
		}
		must(t, again.Close())
	}
	if _, err := unix.Write(steered, []byte("still there")); err != nil {
		t.Errorf("the connection that was steered before: %v", err)
	}
}

func TestUninstallLeavesNothing(t *testing.T) {
	r := newRig(t)
	must(t, Uninstall(r.opts.PinPath)) // nothing there
	d, err := Open(r.opts)
	must(t, err)
	a, b := r.pods()
	must(t, d.SetWorkload(b.workload(d, 20880)))
	greet(t, "inbound", b.in["tcp4"])
	greet(t, "app", b.serve("tcp4", ":20880"))
	a.dialLine(t, "10.77.0.2:20880", "inbound")
	must(t, Uninstall(r.opts.PinPath)) // while the agent still runs
	a.dialLine(t, "10.77.0.2:20880", "app")
	for _, name := range hooks {
		if n := attached(t, r, name); n != 0 {
			t.Errorf("%s is still attached", name)
		}
	}
	left, err := filepath.Glob(r.opts.PinPath + "*")
	if err != nil || len(left) != 0 {
		t.Errorf("left in the BPF file system: %v (%v)", left, err)
	}
	must(t, d.Close())

	foreign := filepath.Join(r.opts.PinPath, "others")
	must(t, os.MkdirAll(foreign, 0o700))
	if err := Uninstall(r.opts.PinPath); err == nil || !strings.Contains(err.Error(), "not ours") {
		t.Errorf("uninstall of somebody else's pins: %v", err)
	}
	must(t, os.RemoveAll(r.opts.PinPath))
}

func TestDeadNamespaceIsForgotten(t *testing.T) {
	r := newRig(t)
	d := r.open()
	_, b := r.pods()
	w := b.workload(d, 20880)
	must(t, d.SetWorkload(w))
	for _, l := range []map[string]*net.TCPListener{b.in, b.out} {
		l["tcp4"].Close()
		l["tcp6"].Close()
	}
	b.ns.Close()
	file := d.pins.LookupFile(w.Cookie)
	deadline := time.Now().Add(time.Minute) // namespaces end in the background
	for {
		l, err := link.LoadPinnedLink(file, nil)
		must(t, err)
		inode, err := attachedNetns(l)
		must(t, errors.Join(err, l.Close()))
		if inode == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the namespace does not end")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if s, err := d.Status(); err != nil || s.Programs[len(hooks)].Attached != "" {
		t.Errorf("status with a dead namespace: %v, %v", s.Programs, err)
	}
	again, err := Open(r.opts)
	must(t, err)
	wantNoPins(t, file)
	must(t, again.Close())
	must(t, d.DeleteWorkload(w.Cookie))
	if cookies, err := d.Workloads(); err != nil || len(cookies) != 0 {
		t.Errorf("workloads = %v, %v", cookies, err)
	}
}

// Answers that are longer than a page, and foreign options, pass the hook as
// they were.
func TestOtherSocketOptionsAreUntouched(t *testing.T) {
	r := newRig(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	ask := func() string {
		var out strings.Builder
		must(t, control(l.(*net.TCPListener), func(fd int) error {
			buf := make([]byte, 16<<10)
			n, err := getsockoptBytes(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, buf)
			fmt.Fprintf(&out, "%q %v; ", buf[:min(n, 16)], err)
			n, err = getsockoptBytes(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, buf)
			fmt.Fprintf(&out, "%d %v; ", n, err)
			n, err = getsockoptBytes(fd, unix.SOL_SOCKET, 80, buf)
			fmt.Fprintf(&out, "%d %v; ", n, err)
			n, err = getsockoptBytes(fd, unix.SOL_IP, 80, buf[:16])
			fmt.Fprintf(&out, "%d %v", n, err)
			return nil
		}))
		return out.String()
	}
	without := ask()
	r.open()
	if with := ask(); with != without {
		t.Errorf("getsockopt answers %s, without us %s", with, without)
	}
}
