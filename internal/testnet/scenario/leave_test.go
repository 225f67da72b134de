package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/dubway/dubway/agent"
	"github.com/dubway/dubway/agent/leaving"
	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet"
)

// leaverOf is an agent whose DaemonSet is a directory: a file "leave" is the order, a
// file "left" the report, a file "cni" what a step of leaving undoes.
type leaverOf struct {
	Dir, StateDir, NodeDir, PinPath, Cgroup, Workloads string
	Addresses                                          []netip.Addr
}

// directory is leaving.Orders of such a directory.
type directory string

func (d directory) has(name string) bool {
	_, err := os.Stat(filepath.Join(string(d), name))
	return err == nil
}

func (d directory) Watch(ctx context.Context, say func(leave bool)) error {
	for ctx.Err() == nil {
		say(d.has("leave"))
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

func (d directory) Report(_ context.Context, left bool) error {
	path := filepath.Join(string(d), "left")
	if left {
		return os.WriteFile(path, nil, 0o600)
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// leaver is the process of such an agent: leaver JSON.
func leaver(args []string) error {
	var of leaverOf
	if err := json.Unmarshal([]byte(args[0]), &of); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	d := directory(of.Dir)
	plan := leaving.Plan{Orders: d, Steps: []leaving.Step{{Name: "CNI configuration", Do: func(context.Context) error {
		if d.has("left") {
			return errors.New("reported before it was done")
		}
		return os.RemoveAll(filepath.Join(of.Dir, "cni"))
	}}}}
	return agent.Serve(ctx, agent.Options{
		StateDir: of.StateDir, NodeDir: of.NodeDir, PinPath: of.PinPath, Cgroup: of.Cgroup, Workloads: of.Workloads,
		ProxyUID: testnet.ProxyUID, NodeAddresses: of.Addresses, Leave: plan, Logger: slog.New(slog.NewJSONHandler(os.Stderr, nil)),
	})
}

// startLeaver starts the agent in an instance's place.
func (m *mesh) startLeaver(i *instance, d directory) {
	m.t.Helper()
	arg, err := json.Marshal(leaverOf{Dir: string(d), StateDir: i.state, NodeDir: m.nodeDir(), PinPath: m.PinPath(),
		Cgroup: m.Cgroup(), Workloads: m.WorkloadsDir(), Addresses: m.Addresses()})
	m.must(err)
	i.agent, err = m.System().StartHelper("leaver", string(arg))
	m.must(err)
}

// TestLeave: ordered to leave, the agent withdraws what is enrolled under load, without a
// call that fails; nothing of it is left in the kernel, a restart changes nothing of
// that, and when the order is taken back the pods are enrolled again.
func TestLeave(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	// Dialled by its own address, it is reached with the mesh and without.
	m.put(routed{addresses: []string{v1.Addr(0).Addr().String()}, routes: split(map[string]int{"v1": 1}), clusters: both(v1, v2)})
	target := v1.Addr(20880).String()
	d := directory(filepath.Join(m.StateDir(), "daemonset"))
	m.must(os.Mkdir(string(d), 0o755))
	order := func(leave bool) {
		t.Helper()
		if path := filepath.Join(string(d), "leave"); leave {
			m.must(os.WriteFile(path, nil, 0o600))
		} else {
			m.must(os.Remove(path))
		}
		m.eventually("the agent reports", func() bool { return d.has("left") == leave })
	}
	m.must(os.WriteFile(filepath.Join(string(d), "cni"), nil, 0o600))
	i := &instance{m: m, state: filepath.Join(m.StateDir(), "instance0")}
	m.must(os.MkdirAll(i.state, 0o755))
	m.startLeaver(i, d)
	i.startProxy()
	i.is(admin.RoleActive)
	if n := m.programs(); n == 0 {
		t.Error("no programs are effective: this test looks at nothing")
	}

	const busy = 15 * time.Second
	churned := m.launch(consumer, "churn", churnOf{Target: target, Workers: 8, Time: busy})
	stayed := m.launch(consumer, "steady", steadyOf{Target: target, Pause: 10 * time.Millisecond, Time: busy})
	m.eventually("calls go through the mesh", func() bool { return strings.Count(i.proxy.Output(), `"dubbo_method"`) > 100 })
	order(true)
	i.is(admin.RoleLeft)
	m.gone(d, consumer, v1, v2)
	m.eventually("new connections go past the mesh", func() bool { return i.connections() <= 2 })
	if i.connections() == 0 {
		t.Error("the connection that stays has ended")
	}
	var c churnResult
	if churned(&c); c.Failed > 0 || c.Answered < 200 {
		t.Errorf("connections that came and went: %+v", c)
	}
	var r steadyResult
	if stayed(&r); r.Failed > 0 || r.Dials != 1 || r.Again != 0 {
		t.Errorf("a connection that stays: %+v", r)
	}

	// Neither a restart of the agent nor a new pod's brings it back.
	m.must(i.agent.Kill())
	m.must(os.Remove(filepath.Join(string(d), "left")))
	m.startLeaver(i, d)
	m.eventually("the restarted agent reports", func() bool { return d.has("left") })
	i.is(admin.RoleLeft)
	m.gone(d, consumer, v1, v2)

	order(false)
	m.eventually("the pods are enrolled again", func() bool {
		var s admin.AgentStatus
		return i.ask(admin.PathStatus, &s) == nil && s.Role == admin.RoleActive && s.Workloads.Enrolled == 3
	})
	before := strings.Count(i.proxy.Output(), `"dubbo_method"`)
	m.eventually("calls go through the mesh again", func() bool {
		m.calls(consumer, callsOf{Target: target, N: 1, Timeout: 30 * time.Second})
		return strings.Count(i.proxy.Output(), `"dubbo_method"`) > before
	})
	order(true)
	i.end()
	m.gone(d, consumer, v1, v2)
	if r := m.calls(consumer, callsOf{Target: target, N: 5, Timeout: 30 * time.Second}); r.Answers["v1"] != 5 {
		t.Errorf("without the mesh: %v %v", r.Answers, r.Errors)
	}
}

// gone checks that nothing of the mesh is left in the kernel and in the pods.
func (m *mesh) gone(d directory, pods ...*testnet.Pod) {
	m.t.Helper()
	if n := m.programs(); n != 0 {
		m.t.Errorf("%d programs are effective", n)
	}
	if _, err := os.Stat(m.PinPath()); !errors.Is(err, fs.ErrNotExist) {
		m.t.Errorf("pins are left: %v", err)
	}
	if d.has("cni") {
		m.t.Error("the step before was not taken")
	}
	for _, p := range pods {
		for _, port := range []uint16{15001, 15006} {
			// The proxy closes its own when it hears of it.
			m.eventually(fmt.Sprintf("nobody listens on port %d of %s", port, p.Name), func() bool { return !p.Listens(port) })
		}
	}
}

// programs counts the mesh's programs that run for the pods' sockets.
func (m *mesh) programs() (n int) {
	m.t.Helper()
	dir, err := os.Open(m.Cgroup())
	m.must(err)
	defer dir.Close()
	for _, hook := range []ebpf.AttachType{
		ebpf.AttachCGroupInet4Connect, ebpf.AttachCGroupInet6Connect, ebpf.AttachCGroupSockOps, ebpf.AttachCGroupGetsockopt,
	} {
		found, err := link.QueryPrograms(link.QueryOptions{Target: int(dir.Fd()), Attach: hook})
		m.must(err)
		n += len(found.Programs)
	}
	return n
}
