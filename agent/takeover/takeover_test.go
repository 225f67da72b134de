package takeover

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/agent/table"
	"github.com/dubway/dubway/internal/handoff"
)

// incumbent is an active agent that a test plays.
type incumbent struct {
	dir    string
	holder *Holder
	lock   *Lock
	refuse error

	mu      sync.Mutex
	all     []*enroll.Workload
	changed chan struct{}
	late    string // a pod that is steered too
	events  chan string
}

func (i *incumbent) Workloads() ([]*enroll.Workload, <-chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.all), i.changed
}

func (i *incumbent) set(all ...*enroll.Workload) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.all = all
	close(i.changed)
	i.changed = make(chan struct{})
}

func (i *incumbent) Steered(uid string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return uid == "steered" || uid == i.late
}

// steer says that a table for a pod has come.
func (i *incumbent) steer(uid string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.late = uid
	close(i.changed)
	i.changed = make(chan struct{})
}

func (i *incumbent) Yield(Successor) error {
	i.mu.Lock()
	refuse := i.refuse
	i.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	i.holder.Shut()
	err := i.lock.Release()
	i.events <- "yielded"
	return err
}
func (i *incumbent) Served() { i.events <- "served" }
func (i *incumbent) Bereft() { i.events <- "bereft" }

func (i *incumbent) expect(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-i.events:
		if got != want {
			t.Fatalf("the active agent was told %q, want %q", got, want)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("the active agent was not told %q", want)
	}
}

// open makes an active agent that enrolled pods.
func open(t *testing.T, uids ...string) *incumbent {
	t.Helper()
	i := &incumbent{dir: t.TempDir(), changed: make(chan struct{}), events: make(chan string, 10)}
	for _, uid := range uids {
		i.all = append(i.all, listening(t, uid))
	}
	i.hold(t)
	return i
}

// hold begins a turn.
func (i *incumbent) hold(t *testing.T) {
	t.Helper()
	var err error
	if i.lock, err = Claim(i.dir); err != nil {
		t.Fatal(err)
	}
	if i.holder, err = Hold(i.dir, 2, i, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	holder := i.holder
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- holder.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// listening is a pod with one listener.
func listening(t *testing.T, uid string) *enroll.Workload {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	fd, err := netns.Keep(int(f.Fd())).Duplicate()
	if err != nil {
		t.Fatal(err)
	}
	socket := netns.Keep(fd)
	t.Cleanup(func() { socket.Close() })
	return &enroll.Workload{Pod: &pods.Pod{UID: uid, Name: uid, Namespace: "shop", ServiceAccount: uid}, Cookie: 7,
		Listeners: []enroll.Listener{{Listener: handoff.Listener{Direction: handoff.Outbound, Family: 4}, Socket: socket}}}
}

func (i *incumbent) meet(t *testing.T) *Heir {
	t.Helper()
	var heir *Heir
	eventually(t, "the active agent talks", func() bool {
		var err error
		heir, err = Meet(t.Context(), i.dir, 2)
		return err == nil
	})
	t.Cleanup(heir.Close)
	return heir
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waited in vain: %s", what)
}

func (h *Heir) has(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, "told of "+strings.Join(want, " "), func() bool {
		all, told, _ := h.Pods()
		for _, uid := range want {
			if all[uid] == nil {
				return false
			}
		}
		return told && len(all) == len(want)
	})
}

func openFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestTakeover is the whole way, once.
func TestTakeover(t *testing.T) {
	i := open(t, "a", "steered")
	heir := i.meet(t)
	heir.has(t, "a", "steered")
	if heir.ABI() != 2 || heir.Release() == "" {
		t.Errorf("the active agent is %s of ABI %d", heir.Release(), heir.ABI())
	}
	all, _, _ := heir.Pods()
	if a, s := all["a"], all["steered"]; a.Steered || !s.Steered || a.Cookie != 7 || len(a.Listeners) != 1 || len(a.Sockets) != 1 {
		t.Errorf("told %+v and %+v", a, s)
	}
	i.set(i.all[0], listening(t, "b"))
	heir.has(t, "a", "b")
	if _, err := Claim(i.dir); !errors.Is(err, ErrHeld) {
		t.Errorf("a second claim: %v", err)
	}
	if err := heir.Yield(t.Context()); err != nil {
		t.Fatal(err)
	}
	i.expect(t, "yielded")
	lock, err := Claim(i.dir) // free when the heir hears of it
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(Socket(i.dir)); err == nil {
		t.Error("the socket of the old agent is still there")
	}
	taken := heir.Take()
	if len(taken) != 2 || len(taken["a"]) != 1 {
		t.Errorf("took %v", taken)
	}
	for _, sockets := range taken {
		closeAll(sockets)
	}
	if err := heir.Serving(); err != nil {
		t.Fatal(err)
	}
	i.expect(t, "served")
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	heir.Close()
	i.expect(t, "bereft")
}

// TestTakeoverCutOff: whoever goes before it took over leaves nothing behind, also no
// descriptor, and the next one is told anew. One at a time.
func TestTakeoverCutOff(t *testing.T) {
	i := open(t, "a", "b")
	i.meet(t).Close()
	var before int
	eventually(t, "both ends are closed", func() bool { before = openFDs(t); return before == openFDs(t) })
	heir := i.meet(t)
	heir.has(t, "a", "b")
	if other, err := Meet(t.Context(), i.dir, 2); err == nil || !strings.Contains(err.Error(), "taking over already") {
		t.Errorf("a second one: %v %v", other, err)
	}
	heir.Close()
	eventually(t, "no descriptor is left", func() bool { return openFDs(t) <= before })
	i.mu.Lock()
	i.refuse = errors.New("not now")
	i.mu.Unlock()
	heir = i.meet(t)
	heir.has(t, "a", "b")
	if err := heir.Yield(t.Context()); err == nil {
		t.Error("it yielded, and refused to")
	}
	select {
	case e := <-i.events:
		t.Errorf("the active agent was told %q", e)
	default:
	}
}

// TestTakeoverFromOtherRelease: what a later release adds is passed over, and one whose
// words mean something else is refused with what to do.
func TestTakeoverFromOtherRelease(t *testing.T) {
	i := open(t, "a")
	ask := func(packets ...string) (last message) {
		t.Helper()
		raw, err := handoff.Connect(t.Context(), Socket(i.dir))
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		for _, p := range packets {
			if err := raw.SendPacket([]byte(p)); err != nil {
				t.Fatal(err)
			}
		}
		for {
			packet, fds, err := raw.ReceivePacket()
			if err != nil {
				return last
			}
			closeFDs(fds)
			last = message{}
			if err := json.Unmarshal(packet, &last); err != nil {
				t.Fatal(err)
			}
			if last.Kind == kindTold {
				return last
			}
		}
	}
	for name, c := range map[string]struct {
		packets []string
		want    kind
		reason  string
	}{
		"a later one":       {[]string{`{"kind":"hello","more":1,"hello":{"version":1,"abi":3,"more":{}}}`, `{"kind":"new"}`}, kindTold, ""},
		"another version":   {[]string{`{"kind":"hello","hello":{"version":2,"release":"9.0"}}`}, kindRefused, "fix: delete the older agent's pod"},
		"no hello":          {[]string{`{"kind":"yield"}`}, kindRefused, "before hello"},
		"a hello of nobody": {[]string{`{"kind":"hello"}`}, kindRefused, "says nothing"},
		"no JSON":           {[]string{`hello`}, kindRefused, "read message"},
	} {
		t.Run(name, func(t *testing.T) {
			var got message
			eventually(t, "an answer", func() bool { // the one before may not have been noticed as gone
				got = ask(c.packets...)
				return got.Kind == c.want
			})
			if !strings.Contains(got.Reason, c.reason) {
				t.Errorf("refused because %q, want %q", got.Reason, c.reason)
			}
		})
	}
}

func TestClaimNeedsDirectory(t *testing.T) {
	if _, err := Claim(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "fix: mount") {
		t.Errorf("Claim = %v", err)
	}
}

// source tells of pods as a test says.
type source struct{ sets chan pods.Set }

func (s source) Run(ctx context.Context, publish func(pods.Set)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case set := <-s.sets:
			publish(set)
		}
	}
}

