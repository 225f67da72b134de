package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/kubelet"
	"github.com/dubway/dubway/agent/netns/netnstest"
	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/handoff/lack"
)

// mesh is a whole agent over the real datapath, two pods, and a toy proxy. The
// test process plays all of them from below the cgroup of its own.
type mesh struct {
	*testing.T

	opts Options
	log  *syncBuffer
	a, b *netnstest.Netns
	stop func() error // the running agent
}

func cgroupRoot(t *testing.T) string {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		var st unix.Statfs_t
		if unix.Statfs(root, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return root
		}
	}
	t.Skip("no cgroup2 hierarchy")
	return ""
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("the datapath needs root")
	}
	m := &mesh{T: t, log: &syncBuffer{}}
	root := cgroupRoot(t)
	cgroup := filepath.Join(root, fmt.Sprintf("dubway-agent-%d", os.Getpid()))
	m.must(os.Mkdir(cgroup, 0o755))
	t.Cleanup(func() { m.must(os.Remove(cgroup)) })
	join := func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, os.Getpid()), 0o600)
	}
	m.must(join(cgroup))
	t.Cleanup(func() { m.must(join(root)) })
	bpffs := t.TempDir()
	m.must(unix.Mount("bpf", bpffs, "bpf", 0, ""))
	t.Cleanup(func() { m.must(unix.Unmount(bpffs, unix.MNT_DETACH)) })
	m.opts = Options{
		StateDir: t.TempDir(), PinPath: filepath.Join(bpffs, "dubway"), Cgroup: cgroup, Workloads: t.TempDir(),
		NodeName: "node-a", ProxyUID: os.Getuid(), CheckInterval: time.Second, KubeletCgroup: kubelet.Off,
		Logger: slog.New(slog.NewTextHandler(m.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(m.log.String())
		}
	})
	t.Cleanup(func() { m.must(datapath.Uninstall(m.opts.PinPath)) })
	m.a, m.b = netnstest.Pods(t)
	m.workload("consumer", m.a, "10.97.0.1", "fd97::1")
	m.workload("provider", m.b, "10.97.0.2", "fd97::2")
	return m
}

// syncBuffer is read while the agent goes on writing.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (m *mesh) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *mesh) workload(name string, ns *netnstest.Netns, addresses ...string) {
	m.Helper()
	text := fmt.Sprintf("apiVersion: dubway.io/v1alpha1\nkind: Workload\nmetadata: {name: %s, namespace: shop}\n"+
		"spec: {netns: %s, cgroup: %s, addresses: [%q], ports: [20880]}\n",
		name, ns.Path, m.opts.Cgroup, strings.Join(addresses, `","`))
	text = strings.ReplaceAll(text, `\",\"`, `","`)
	m.must(os.WriteFile(filepath.Join(m.opts.Workloads, name+".yaml"), []byte(text), 0o600))
}

// start runs an agent until stop is called or the test ends.
func (m *mesh) start() {
	m.Helper()
	a, err := New(m.opts)
	m.must(err)
	ctx, cancel := context.WithCancel(m.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	m.stop = sync.OnceValue(func() error { cancel(); return <-done })
	stop := m.stop
	m.Cleanup(func() { m.must(stop()) })
}

// get asks the agent's admin socket.
func (m *mesh) get(path string) string {
	m.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", admin.AgentSocket(m.opts.StateDir))
	}}}
	defer client.CloseIdleConnections()
	answer, err := client.Get("http://agent" + path)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	m.must(err)
	return string(body)
}

