package hostile

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubboload"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// hoarding is what the hoarder is asked: so many connections, on each of which it will
// have the proxy hold a part of a request.
type hoarding struct {
	Target string
	Conns  int
}

// hoarded is what it got for them.
type hoarded struct {
	Held           int   // requests of which it sent a part
	Thrown, Others int64 // answers: exceptions, and anything else
}

// held is how much of a request is sent: the proxy holds requests whole up to 256 KiB.
const held = 200 << 10

// hoard is the process of a pod that uses the proxy's memory up: hoard TAG JSON. All
// connections are open before it says so; then each line of its input is a number of
// them that send a part.
func hoard(args []string) error {
	var ask hoarding
	if err := json.Unmarshal([]byte(args[1]), &ask); err != nil {
		return err
	}
	var r hoarded
	conns := make([]net.Conn, ask.Conns)
	for i := range conns {
		c, err := net.DialTimeout("tcp", ask.Target, 10*time.Second)
		if err != nil {
			return err
		}
		conns[i] = c
		if _, err := c.Write(call("echo", []byte("x"))); err != nil {
			return err
		}
		if _, _, err := readAnswer(c); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
	}
	fmt.Fprintln(os.Stdout, "ready")
	frame := call("echo", make([]byte, 240<<10))
	var reading sync.WaitGroup
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); fmt.Fprintln(os.Stdout, "held", r.Held) {
		var n int
		if _, err := fmt.Sscan(lines.Text(), &n); err != nil {
			return err
		}
		for ; n > 0 && r.Held < len(conns); n-- {
			c := conns[r.Held]
			r.Held++
			if _, err := c.Write(frame[:held]); err != nil {
				continue
			}
			reading.Go(func() { r.count(c) })
		}
	}
	for _, c := range conns {
		_ = c.Close()
	}
	reading.Wait()
	return say(args[0], r)
}

// count counts the answers of a connection until its end.
func (r *hoarded) count(c net.Conn) {
	for {
		status, body, err := readAnswer(c)
		switch {
		case err != nil:
			return
		case status == dubbotest.StatusOK && (body[0] == 0x93 || body[0] == 0x90): // an exception, with attachments or without
			atomic.AddInt64(&r.Thrown, 1)
		default:
			atomic.AddInt64(&r.Others, 1)
		}
	}
}

func readAnswer(c net.Conn) (status byte, body []byte, err error) {
	head := make([]byte, 16)
	if _, err = io.ReadFull(c, head); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint32(head[12:]))
	_, err = io.ReadFull(c, body)
	return head[3], body, err
}

// try makes a call on a new connection and says what became of it: try TAG TARGET.
func try(args []string) error {
	c, err := dubbotest.Dial(args[1])
	if err == nil {
		defer func() { _ = c.Close() }()
		_, err = c.Call(dubbotest.Request{}, []byte("x"), 10*time.Second)
	}
	if err != nil {
		return say(args[0], "refused")
	}
	return say(args[0], "served")
}

func (m *mesh) tries(pod *testnet.Pod, target string) (how string) {
	m.T.Helper()
	m.launch(pod, "try", target+":20880")(&how)
	return how
}

// limit is the memory that the proxy has, as the kernel sees to it.
const limit = 128 << 20

