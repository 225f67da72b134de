package handoff

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/handoff/field"
)

// pair connects two ends over a real socket.
func pair(t *testing.T) (agent, proxy *Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "handoff.sock")
	acceptor, err := Listen(path, os.Getuid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { acceptor.Close() })
	proxy, err = Connect(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	agent, err = acceptor.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { agent.Close(); proxy.Close() })
	return agent, proxy
}

// openFDs counts this process's descriptors.
func openFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func TestSendReceive(t *testing.T) {
	agent, proxy := pair(t)
	if agent.PeerUID() != os.Getuid() || agent.PeerPID() != os.Getpid() {
		t.Errorf("peer is user %d, process %d", agent.PeerUID(), agent.PeerPID())
	}
	r, w := pipe(t)
	if err := agent.Send(NewDialResult(8, nil), int(w.Fd())); err != nil {
		t.Fatal(err)
	}
	w.Close()
	m, fds, err := proxy.Receive()
	if err != nil {
		t.Fatal(err)
	}
	if m.Kind != KindDialResult || m.Seq != 8 || len(fds) != 1 {
		t.Fatalf("got %s with %d descriptors", show(t, m), len(fds))
	}
	flags, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor is not close-on-exec (%v)", err)
	}
	if _, err := unix.Write(fds[0], []byte("x")); err != nil {
		t.Error(err)
	}
	unix.Close(fds[0])
	if b, err := io.ReadAll(r); string(b) != "x" || err != nil {
		t.Errorf("read %q, %v through the descriptor", b, err)
	}
	agent.Close()
	if _, _, err := proxy.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

func TestSendRefuses(t *testing.T) {
	agent, _ := pair(t)
	_, w := pipe(t)
	if err := agent.Send(&Message{Kind: KindGoodbye}, int(w.Fd())); err == nil {
		t.Error("goodbye sent with a descriptor")
	}
	if err := agent.Send(NewDialResult(1, nil)); err == nil {
		t.Error("result sent without its descriptor")
	}
	if err := agent.Send(&Message{Kind: KindHello}); err == nil {
		t.Error("hello sent without body")
	}
	big := samples()["workload"]
	for len(big.Workload.Labels) < 20 {
		big.Workload.Labels[strings.Repeat("k", len(big.Workload.Labels)+1)] = strings.Repeat("v", field.MaxText)
	}
	if err := agent.Send(big, 0, 0, 0, 0); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large a message: %v", err)
	}
}

// TestReceiveRefuses: whatever a peer sends that is not a message of this
// version is an error, and no descriptor of it stays open.
func TestReceiveRefuses(t *testing.T) {
	result := show(t, NewDialResult(1, nil))
	goodbye := `{"kind":"goodbye"}`
	for name, c := range map[string]struct {
		packet string
		fds    int
	}{
		"garbage":              {"\x00\x01", 0},
		"garbage with one":     {"\x00\x01", 1},
		"unexpected":           {goodbye, 1},
		"missing":              {result, 0},
		"one too many":         {result, 2},
		"more than any has":    {result, 200},
		"truncated":            {goodbye + strings.Repeat(" ", MaxMessage), 1},
		"exactly over the end": {goodbye + strings.Repeat(" ", MaxMessage+1-len(goodbye)), 0},
	} {
		t.Run(name, func(t *testing.T) {
			agent, proxy := pair(t)
			_, w := pipe(t)
			var fds []int
			for range c.fds {
				fds = append(fds, int(w.Fd()))
			}
			before := openFDs(t)
			if _, _, err := proxy.unix.WriteMsgUnix([]byte(c.packet), unix.UnixRights(fds...), nil); err != nil {
				t.Fatal(err)
			}
			if m, _, err := agent.Receive(); err == nil {
				t.Errorf("accepted %s", show(t, m))
			}
			if after := openFDs(t); after != before {
				t.Errorf("%d descriptors before, %d after", before, after)
			}
		})
	}
}

// TestSendConcurrently: packets of many senders do not mix.
func TestSendConcurrently(t *testing.T) {
	agent, proxy := pair(t)
	const senders, each = 8, 200
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				if err := agent.Send(NewAck(uint64(1+s*each+i), nil)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	seen := make(map[uint64]bool)
	for range senders * each {
		m, _, err := proxy.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if seen[m.Seq] {
			t.Fatalf("message %d came twice", m.Seq)
		}
		seen[m.Seq] = true
	}
	wg.Wait()
}

func TestListenReplacesAndRestricts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "handoff.sock")
	stale, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	acceptor, err := Listen(path, os.Getuid())
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %o", info.Mode().Perm())
	}
	time.AfterFunc(10*time.Millisecond, func() { acceptor.Close() })
	if _, err := acceptor.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
}
