package scenario

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// tapLine is what tap -o json says of one request.
type tapLine struct {
	admin.TapEvent

	Decoded struct {
		Request struct {
			Arguments   []any
			Attachments map[string]any
		}
		Answer struct{ Exception, Value any }
	}
}

// tap is dubwayctl tap at work.
type tap struct {
	m     *mesh
	cmd   *exec.Cmd
	out   output
	err   bytes.Buffer
	ended chan error
}

// output is read while the tap writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

// whole returns the lines that are complete.
func (o *output) whole() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := bytes.Clone(o.b.Bytes())
	return b[:bytes.LastIndexByte(b, '\n')+1]
}

// tap starts dubwayctl tap -o json.
func (m *mesh) tap(args ...string) *tap {
	m.t.Helper()
	args = append([]string{"--state-dir", m.StateDir(), "tap", "-o", "json"}, args...)
	t := &tap{m: m, cmd: exec.CommandContext(m.ctx, filepath.Join(meshtest.Binaries, "dubwayctl"), args...), ended: make(chan error, 1)}
	t.cmd.Stdout, t.cmd.Stderr = &t.out, &t.err
	m.must(t.cmd.Start())
	go func() { t.ended <- t.cmd.Wait() }()
	return t
}

// during calls until the tap has ended by itself, and returns what it said.
func (t *tap) during(calls func()) []tapLine {
	t.m.t.Helper()
	for range 100 {
		calls()
		select {
		case err := <-t.ended:
			t.m.must(err)
			return t.lines()
		default:
		}
	}
	t.m.t.Fatal("the tap does not end")
	return nil
}

// stop ends the tap as ^C does.
func (t *tap) stop() []tapLine {
	t.m.t.Helper()
	t.m.must(t.cmd.Process.Signal(syscall.SIGINT))
	if err := <-t.ended; err != nil {
		t.m.t.Errorf("after ^C: %v: %s", err, &t.err)
	}
	return t.lines()
}

func (t *tap) lines() (lines []tapLine) {
	t.m.t.Helper()
	for text := range bytes.Lines(t.out.whole()) {
		var l tapLine
		if err := json.Unmarshal(text, &l); err != nil {
			t.m.t.Fatalf("%v in %s", err, text)
		}
		lines = append(lines, l)
	}
	return lines
}

// TestTap: an operator sees a business exception's class and the call's argument;
// a filter holds others back; under load what is not shown is counted, and no
// call is lost or changed; the class is in the metrics too.
func TestTap(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.put(routed{addresses: []string{vip4}, routes: split(map[string]int{"v1": 1, "v2": 1}), clusters: both(v1, v2)})
	_, proxy := m.start(consumer, v1, v2)
	target := vip4 + ":20880"
	call := func(method string, n int) {
		t.Helper()
		m.calls(consumer, callsOf{Target: target, N: n, Timeout: 30 * time.Second, Request: dubbotest.Request{Method: method}})
	}

	lines := m.tap("--decode", "--method", "throw*", "--limit", "1").during(func() { call("echo", 2); call("throwIt", 1) })
	if len(lines) != 1 {
		t.Fatalf("the tap shows %d requests, want 1", len(lines))
	}
	l := lines[0]
	if l.Method != "throwIt" || l.Result != "exception" || l.Exception != "java.lang.RuntimeException" || l.StatusName != "ok" ||
		l.Serialization != "hessian2" || l.Consumer.Pod != "consumer" || !strings.HasPrefix(l.Provider.Pod, "provider-") {
		t.Errorf("the tap shows %+v", l.TapEvent)
	}
	if args := l.Decoded.Request.Arguments; len(args) != 1 || args[0] != "0" || l.Decoded.Request.Attachments["path"] != dubbotest.DefaultInterface {
		t.Errorf("the arguments are shown as %v", l.Decoded.Request)
	}
	if text := fmt.Sprint(l.Decoded.Answer.Exception); !strings.Contains(text, "as you asked") {
		t.Errorf("the exception is shown as %s", text)
	}
	if !strings.Contains(proxy.Output(), `"msg":"tap begins","uid":0,"bodies":true`) {
		t.Error("the proxy does not tell who reads bodies")
	}

	for _, l := range m.tap("--pod", testnet.Namespace+"/provider-2", "--limit", "20").during(func() { call("echo", 20) }) {
		if l.Provider.Pod != "provider-2" || l.Request != nil {
			t.Errorf("the filter lets %+v through", l.TapEvent)
		}
	}
	m.tapUnderLoad(consumer, proxy, target)
	m.tapAsAnother()
	m.eventually("the class is counted", func() bool {
		text, err := m.Metrics(m.ctx)
		return err == nil && sum(text, "istio_requests_total{", []string{`dubbo_exception="java.lang.RuntimeException"`, `dubbo_method="throwIt"`}) > 0
	})
	if !strings.Contains(proxy.Output(), `"dubbo_exception":"java.lang.RuntimeException","dubbo_serialization":"hessian2"`) {
		t.Error("the access log does not tell the class")
	}
}

