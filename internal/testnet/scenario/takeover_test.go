package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/takeover"
	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// instance is one agent with its proxy, as a pod of the DaemonSet has them: with a state
// directory of their own.
type instance struct {
	m            *mesh
	number       int
	state        string
	agent, proxy *testnet.Process
}

// nodeDir is the directory that outlives the instances.
func (m *mesh) nodeDir() string { return filepath.Join(m.StateDir(), "node") }

// instance starts the nth agent and, if it is to have one, its proxy.
func (m *mesh) instance(number int, proxied bool) *instance {
	m.t.Helper()
	i := &instance{m: m, number: number, state: filepath.Join(m.StateDir(), fmt.Sprint("instance", number))}
	m.must(os.MkdirAll(i.state, 0o755))
	i.startAgent()
	if proxied {
		i.startProxy()
	}
	return i
}

// startAgent starts the agent. It need not be the active one.
func (i *instance) startAgent() {
	i.m.t.Helper()
	var err error
	i.agent, err = i.m.LaunchAgent(fmt.Sprint("agent", i.number), "--state-dir", i.state, "--node-dir", i.m.nodeDir())
	i.m.must(err)
}

// startProxy starts the proxy when the agent has made its folder.
func (i *instance) startProxy() {
	i.m.t.Helper()
	var err error
	i.hasFolder()
	i.proxy, err = i.m.StartUnprivileged(testnet.Command{
		Name: fmt.Sprint("proxy", i.number), Path: filepath.Join(meshtest.Binaries, "dubway-proxy"),
		Args: []string{
			"--state-dir", i.state, "--xds-dir", i.m.XDSDir(), "--access-log", "stdout", "--drain", "5s",
			"--metrics-address", fmt.Sprint(":", 15020+20*i.number), "--health-address", fmt.Sprint(":", 15021+20*i.number),
		},
	})
	i.m.must(err)
}

// hasFolder waits until the agent has made the folder of its proxy.
func (i *instance) hasFolder() {
	i.m.t.Helper()
	i.m.eventually(fmt.Sprintf("agent %d has made the folder of its proxy", i.number), func() bool {
		_, err := os.Stat(filepath.Join(i.state, "proxy"))
		return err == nil
	})
}

func (i *instance) ask(path string, answer any) error {
	client := admin.NewClient(admin.AgentSocket(i.state))
	defer client.Close()
	ctx, cancel := context.WithTimeout(i.m.ctx, 10*time.Second)
	defer cancel()
	return client.Get(ctx, path, answer)
}

// is waits until the agent is in a role, and serves in it.
func (i *instance) is(role admin.Role) {
	i.m.t.Helper()
	i.m.eventually(fmt.Sprintf("agent %d is %s and ready", i.number, role), func() bool {
		var ready admin.AgentReady
		return i.ask(admin.PathReady, &ready) == nil && ready.Role == role
	})
}

// waits until the agent says why it does not serve.
func (i *instance) waits(why string) {
	i.m.t.Helper()
	i.m.eventually(fmt.Sprintf("agent %d is not ready: %s", i.number, why), func() bool {
		var ready admin.AgentReady
		err := i.ask(admin.PathReady, &ready)
		return err != nil && strings.Contains(err.Error(), why)
	})
}

func (i *instance) status() (s admin.AgentStatus) {
	i.m.t.Helper()
	i.m.must(i.ask(admin.PathStatus, &s))
	return s
}

// accepts counts the connections that the proxy serves.
func (i *instance) connections() int {
	i.m.t.Helper()
	client := admin.NewClient(admin.ProxySocket(i.state))
	defer client.Close()
	var s admin.ProxyStatus
	i.m.must(client.Get(i.m.ctx, admin.PathStatus, &s))
	return s.Connections.Downstream
}

// end ends the instance as the kubelet ends a pod: both are told at the same time.
func (i *instance) end() {
	i.m.t.Helper()
	for _, p := range []*testnet.Process{i.proxy, i.agent} {
		i.m.must(p.Signal(syscall.SIGTERM))
	}
	for _, p := range []*testnet.Process{i.proxy, i.agent} {
		i.m.must(p.Wait(i.m.ctx))
	}
}