// TestOverload: one pod uses the memory of the proxy's cgroup up. From 80 % on nobody
// gets a new connection; at 90 % that pod's requests are refused, as exceptions, which
// consumers do not send again, and what they held is free at once. The other pod goes
// on without an error, and the kernel kills nothing.
func TestOverload(t *testing.T) {
	m := newMesh(t)
	enemy, worker := m.pod("enemy"), m.pod("worker")
	target, server := m.pod("target", 20880), m.pod("server", 20880)
	m.configure(map[string]*testnet.Pod{plain: target, quiet: server})
	if err := m.LimitProxy(limit); err != nil {
		t.Fatalf("the memory controller cannot be used: %v", err)
	}
	m.args = []string{"--max-buffer-bytes", fmt.Sprint(limit)} // so that memory is what bounds it
	m.start(enemy, worker, target, server)
	if s := m.status(); s.Memory.Limit != limit || s.Memory.Level != "calm" {
		t.Fatalf("the proxy sees %+v, want the limit of its cgroup", s.Memory)
	}

	say, done := m.hoarder(enemy, hoarding{Target: plain + ":20880", Conns: 900})
	load := dubboload.Open{Target: quiet + ":20880", Conns: 8, Rate: 200, Size: 1024, Warmup: time.Second, Time: 30 * time.Second}
	var during dubboload.Result
	works := m.launch(worker, "victim", load)
	m.tight(say, "the level is 1 at least", func() bool { return m.gauge("dubway_memory_level") >= 1 })
	for _, pod := range []*testnet.Pod{worker, enemy} {
		m.tight(say, "a new connection of "+pod.Name+" is refused", func() bool { return m.tries(pod, quiet) == "refused" })
	}
	if n := m.gauge("dubway_connections_tight_total"); n < 2 {
		t.Errorf("%v connections are counted as refused", n)
	}
	m.tight(say, "dubwayctl status tells", func() bool {
		out, err := exec.CommandContext(m.Ctx, filepath.Join(meshtest.Binaries, "dubwayctl"), "--state-dir", m.StateDir(), "status").CombinedOutput()
		m.Must(err)
		return strings.Contains(string(out), "tight") || strings.Contains(string(out), "full")
	})

	m.grow(say, "requests are refused because of memory", func() bool { return m.Sum("istio_requests_total{", `response_flags="OM"`) > 0 })
	var r hoarded
	done(&r)
	if r.Thrown == 0 || r.Others > 0 {
		t.Errorf("%+v: want nothing but exceptions, which nobody sends again", r)
	}
	log := m.proxy.Output()
	if !strings.Contains(log, `"workload":"shop/enemy"`) || strings.Contains(log, `refused","workload":"shop/worker"`) {
		t.Errorf("want the enemy shed, and not the worker: %s", log)
	}
	for _, pod := range []*testnet.Pod{worker, enemy} {
		m.eventually(pod.Name+" is served again", 60*time.Second, func() bool { return m.tries(pod, quiet) == "served" })
	}
	works(&during)
	if want := int64(load.Rate * load.Time.Seconds()); during.Calls < want*99/100 {
		t.Errorf("%d of the other pod's %d calls", during.Calls, want)
	}
	killed, err := m.Killed()
	m.Must(err)
	select {
	case <-m.proxy.Done():
		t.Error("the proxy has ended")
	default:
	}
	if killed > 0 || m.Sum("istio_requests_total{", `response_flags="OM"`, `source_workload="worker"`) > 0 {
		t.Errorf("the kernel killed %d times", killed)
	}
	t.Logf("%+v; the other pod's p50 %v, p99 %v; the proxy had %d MiB at most", r, during.P50, during.P99, m.memory("VmHWM"))
}

func (m *mesh) status() admin.ProxyStatus {
	m.T.Helper()
	s, err := m.ProxyStatus(m.Ctx)
	m.Must(err)
	return s
}

// hoarder starts one, whose connections are open when it returns.
func (m *mesh) hoarder(pod *testnet.Pod, ask hoarding) (hold func(n int), done func(*hoarded)) {
	m.T.Helper()
	arg, err := json.Marshal(ask)
	m.Must(err)
	self, err := os.Executable()
	m.Must(err)
	in, out, err := os.Pipe()
	m.Must(err)
	proc, err := pod.Start(testnet.Command{
		Name: pod.Name + "-hoard", Path: self, Args: []string{"hoard:", string(arg)}, Stdin: in,
		Env: []string{"DUBWAY_TESTNET_HELPER=hoard"},
	})
	m.Must(err)
	_ = in.Close()
	m.Must(proc.WaitText(m.Ctx, "ready"))
	hold = func(n int) {
		_, err := fmt.Fprintln(out, n)
		m.Must(err)
	}
	return hold, func(r *hoarded) {
		_ = out.Close()
		m.Must(proc.Wait(m.Ctx))
		_, said, _ := strings.Cut(proc.Output(), "hoard:")
		m.Must(json.Unmarshal([]byte(strings.TrimSpace(said)), r))
	}
}

// tight does what finds memory tight, or full. What the proxy collects as garbage can make it calm
// again before that is done: then once more.
func (m *mesh) tight(hold func(int), what string, finds func() bool) {
	m.T.Helper()
	for range 5 {
		m.grow(hold, "memory is tight", func() bool { return m.status().Memory.Level != "calm" })
		if finds() {
			return
		}
	}
	m.T.Errorf("not so, while memory is tight: %s", what)
}

// grow has the hoarder hold more, 1.6 MiB at a time, until it is reached.
func (m *mesh) grow(hold func(int), what string, reached func() bool) {
	m.T.Helper()
	for range 120 {
		for range 10 { // the level follows in a tenth of a second
			if reached() {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		hold(8)
	}
	m.T.Fatalf("not reached: %s: %+v", what, m.status().Memory)
}