// enrolled waits until the agent says that n pods are.
func (m *mesh) enrolled(n int) admin.AgentStatus {
	m.Helper()
	var s admin.AgentStatus
	for range 3000 {
		s = admin.AgentStatus{}
		if json.Unmarshal([]byte(m.get(admin.PathStatus)), &s) == nil && s.Workloads.Enrolled == n && s.ProxyConnected {
			return s
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.Fatalf("not %d pods enrolled with a proxy: %+v", n, s)
	return s
}

// steered waits until n pods are in the datapath, with a proxy, enrolled or not: what has
// no table has no way.
func (m *mesh) steered(n int) {
	m.Helper()
	for range 3000 {
		var s admin.AgentStatus
		var list admin.WorkloadList
		if json.Unmarshal([]byte(m.get(admin.PathStatus)), &s) == nil && s.ProxyConnected &&
			json.Unmarshal([]byte(m.get(admin.PathWorkloads)), &list) == nil && len(slices.DeleteFunc(list.Items,
			func(w admin.WorkloadStatus) bool { return w.NetnsCookie == 0 })) == n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.Fatalf("not %d pods steered with a proxy: %s", n, m.get(admin.PathWorkloads))
}

// relay is a toy proxy: it carries bytes from 15001 to where the consumer meant
// to go, and from 15006 to the application.
type relay struct {
	*testing.T

	client *handoff.Client
	end    chan struct{}
	told   chan laneTold
}

func startRelay(m *mesh) *relay {
	m.Helper()
	r := &relay{T: m.T, end: make(chan struct{}, 100), told: make(chan laneTold, 100)}
	r.client = handoff.NewClient(handoff.Socket(m.opts.StateDir), "node-a", r, m.opts.Logger)
	ctx, cancel := context.WithCancel(m.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = r.client.Run(ctx)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	m.Cleanup(func() { cancel(); <-done; r.client.Close() })
	return r
}

func (r *relay) Workload(w *handoff.Workload, files []*os.File) error {
	for i, f := range files {
		l, err := net.FileListener(f)
		f.Close()
		if err != nil {
			return err
		}
		r.Cleanup(func() { l.Close() })
		go r.accept(w.UID, w.Listeners[i].Direction, l)
	}
	return nil
}

func (r *relay) WorkloadGone(string) error { return nil }

func (r *relay) SnapshotEnd() error { r.end <- struct{}{}; return nil }

func (r *relay) Yield() {}

func (r *relay) accept(uid string, direction handoff.Direction, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		ask := handoff.Dial{Workload: uid}
		if direction == handoff.Outbound {
			if ask.Destination = originalDestination(c.(*net.TCPConn)); lack.IsAsked(ask.Destination) {
				_, _ = c.Write(lack.None.Answer(uid))
				_ = c.Close()
				continue
			}
		} else {
			ask.Destination = addrPort(c.LocalAddr())
			ask.Client = addrPort(c.RemoteAddr())
		}
		go r.carry(c, ask)
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	p := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

func (r *relay) carry(c net.Conn, ask handoff.Dial) {
	defer c.Close()
	fd, err := r.client.Dial(r.Context(), ask)
	for range 3000 { // while the agent is away
		if err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
		fd, err = r.client.Dial(r.Context(), ask)
	}
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), "upstream")
	up, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return
	}
	defer up.Close()
	go func() {
		_, _ = io.Copy(up, c)
		_ = up.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(c, up)
}

// originalDestination asks the kernel as any transparent proxy does.
func originalDestination(c *net.TCPConn) (to netip.AddrPort) {
	raw, err := c.SyscallConn()
	if err != nil {
		return to
	}
	level, mapped := uintptr(unix.IPPROTO_IP), true
	if addrPort(c.LocalAddr()).Addr().Is6() {
		level, mapped = unix.IPPROTO_IPV6, false
	}
	_ = raw.Control(func(fd uintptr) {
		var sa unix.RawSockaddrInet6
		size := uint32(unsafe.Sizeof(sa))
		const soOriginalDst = 80
		if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, level, soOriginalDst,
			uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), 0); errno != 0 {
			return
		}
		port := sa.Port>>8 | sa.Port<<8
		if mapped {
			sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sa))
			to = netip.AddrPortFrom(netip.AddrFrom4(sa4.Addr), port)
		} else {
			to = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), port)
		}
	})
	return to
}

// serve is the provider's application: it answers with the peer that it sees
// and what it read.
func (m *mesh) serve(at string) {
	m.Helper()
	var l net.Listener
	m.b.Must(func() (err error) { l, err = net.Listen("tcp", at); return err })
	m.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b, _ := io.ReadAll(c)
				fmt.Fprintf(c, "%s %s", addrPort(c.RemoteAddr()).Addr(), b)
			}()
		}
	}()
}

// call is the consumer's application: it sends a word and returns what comes
// back, and the peer that it sees.
func (m *mesh) call(to string) string {
	m.Helper()
	var c net.Conn
	m.a.Must(func() (err error) { c, err = net.DialTimeout("tcp", to, 30*time.Second); return err })
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_, err := io.WriteString(c, "hello")
	m.must(err)
	m.must(c.(*net.TCPConn).CloseWrite())
	b, err := io.ReadAll(c)
	m.must(err)
	return fmt.Sprintf("%s, peer %s", b, c.RemoteAddr())
}

// calls makes a call by each family and checks both ends' views.
func (m *mesh) calls() {
	m.Helper()
	for to, from := range map[string]string{"10.97.0.2:20880": "10.97.0.1", "[fd97::2]:20880": "fd97::1"} {
		if got, want := m.call(to), from+" hello, peer "+to; got != want {
			m.Errorf("call to %s: %q, want %q", to, got, want)
		}
	}
}

func (m *mesh) outcome(name string) (n uint64) {
	m.Helper()
	var s admin.AgentStatus
	m.must(json.Unmarshal([]byte(m.get(admin.PathStatus)), &s))
	return s.Counters[name]
}