// steadyOf is a consumer that calls one after another over one connection, and dials
// again when that has ended: a call that got no answer for that is made once more, as a
// consumer's failover does.
type steadyOf struct {
	Target string
	Pause  time.Duration
	Time   time.Duration
}

type steadyResult struct {
	Answered, Dials int
	Again           int // calls that were made a second time
	Failed          int
	First           string // error
}

func steady(args []string) error {
	var ask steadyOf
	if err := json.Unmarshal([]byte(args[1]), &ask); err != nil {
		return err
	}
	var r steadyResult
	var c *dubbotest.Client
	call := func() error {
		if c != nil && c.Ended() { // as a consumer sees that its provider is gone
			c = nil
		}
		if c == nil {
			var err error
			if c, err = dubbotest.Dial(ask.Target); err != nil {
				return err
			}
			r.Dials++
		}
		a, err := c.Call(dubbotest.Request{}, []byte("x"), 30*time.Second)
		if err != nil {
			_ = c.Close()
			c = nil
			return err
		}
		if a.Status != dubbotest.StatusOK {
			return fmt.Errorf("status %d: %s", a.Status, a.Error)
		}
		return nil
	}
	for end := time.Now().Add(ask.Time); time.Now().Before(end); time.Sleep(ask.Pause) {
		err := call()
		if err != nil && c == nil {
			r.Again++
			err = call()
		}
		if err == nil {
			r.Answered++
		} else if r.Failed++; r.First == "" {
			r.First = err.Error()
		}
	}
	if c != nil {
		_ = c.Close()
	}
	return say(args[0], r)
}

// upgraded is a shop whose first instance serves.
func upgraded(t *testing.T) (m *mesh, first *instance, consumer *testnet.Pod, target string) {
	t.Helper()
	m, consumer, v1, v2 := shop(t)
	m.put(routed{addresses: []string{vip4}, routes: split(map[string]int{"v1": 1, "v2": 1}), clusters: both(v1, v2)})
	first = m.instance(0, true)
	first.is(admin.RoleActive)
	// A VIP that no device has: a connect that is not steered, once, fails.
	target = vip4 + ":20880"
	m.callsGo(consumer, target)
	return m, first, consumer, target
}

// callsGo makes some calls, two on each connection.
func (m *mesh) callsGo(consumer *testnet.Pod, target string) {
	m.t.Helper()
	m.connects(consumer, target, 2)
}

// connects makes some connections and so many calls on each.
func (m *mesh) connects(consumer *testnet.Pod, target string, calls int) {
	m.t.Helper()
	for range 3 {
		if r := m.calls(consumer, callsOf{Target: target, N: calls, Timeout: 30 * time.Second}); r.Answers["v1"]+r.Answers["v2"] != calls {
			m.t.Errorf("%v %v", r.Answers, r.Errors)
		}
	}
}

