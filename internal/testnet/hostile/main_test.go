package hostile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubboload"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

func TestMain(m *testing.M) {
	testnet.Dispatch(map[string]testnet.Helper{
		"provider": provide, "victim": victim, "attack": attack, "calls": calls, "hoard": hoard, "try": try,
	})
	os.Exit(meshtest.Main(m, "ho"))
}

// provide is the provider's process: provide NAME.
func provide(args []string) error {
	ln, err := net.Listen("tcp", "[::]:20880")
	if err != nil {
		return err
	}
	return (&dubbotest.Provider{Name: args[0]}).Serve(ln)
}

// victim is the process of the pod that works: victim TAG JSON.
func victim(args []string) error {
	var load dubboload.Open
	if err := json.Unmarshal([]byte(args[1]), &load); err != nil {
		return err
	}
	r, err := load.Run(context.Background())
	if err != nil {
		return err
	}
	return say(args[0], r)
}

// calls makes a hundred calls, each on a connection of its own: calls TAG TARGET.
func calls(args []string) error {
	for range 100 {
		c, err := dubbotest.Dial(args[1])
		if err != nil {
			return err
		}
		a, err := c.Call(dubbotest.Request{}, []byte("x"), 10*time.Second)
		if err == nil && (a.Status != dubbotest.StatusOK || string(a.Value) != "x") {
			err = fmt.Errorf("status %d %s", a.Status, a.Error)
		}
		_ = c.Close()
		if err != nil {
			return err
		}
	}
	return say(args[0], "done")
}

// say prints a helper's result.
func say(tag string, result any) error {
	b, err := json.Marshal(result)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(os.Stdout, "%s%s\n", tag, b)
	return err
}

// mesh is a node with its proxy, and the helpers that have a tag so far.
type mesh struct {
	*meshtest.Mesh

	tags  int
	args  []string // more of the proxy's
	proxy *testnet.Process
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	return &mesh{Mesh: meshtest.New(t, "ho", 1, 10*time.Minute)}
}

// pod adds a pod; one that listens is a provider and has started when it returns.
func (m *mesh) pod(name string, ports ...uint16) *testnet.Pod {
	m.T.Helper()
	p, err := m.AddPod(name, map[string]string{"app": name}, ports...)
	m.Must(err)
	m.Must(p.Enroll())
	if len(ports) == 0 {
		return p
	}
	m.helper(p, "provider", name)
	m.eventually("provider "+name+" listens", time.Minute, func() bool { return p.Listens(20880) })
	return p
}

// start starts agent and proxy and waits until everything is in force.
func (m *mesh) start(pods ...*testnet.Pod) {
	m.T.Helper()
	_, err := m.StartAgent(m.Ctx)
	m.Must(err)
	m.proxy, err = m.StartProxyAs(m.Ctx, testnet.Command{
		Name: "proxy", Path: filepath.Join(meshtest.Binaries, "dubway-proxy"),
		Args: append([]string{"--access-log", "off", "--log-level", "warn"}, m.args...), RealtimePriority: realtime,
	})
	m.Must(err)
	m.Must(m.WaitEnrolled(m.Ctx, pods...))
	m.eventually("steering in force", time.Minute, func() bool {
		s, err := m.AgentStatus(m.Ctx)
		return err == nil && s.Generation > 0
	})
}

// realtime is the priority of everything but the attack. What is measured is how
// the proxy shares itself out, and not how the kernel shares a machine that is full.
const realtime = 1

// helper starts a helper as a pod.
func (m *mesh) helper(p *testnet.Pod, name string, args ...string) *testnet.Process {
	m.T.Helper()
	self, err := os.Executable()
	m.Must(err)
	command := testnet.Command{
		Name: p.Name + "-" + name, Path: self, Args: args, Env: []string{"DUBWAY_TESTNET_HELPER=" + name},
		RealtimePriority: realtime,
	}
	if name == "attack" {
		command.RealtimePriority = 0
	}
	proc, err := p.Start(command)
	m.Must(err)
	return proc
}

// launch starts a helper with a tag and a JSON argument, and returns a function
// that waits for its end and reads what it said.
func (m *mesh) launch(p *testnet.Pod, name string, ask any) func(result any) {
	m.T.Helper()
	arg, ok := ask.(string)
	if !ok {
		b, err := json.Marshal(ask)
		m.Must(err)
		arg = string(b)
	}
	m.tags++
	tag := fmt.Sprintf("%d:", m.tags)
	proc := m.helper(p, name, tag, arg)
	return func(result any) {
		m.T.Helper()
		if err := proc.Wait(m.Ctx); err != nil {
			m.T.Fatal(err)
		}
		for line := range strings.Lines(proc.Output()) {
			if said, ok := strings.CutPrefix(line, tag); ok {
				m.Must(json.Unmarshal([]byte(said), result))
				return
			}
		}
		m.T.Fatalf("helper %s said nothing", name)
	}
}

// eventually waits for a condition.
func (m *mesh) eventually(what string, limit time.Duration, ok func() bool) {
	m.T.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if ok() {
			return
		}
	}
	m.T.Errorf("waited in vain: %s", what)
}

var errNoSample = errors.New("no such sample")

// gauge reads one of the proxy's metrics.
func (m *mesh) gauge(name string) float64 {
	m.T.Helper()
	text, err := m.Metrics(m.Ctx)
	m.Must(err)
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			m.Must(err)
			return v
		}
	}
	m.Must(fmt.Errorf("%w: %s", errNoSample, name))
	return 0
}

// memory returns the proxy's resident size in MiB: VmRSS now, VmHWM at most.
func (m *mesh) memory(field string) int {
	m.T.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.proxy.Pid()))
	m.Must(err)
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.Atoi(strings.Fields(value)[0])
			m.Must(err)
			return kib / 1024
		}
	}
	m.Must(fmt.Errorf("%w: %s", errNoSample, field))
	return 0
}