// tapUnderLoad holds a tap that shows all, bodies too, against 100,000 calls.
func (m *mesh) tapUnderLoad(consumer *testnet.Pod, proxy *testnet.Process, target string) {
	m.t.Helper()
	begun := strings.Count(proxy.Output(), `"msg":"tap begins"`)
	tap := m.tap("--decode")
	top := exec.CommandContext(m.ctx, filepath.Join(meshtest.Binaries, "dubwayctl"), "--state-dir", m.StateDir(),
		"top", "-n", "1", "--interval", "1s", "-o", "json")
	m.eventually("the tap is on", func() bool { return strings.Count(proxy.Output(), `"msg":"tap begins"`) > begun })
	v := dubbotest.Verify{Target: target, Conns: 4, Depth: 64, Calls: 100_000, MaxSize: 1 << 10, Timeout: time.Minute}
	var result dubbotest.VerifyResult
	wait := m.launch(consumer, "verify", v)
	report, err := top.Output()
	m.must(err)
	wait(&result)
	if result.Answered != v.Calls || result.Lost+result.Duplicated+result.Refused != 0 {
		m.t.Errorf("under a tap: %+v", result)
	}
	var shown, dropped, decoded int
	add := func(lines []tapLine) {
		shown, dropped, decoded = 0, 0, 0
		for _, l := range lines {
			dropped += int(l.Dropped)
			if !l.Time.IsZero() {
				shown++
			}
			if len(l.Decoded.Request.Arguments) == 1 {
				decoded++
			}
		}
	}
	m.eventually("all are shown, or told of", func() bool { add(tap.lines()); return shown+dropped >= v.Calls })
	add(tap.stop())
	m.t.Logf("of %d calls %d were shown, %d with their arguments, and %d dropped", v.Calls, shown, decoded, dropped)
	if shown+dropped < v.Calls || dropped == 0 || decoded == 0 {
		m.t.Errorf("of %d calls %d were shown, %d with their arguments, and %d dropped", v.Calls, shown, decoded, dropped)
	}
	var r admin.TopReport
	m.must(json.Unmarshal(report, &r))
	calls := 0
	for _, row := range r.Items {
		if row.Interface == dubbotest.DefaultInterface && row.Method == "echo" && row.P50Ms > 0 && row.Failed == 0 {
			calls += int(row.Calls)
		}
	}
	if calls == 0 {
		m.t.Errorf("top shows %s", report)
	}
}

// tapAsAnother runs dubwayctl as a user who is in the socket's group and no more:
// that one sees requests, and no bodies.
func (m *mesh) tapAsAnother() {
	m.t.Helper()
	run := func(args ...string) (string, error) {
		args = append([]string{"--state-dir", m.StateDir(), "tap", "--for", "200ms"}, args...)
		cmd := exec.CommandContext(m.ctx, filepath.Join(meshtest.Binaries, "dubwayctl"), args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: testnet.ProxyUID + 1, Gid: testnet.ProxyUID}}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run(); err != nil {
		m.t.Errorf("the group may not tap: %v: %s", err, out)
	}
	if out, err := run("--decode"); err == nil || !strings.Contains(out, "only root and the proxy's own user may read them") {
		m.t.Errorf("the group reads bodies: %v: %s", err, out)
	}
}