// TestSurgeUpgrade: a new agent and proxy start beside the old ones and take over, under
// load of connections that come and go and of others that stay; then the old ones end,
// and a third pair, of the old release so to speak, takes over from the new one.
func TestSurgeUpgrade(t *testing.T) {
	m, old, consumer, target := upgraded(t)
	clusters := both(m.Node.Pod("provider-1"), m.Node.Pod("provider-2"))
	const busy = 25 * time.Second
	churned := m.launch(consumer, "churn", churnOf{Target: target, Workers: 8, Time: busy})
	stayed := m.launch(consumer, "steady", steadyOf{Target: target, Pause: 100 * time.Millisecond, Time: busy})
	m.eventually("the old proxy serves the one that stays", func() bool { return old.connections() > 0 })

	for number := 1; number <= 2; number++ {
		next := m.instance(number, false)
		next.waits("no proxy is connected")
		if s := next.status(); s.Role != admin.RoleStandby || len(s.Programs) != 0 {
			t.Errorf("beside the active one it is %s with %d programs", s.Role, len(s.Programs))
		}
		next.startProxy()
		next.is(admin.RoleActive)
		old.is(admin.RolePassive)
		m.eventually("new connections are the new proxy's", func() bool { return next.connections() > 0 })
		// A change of the configuration is the new one's to put in force.
		generation := next.status().Generation
		m.put(routed{addresses: []string{vip4}, routes: split(map[string]int{"v1": number, "v2": 2}), clusters: clusters})
		m.eventually("the new generation is in force", func() bool { return next.status().Generation > generation })
		old.end()
		if s := next.status(); s.Workloads.Enrolled != 3 {
			t.Errorf("%d pods are enrolled: %v", s.Workloads.Enrolled, s.Problems)
		}
		old = next
	}
	var c churnResult
	if churned(&c); c.Failed > 0 || c.Answered < 200 {
		t.Errorf("connections that came and went: %+v", c)
	}
	var r steadyResult
	if stayed(&r); r.Failed > 0 || r.Dials != 3 || r.Again > 0 {
		t.Errorf("a connection that stays: %+v, want one redial for each proxy that ended", r)
	}
	t.Logf("%d connects, %d calls of one that stays (%d made again) through an upgrade and a rollback", c.Answered, r.Answered, r.Again)
	if strings.Contains(old.agent.Output(), "workload of an earlier agent removed") {
		t.Error("steering was interrupted")
	}
	old.end()
}

// TestTakeoverCutOff: whoever takes over may die at any moment: the old agent stays the
// active one, or is it again, and nobody else can be. The proxy of one that died stops
// accepting then, and not before.
func TestTakeoverCutOff(t *testing.T) {
	m, old, consumer, target := upgraded(t)
	fresh := m.pod("fresh") // for whom no proxy has dialled yet
	m.eventually("it is enrolled", func() bool { return old.status().Workloads.Enrolled == 4 })
	churned := m.launch(consumer, "churn", churnOf{Target: target, Workers: 4, Time: 20 * time.Second})
	meet := func() *takeover.Heir {
		t.Helper()
		var heir *takeover.Heir
		m.eventually("the old agent talks", func() bool {
			var err error
			heir, err = takeover.Meet(m.ctx, m.nodeDir(), datapath.ABI)
			return err == nil
		})
		return heir
	}
	stays := func(stage string) {
		t.Helper()
		old.is(admin.RoleActive)
		m.callsGo(consumer, target)
		m.eventually(stage+": 4 pods are enrolled", func() bool { return old.status().Workloads.Enrolled == 4 })
	}

	// Before hello.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	m.must(err)
	m.must(unix.Connect(fd, &unix.SockaddrUnix{Name: takeover.Socket(m.nodeDir())}))
	m.must(unix.Close(fd))
	stays("before hello")

	// Amid the listeners, and when all have been told.
	meet().Close()
	stays("amid the listeners")
	heir := meet()
	m.eventually("all are told", func() bool { pods, told, _ := heir.Pods(); return told && len(pods) == 4 })
	if _, err := takeover.Claim(m.nodeDir()); !errors.Is(err, takeover.ErrHeld) {
		t.Errorf("a second active agent: %v", err)
	}
	if other, err := takeover.Meet(m.ctx, m.nodeDir(), datapath.ABI); err == nil {
		other.Close()
		t.Error("two take over at a time")
	}
	heir.Close()
	stays("told")

	// When the old one has yielded.
	heir = meet()
	m.must(heir.Yield(m.ctx))
	old.is(admin.RolePassive)
	m.callsGo(consumer, target)
	lock, err := takeover.Claim(m.nodeDir())
	m.must(err) // the heir's, until it dies
	heir.Close()
	m.callsGo(consumer, target)
	m.must(lock.Release())
	stays("yielded")

	// Real ones, killed while they wait for their proxy, and when they are active.
	next := m.instance(1, false)
	next.waits("no proxy is connected")
	m.must(next.agent.Kill())
	stays("killed before it was ready")
	next.startAgent()
	next.startProxy()
	next.is(admin.RoleActive)
	old.is(admin.RolePassive)
	m.eventually("new connections are the new proxy's", func() bool { return next.connections() > 0 })
	m.callsGo(consumer, target) // what is accepted until the old agent is back goes by these connections
	m.must(next.agent.Kill())
	m.connects(consumer, target, 1) // one: the dead agent's proxy, which accepts yet, is about to drain
	m.eventually("the proxy without an agent has stopped accepting", func() bool { return strings.Contains(next.proxy.Output(), retired) })
	stays("killed when it was active")
	m.eventually("and has drained", func() bool { return next.connections() == 0 })
	for range 4 { // all to the old proxy: the other one could dial for none
		m.callsGo(fresh, target)
	}
	if strings.Contains(old.proxy.Output(), retired) {
		t.Error("the proxy whose agent has its turn back has stopped accepting")
	}
	next.startAgent()
	next.is(admin.RoleActive)
	old.is(admin.RolePassive)
	old.end()
	m.callsGo(consumer, target)
	m.callsGo(fresh, target)

	var c churnResult
	if churned(&c); c.Failed > 0 || c.Answered < 200 {
		t.Errorf("connections that came and went: %+v", c)
	}

	// Its agent alone restarts, and nobody else is there: it goes on all the while.
	m.must(next.agent.Kill())
	stopped := strings.Count(next.proxy.Output(), retired)
	m.callsGo(consumer, target)
	next.startAgent()
	next.is(admin.RoleActive)
	m.callsGo(fresh, target)
	if n := strings.Count(next.proxy.Output(), retired); n != stopped {
		t.Errorf("a proxy whose agent restarted stopped accepting")
	}
	next.end()
}

