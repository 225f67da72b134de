package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listen makes a socket whose connections go to serve, one after another.
func listen(t *testing.T, serve func(*net.UnixConn)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix(Network, &net.UnixAddr{Name: path, Net: Network})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			u, err := l.AcceptUnix()
			if err != nil {
				return
			}
			serve(u)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return path
}

// received is what Receive made of a packet.
type received struct {
	request *Request
	file    *os.File
	err     error
}

// receiver answers each request with its error, and tells of it.
func receiver(t *testing.T) (string, chan received) {
	t.Helper()
	got := make(chan received, 1)
	return listen(t, func(u *net.UnixConn) {
		c, err := New(u)
		if err != nil {
			got <- received{err: err}
			return
		}
		defer c.Close()
		r, f, err := c.Receive()
		got <- received{r, f, err}
		c.Answer(err)
	}), got
}

func netns(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestAsk(t *testing.T) {
	path, got := receiver(t)
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.PeerPID() != os.Getpid() {
		t.Errorf("peer is %d", c.PeerPID())
	}
	sent := netns(t)
	a, err := c.Ask(t.Context(), add(), sent)
	if err != nil || a.Error != "" {
		t.Fatalf("%+v, %v", a, err)
	}
	r := <-got
	if r.err != nil || r.request.Sandbox.Name != "cart-1" {
		t.Fatalf("received %+v", r)
	}
	defer r.file.Close()
	there, err := r.file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if here, err := sent.Stat(); err != nil || !os.SameFile(here, there) {
		t.Errorf("another namespace arrived: %v", err)
	}
	if flags, err := unix.FcntlInt(r.file.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("programs that are started inherit the namespace: %v", err)
	}
}

// TestReceiveRefuses sends what Ask would not.
func TestReceiveRefuses(t *testing.T) {
	packet, err := EncodeRequest(add())
	if err != nil {
		t.Fatal(err)
	}
	namespace := int(netns(t).Fd())
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	user, err := os.Open("/proc/self/ns/uts")
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	tests := []struct {
		name   string
		packet []byte
		fds    []int
		want   string
	}{
		{"no namespace", packet, nil, "0 descriptors"},
		{"two", packet, []int{namespace, namespace}, "2 descriptors"},
		{"many", packet, slices.Repeat([]int{namespace}, 20), "too many descriptors"},
		{"a file", packet, []int{int(file.Fd())}, "no namespace"},
		{"another namespace", packet, []int{int(user.Fd())}, "no network namespace"},
		{"rubbish", []byte("{"), []int{namespace}, "not JSON"},
		{"too long", make([]byte, MaxMessage+100), nil, "too long"},
		{"another version", []byte(`{"version":9}`), nil, "other version"},
	}
	path, got := receiver(t)
	before := descriptors(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			u, err := net.DialUnix(Network, nil, &net.UnixAddr{Name: path, Net: Network})
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			var oob []byte
			if len(test.fds) > 0 {
				oob = unix.UnixRights(test.fds...)
			}
			if _, _, err := u.WriteMsgUnix(test.packet, oob, nil); err != nil {
				t.Fatal(err)
			}
			r := <-got
			if r.err == nil || !strings.Contains(r.err.Error(), test.want) || r.file != nil {
				t.Errorf("received %+v", r)
			}
			buf := make([]byte, MaxMessage)
			n, err := u.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			if a, err := DecodeAnswer(buf[:n]); err != nil || !strings.Contains(a.Error, test.want) {
				t.Errorf("answer is %+v, %v", a, err)
			}
		})
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors were open, now %d", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, fd := range all {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(target, "net:") {
			n++
		}
	}
	return n
}

// TestAskEnds: an agent that says nothing, and one that goes.
func TestAskEnds(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	path := listen(t, func(u *net.UnixConn) { // silent until the plugin has given up
		<-release
		u.Close()
	})
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Ask(ctx, add(), netns(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silent agent: %v", err)
	}
	gone := listen(t, func(u *net.UnixConn) { u.Close() })
	c, err = Dial(t.Context(), gone)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Ask(t.Context(), add(), netns(t)); !errors.Is(err, io.EOF) && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("agent that went: %v", err)
	}
}

// TestPeers keeps everybody out but root, at both ends.
func TestPeers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("another user's socket needs root")
	}
	name := fmt.Sprintf("@dubway-wire-test-%d", os.Getpid()) // abstract: no folder's mode is in the way
	address := &net.UnixAddr{Name: name, Net: Network}
	l, err := net.ListenUnix(Network, address)
	if err != nil {
		t.Fatal(err)
	}
	var theirs *net.UnixConn
	asNobody(t, func() { theirs, err = net.DialUnix(Network, nil, address) })
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	u, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(u); !errors.Is(err, ErrPeer) {
		t.Fatalf("plugin that is not root: %v", err)
	}
	if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("it is not hung up on: %v", err)
	}
	l.Close()
	asNobody(t, func() { l, err = net.ListenUnix(Network, address) })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Dial(t.Context(), name); !errors.Is(err, ErrPeer) || !strings.Contains(err.Error(), "65534") {
		t.Errorf("agent that is not root: %v", err)
	}
}

// asNobody runs f on a thread that has another user for that long.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	become := func(uid uintptr) {
		keep := ^uintptr(0)
		// Go's own setresuid is of all threads.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uid, keep); errno != 0 {
			t.Fatal(errno)
		}
	}
	become(65534)
	defer become(0)
	f()
}