// TestAgent is the way of a call over a real datapath, before, during and after
// a restart of the agent.
func TestAgent(t *testing.T) {
	m := newMesh(t)
	m.serve("[::]:20880") // both families, as most applications do
	m.calls()             // unmeshed

	m.start()
	r := startRelay(m)
	<-r.end
	m.steered(2)
	to := []handoff.Destination{
		{Prefix: netip.MustParsePrefix("10.97.0.2/32"), Port: 20880},
		{Prefix: netip.MustParsePrefix("fd97::2/128"), Port: 20880},
	}
	m.must(r.client.Destinations(t.Context(), 3, handoff.DestinationTable{Entries: to}))
	m.enrolled(2)
	m.calls()
	if n := m.outcome("steered"); n != 2 {
		t.Errorf("%d connects were steered, want 2; %s", n, m.get(admin.PathStatus))
	}
	if n := m.outcome("lookup_assigned"); n != 2 {
		t.Errorf("%d connections went to the inbound listener, want 2", n)
	}

	// The agent goes away: a call that begins now is steered, waits for the next
	// agent's socket and is answered.
	m.must(m.stop())
	for len(r.end) > 0 {
		<-r.end
	}
	answers := make(chan string, 1)
	go func() { answers <- m.call("10.97.0.2:20880") }()
	time.Sleep(100 * time.Millisecond)
	m.start()
	<-r.end
	status := m.enrolled(2)
	if got, want := <-answers, "10.97.0.1 hello, peer 10.97.0.2:20880"; got != want {
		t.Errorf("the call over the restart: %q, want %q", got, want)
	}
	m.calls()
	if status.Generation != 3 {
		t.Errorf("generation is %d after the restart", status.Generation)
	}
	if n := m.outcome("steered"); n != 5 {
		t.Errorf("%d connects were steered, want 5", n)
	}
	if strings.Contains(m.log.String(), "workload of an earlier agent removed") {
		t.Error("steering was interrupted")
	}

	// A pod that leaves is not steered any more.
	m.must(os.Remove(filepath.Join(m.opts.Workloads, "consumer.yaml")))
	m.enrolled(1)
	m.calls()
	if n := m.outcome("steered"); n != 5 {
		t.Errorf("%d connects were steered after the pod had left", n-5)
	}
}

func TestAgentAnswers(t *testing.T) {
	m := newMesh(t)
	m.must(os.WriteFile(filepath.Join(m.opts.Workloads, "bad.yaml"), []byte("kind: Pod\n"), 0o600))
	m.opts.CNIConfDir = t.TempDir()
	m.must(os.WriteFile(filepath.Join(m.opts.CNIConfDir, "10-other.conflist.cilium_bak"), nil, 0o600))
	m.start()
	r := startRelay(m)
	<-r.end
	m.steered(2)
	said := ""
	for range 3000 {
		if said = m.get(admin.PathWorkloads); strings.Count(said, "has published no destinations yet") == 2 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if strings.Count(said, "has published no destinations yet") != 2 {
		t.Errorf("nothing is published: %s", said)
	}
	m.must(r.client.Destinations(t.Context(), 1, handoff.DestinationTable{}))
	status := m.enrolled(2)
	conflicts := fmt.Sprint(status.Conflicts) // our own programs are none
	if !strings.Contains(conflicts, "{CNI folder Cilium has put") || strings.Contains(conflicts, "other programs") ||
		!strings.Contains(m.log.String(), `msg="conflict on this node" conflict="CNI folder"`) {
		t.Errorf("conflicts: %s", conflicts)
	}
	if status.Node != "node-a" || status.Cgroup != m.opts.Cgroup || len(status.Programs) == 0 || len(status.Maps) == 0 ||
		len(status.Problems) != 1 || !strings.Contains(status.Problems[0], "bad.yaml") {
		t.Errorf("status: %+v", status)
	}
	var list admin.WorkloadList
	m.must(json.Unmarshal([]byte(m.get(admin.PathWorkloads)), &list))
	if len(list.Items) != 2 || list.Items[0].UID != "shop/consumer" || !list.Items[0].Enrolled || list.Items[0].NetnsCookie == 0 {
		t.Errorf("workloads: %+v", list)
	}
	_, _ = r.client.Dial(t.Context(), handoff.Dial{Workload: "shop/consumer", Destination: netip.MustParseAddrPort("127.0.0.1:80")})
	metrics := m.get(admin.PathMetrics)
	for _, want := range []string{
		`dubway_workloads{reason="",state="enrolled"} 2`, `dubway_dials_total{result="denied"} 1`,
		`dubway_handoff_connects_total{result="accepted"} 1`, `dubway_handoff_connected 1`,
		`dubway_workload_files_rejected 1`, `dubway_datapath_outcomes_total{outcome="steered"} 0`,
		`dubway_destinations_generation 1`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("metrics have no %s\n%s", want, metrics)
		}
	}
}