// retired is what a proxy says that stops accepting for another agent's.
const retired = "another agent's proxy serves, and ours has no agent"

// TestTakeoverOtherMaps: what an agent of another ABI has replaced the old one cannot use
// any more: its proxy drains and ends, and when that agent dies both are back.
func TestTakeoverOtherMaps(t *testing.T) {
	m, old, consumer, target := upgraded(t)
	var heir *takeover.Heir
	m.eventually("the old agent talks", func() bool {
		var err error
		heir, err = takeover.Meet(m.ctx, m.nodeDir(), datapath.ABI+1)
		return err == nil
	})
	m.must(heir.Yield(m.ctx))
	m.callsGo(consumer, target) // established ones to both providers are there
	m.must(heir.Serving())
	select {
	case <-old.proxy.Done():
	case <-m.ctx.Done():
		t.Fatal("the old proxy does not end")
	}
	heir.Close()
	old.startProxy()
	old.is(admin.RoleActive)
	m.eventually("the old agent is active with its proxy", func() bool { return old.status().ProxyConnected })
	m.callsGo(consumer, target)
}

// TestUpgradeReplacesMaps: the pins of another layout are replaced. Connections are not
// steered for a moment, those of that very moment may be reset, and then all are steered.
func TestUpgradeReplacesMaps(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.put(routed{addresses: []string{v1.Addr(0).Addr().String()}, routes: split(map[string]int{"v1": 1}), clusters: both(v1, v2)})
	target := v1.Addr(20880).String() // reached with the mesh and without
	old := m.instance(0, true)
	old.is(admin.RoleActive)
	next := m.instance(1, false)
	next.waits("no proxy is connected")
	churned := m.launch(consumer, "churn", churnOf{Target: target, Workers: 4, Time: 8 * time.Second})
	m.eventually("calls are made", func() bool { return strings.Count(old.proxy.Output(), `"dubbo_method"`) > 100 })
	m.must(os.Rename(filepath.Join(m.PinPath(), fmt.Sprint("maps_v", datapath.ABI)), filepath.Join(m.PinPath(), "maps_v0")))
	next.startProxy()
	next.is(admin.RoleActive)
	old.is(admin.RolePassive)
	old.end()
	m.eventually("3 pods are enrolled after the replacement", func() bool {
		s := next.status()
		return s.Workloads.Enrolled == 3 && s.Generation > 0
	})
	var c churnResult
	if churned(&c); c.Failed > c.Answered/20 || c.Answered < 200 {
		t.Errorf("connections that came and went: %+v", c)
	}
	before := strings.Count(next.proxy.Output(), `"dubbo_method"`)
	m.calls(consumer, callsOf{Target: target, N: 20, Timeout: 30 * time.Second})
	m.eventually("all calls go through the mesh", func() bool { return strings.Count(next.proxy.Output(), `"dubbo_method"`) >= before+20 })
	begin, end := at(next.agent, "pinned state is replaced"), at(next.agent, "destinations published")
	t.Logf("nothing was steered for %s: %d calls were answered, %d failed (%s)", end.Sub(begin), c.Answered, c.Failed, c.First)
	next.end()
}

