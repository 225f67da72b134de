package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/testnet"
)

// hostileAsk is what a hostile program in the proxy's place tries.
type hostileAsk struct {
	Socket   string
	Workload string
	Targets  []string
}

// hostileResult is what it got: by target "" or the refusal.
type hostileResult struct {
	Dials map[string]string
}

// nosy is a proxy that only waits for the agent to have told all.
type nosy struct{ told chan struct{} }

func (n nosy) Workload(_ *handoff.Workload, files []*os.File) error {
	for _, f := range files {
		_ = f.Close()
	}
	return nil
}
func (nosy) WorkloadGone(string) error { return nil }
func (n nosy) SnapshotEnd() error      { close(n.told); return nil }
func (nosy) Yield()                    {}
func (nosy) Lanes(_ *handoff.Lanes, files []*os.File) error {
	for _, f := range files {
		_ = f.Close()
	}
	return nil
}

// hostile is the hostile program's process: hostile TAG JSON. It speaks the
// handoff's protocol as the proxy does, with the proxy's user and place.
func hostile(args []string) error {
	var ask hostileAsk
	if err := json.Unmarshal([]byte(args[1]), &ask); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	handler := nosy{told: make(chan struct{})}
	client := handoff.NewClient(ask.Socket, "hostile", handler, slog.New(slog.DiscardHandler))
	go func() { _ = client.Run(ctx) }()
	select {
	case <-handler.told:
	case <-ctx.Done():
		return errors.New("the agent does not talk")
	}
	result := hostileResult{Dials: map[string]string{}}
	for _, target := range ask.Targets {
		fd, err := client.Dial(ctx, handoff.Dial{Workload: ask.Workload, Destination: netip.MustParseAddrPort(target)})
		var refused *handoff.DialError
		switch {
		case errors.As(err, &refused):
			result.Dials[target] = string(refused.Code)
		case err != nil:
			result.Dials[target] = err.Error()
		default:
			result.Dials[target] = ""
			_ = unix.Close(fd)
		}
	}
	return say(args[0], result)
}

// TestHostileProxy: whoever takes the proxy over dials what the pod's calls need
// and nothing else: no loopback, no link-local, no node, no port that is not
// enrolled. Somebody listens on each of them, and nobody is reached.
func TestHostileProxy(t *testing.T) {
	m := newMesh(t)
	consumer, provider := m.pod("consumer"), m.pod("provider", 20880)
	m.provider(provider, "v1")
	_, err := m.StartAgent(m.ctx)
	m.must(err)

	var reached atomic.Int64
	for pod, address := range map[*testnet.Pod]string{provider: "[::]:6060", consumer: "[::]:6060"} {
		trap, err := pod.Listen(address)
		m.must(err)
		t.Cleanup(func() { _ = trap.Close() })
		go func() {
			for conn, err := trap.Accept(); err == nil; conn, err = trap.Accept() {
				reached.Add(1)
				_ = conn.Close()
			}
		}()
	}
	allowed := []string{provider.Addr(20880).String(), provider.Addr6(20880).String()}
	// Messages with v4-mapped addresses are refused as such, by both ends.
	denied := []string{
		"127.0.0.1:6060", "127.0.0.1:20880", "[::1]:6060", "0.0.0.0:6060", "[::]:6060",
		"169.254.169.254:80", "[fe80::1]:80", "224.0.0.1:80",
		provider.Addr(6060).String(), provider.Addr6(6060).String(), // its own, not enrolled
		netip.AddrPortFrom(m.Addresses()[0], 10250).String(), netip.AddrPortFrom(m.Addresses()[1], 10250).String(),
	}
	var got hostileResult
	m.misuse(hostileAsk{
		Socket: handoff.Socket(m.StateDir()), Workload: testnet.Namespace + "/provider", Targets: append(allowed, denied...),
	}, &got)
	for _, target := range allowed {
		if code := got.Dials[target]; code != "" {
			t.Errorf("%s: %q, want a connection", target, code)
		}
	}
	for _, target := range denied {
		if code := got.Dials[target]; code != string(handoff.DialDenied) {
			t.Errorf("%s: %q, want %q", target, code, handoff.DialDenied)
		}
	}
	var unknown hostileResult
	m.misuse(hostileAsk{
		Socket: handoff.Socket(m.StateDir()), Workload: "kube-system/other", Targets: allowed[:1],
	}, &unknown)
	if code := unknown.Dials[allowed[0]]; code != string(handoff.DialUnknown) {
		t.Errorf("for a pod of nobody: %q, want %q", code, handoff.DialUnknown)
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("what must not be reached was reached %d times", n)
	}
	m.stranger()
}

// misuse runs the hostile program in the proxy's place.
func (m *mesh) misuse(ask hostileAsk, result *hostileResult) {
	m.t.Helper()
	arg, err := json.Marshal(ask)
	m.must(err)
	self, err := os.Executable()
	m.must(err)
	m.tags++
	process, err := m.StartUnprivileged(testnet.Command{
		Name: "hostile", Path: self, Args: []string{"hostile:", string(arg)}, Env: []string{"DUBWAY_TESTNET_HELPER=hostile"},
	})
	m.must(err)
	m.must(process.Wait(m.ctx))
	output := process.Output()
	last := output[strings.LastIndex(output, "hostile:")+len("hostile:"):]
	m.must(json.Unmarshal([]byte(last), result))
}

// stranger checks that another user than the proxy's gets no word of the agent:
// this process, root, is one.
func (m *mesh) stranger() {
	m.t.Helper()
	conn, err := net.Dial("unixpacket", handoff.Socket(m.StateDir()))
	if err != nil {
		return // refused: as good
	}
	defer func() { _ = conn.Close() }()
	hello, err := handoff.Encode(&handoff.Message{Kind: handoff.KindHello, Hello: &handoff.Hello{Version: handoff.Version}})
	m.must(err)
	_, _ = conn.Write(hello)
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	if n, err := conn.Read(make([]byte, 1<<16)); err == nil && n > 0 {
		m.t.Errorf("the agent talked %d bytes to a stranger", n)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		m.t.Error("the agent keeps a stranger's connection open")
	}
}
