package scenario

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/dubway/dubway/internal/testnet"
)

// says waits until the agent does not report a pod as enrolled, with a reason.
func (m *mesh) says(p *testnet.Pod, reason string) {
	m.t.Helper()
	m.eventually(p.Name+" is not enrolled: "+reason, func() bool {
		all, err := m.Workloads(m.ctx)
		if err != nil {
			return false
		}
		for _, w := range all {
			if w.Name == p.Name && !w.Enrolled && strings.Contains(w.Reason, reason) {
				return true
			}
		}
		return false
	})
}

// TestEnrolledWhenReached: a pod is enrolled when the proxy has answered over its data
// path. One that answered stays so while the proxy restarts, and not for ever.
func TestEnrolledWhenReached(t *testing.T) {
	m := besides(t, "sc-reached")
	consumer, provider := m.pod("consumer"), m.pod("provider", 20880)
	_, err := m.StartAgent(m.ctx, "--check-interval", "1s")
	m.must(err)
	m.says(consumer, "its data path does not answer: no proxy is connected")
	proxy, err := m.StartProxy(m.ctx)
	m.must(err)
	m.must(m.WaitEnrolled(m.ctx, consumer, provider)) // although there is no configuration at all
	m.counted("dubway_connections_direct_total", 0)
	m.counted("dubway_connections_accepted_total", 0)

	// The proxy hangs, and a pod comes.
	m.must(proxy.Signal(syscall.SIGSTOP))
	late := m.pod("late")
	m.says(late, "its data path does not answer: IPv4: no answer: the proxy does not accept")
	m.must(proxy.Signal(syscall.SIGCONT))
	m.must(m.WaitEnrolled(m.ctx, late))

	// The proxy is killed: nobody is out at once, but who was never reached is not in.
	m.must(proxy.Kill())
	latest := m.pod("latest")
	m.says(latest, "no proxy is connected")
	all, err := m.Workloads(m.ctx)
	m.must(err)
	for _, w := range all {
		if w.Name != latest.Name && !w.Enrolled {
			t.Errorf("%s is out while the proxy restarts: %s", w.Name, w.Reason)
		}
	}
	m.says(consumer, "no proxy is connected") // after the grace
	_, err = m.StartProxy(m.ctx)
	m.must(err)
	m.must(m.WaitEnrolled(m.ctx, consumer, provider, late, latest))

	// A program of another agent runs before ours and changes where connections go.
	l, err := link.AttachCgroup(link.CgroupOptions{
		Path: filepath.Join(m.Cgroup(), "agent"), Attach: ebpf.AttachCGroupInet4Connect, Program: diversion(t),
	})
	m.must(err)
	defer l.Close()
	last := m.pod("last")
	m.says(last, "the connection was not steered")
	m.must(l.Close())
	m.must(m.WaitEnrolled(m.ctx, last))
}

// diversion is a connect program that sends everybody to another port.
func diversion(t *testing.T) *ebpf.Program {
	t.Helper()
	const userPort = 24 // offset in struct bpf_sock_addr
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "diversion", Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, License: "GPL",
		Instructions: asm.Instructions{
			asm.StoreImm(asm.R1, userPort, 0x0900, asm.Word), // port 9, in network byte order
			asm.Mov.Imm(asm.R0, 1),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}