// at is when an agent last said something.
func at(p *testnet.Process, what string) (when time.Time) {
	for line := range strings.Lines(p.Output()) {
		var said struct{ Time time.Time }
		if strings.Contains(line, what) && json.Unmarshal([]byte(line), &said) == nil {
			when = said.Time
		}
	}
	return when
}

// TestUpgradeFails: a new proxy that gets no configuration never takes over.
func TestUpgradeFails(t *testing.T) {
	m, old, consumer, target := upgraded(t)
	next := m.instance(1, false)
	empty := filepath.Join(m.StateDir(), "nothing")
	next.hasFolder()
	proxy, err := m.StartUnprivileged(testnet.Command{
		Name: "proxy1", Path: filepath.Join(meshtest.Binaries, "dubway-proxy"),
		Args: []string{"--state-dir", next.state, "--xds-dir", empty, "--metrics-address", "", "--health-address", ""},
	})
	m.must(err)
	next.waits("no configuration yet")
	old.is(admin.RoleActive)
	m.callsGo(consumer, target)
	m.must(proxy.Kill())
	m.must(next.agent.Kill())
	old.is(admin.RoleActive)
}

// TestTakeoverStranger: who is not root gets no word of the active agent, and no listener.
func TestTakeoverStranger(t *testing.T) {
	m, old, _, _ := upgraded(t)
	old.is(admin.RoleActive)
	m.eventually("there is a socket", func() bool { _, err := os.Stat(takeover.Socket(m.nodeDir())); return err == nil })
	self, err := os.Executable()
	m.must(err)
	process, err := m.StartUnprivileged(testnet.Command{
		Name: "stranger", Path: self, Args: []string{takeover.Socket(m.nodeDir())}, Env: []string{"DUBWAY_TESTNET_HELPER=stranger"},
	})
	m.must(err)
	m.must(process.Wait(m.ctx))
	if out := process.Output(); !strings.Contains(out, "permission denied") {
		t.Errorf("a process without root: %q", out)
	}
	// Were the socket's mode changed, it would be asked who it is all the same.
	m.must(os.Chmod(takeover.Socket(m.nodeDir()), 0o666))
	process, err = m.StartUnprivileged(testnet.Command{
		Name: "stranger2", Path: self, Args: []string{takeover.Socket(m.nodeDir())}, Env: []string{"DUBWAY_TESTNET_HELPER=stranger"},
	})
	m.must(err)
	m.must(process.Wait(m.ctx))
	if out := process.Output(); !strings.Contains(out, "it hung up") {
		t.Errorf("a process without root, and with a way in: %q", out)
	}
}

// stranger says hello to an agent: stranger PATH.
func stranger(args []string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: args[0]}); err != nil {
		return tell(err.Error())
	}
	_, _ = unix.Write(fd, []byte(`{"kind":"hello","hello":{"version":1,"release":"x","abi":2}}`))
	if n, _ := unix.Read(fd, make([]byte, 1<<16)); n > 0 {
		return tell("it talks")
	}
	return tell("it hung up")
}

func tell(what string) error {
	_, err := os.Stdout.WriteString(what + "\n")
	return err
}