// TestSteeredLater: a pod whose configuration comes while its listeners are handed over
// already is waited for too.
func TestSteeredLater(t *testing.T) {
	i := open(t, "a")
	heir := i.meet(t)
	heir.has(t, "a")
	if all, _, _ := heir.Pods(); all["a"].Steered {
		t.Error("it is told as steered before it is")
	}
	i.steer("a")
	eventually(t, "it is told as steered", func() bool {
		all, _, _ := heir.Pods()
		return all["a"] != nil && all["a"].Steered && len(all["a"].Sockets) == 1
	})
}

// TestWaiting: the proxy is told of the pods that both agents know, and what is missing
// until the turn can be taken is said one after another.
func TestWaiting(t *testing.T) {
	i := open(t, "a", "steered", "excluded")
	heir := i.meet(t)
	s := source{make(chan pods.Set)}
	feed := pods.NewFeed(s)
	w := NewWaiting(heir, feed)
	ctx, cancel := context.WithCancel(t.Context())
	var parts sync.WaitGroup
	parts.Go(func() { _ = feed.Follow(ctx) })
	parts.Go(func() { w.Follow(ctx) })
	t.Cleanup(func() { cancel(); parts.Wait() })
	lacks := func(want string) {
		t.Helper()
		eventually(t, "lacks "+want, func() bool {
			got := w.Lacks()
			return want == "" && got == "" || want != "" && strings.Contains(got, want)
		})
	}
	lacks("pods are not known")
	pod := func(uid string) *pods.Pod { return &pods.Pod{UID: uid, Namespace: "shop", ServiceAccount: uid} }
	s.sets <- pods.Set{Pods: []*pods.Pod{pod("a"), pod("steered"), pod("new")}}
	lacks("no configuration yet")
	all, changed := w.Workloads()
	if len(all) != 2 || !w.Runs("shop", "a") || w.Runs("shop", "new") || w.Runs("shop", "excluded") {
		t.Errorf("told of %d pods", len(all))
	}
	put := func(number uint32, uids ...string) {
		t.Helper()
		g := &table.Generation{Workloads: uids}
		g.Number = number
		if err := w.Put(g); err != nil {
			t.Fatal(err)
		}
	}
	w.Begin()
	put(0)
	lacks("no configuration yet for steered")
	put(3, "a", "steered")
	lacks("")
	put(3)
	lacks("for steered")
	put(4, "steered")
	lacks("")
	put(4)
	lacks("for steered") // what all have is nothing
	every := &table.Generation{}
	every.Destinations = []datapath.Destination{{Port: 1}}
	if err := w.Put(every); err != nil {
		t.Fatal(err)
	}
	lacks("")
	w.Begin() // another proxy
	lacks("no configuration yet")
	i.set(i.all[0])
	<-changed
	eventually(t, "one pod is left", func() bool { all, _ := w.Workloads(); return len(all) == 1 && all[0].Pod.UID == "a" })
	put(0)
	lacks("")
}
