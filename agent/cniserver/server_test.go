package cniserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/dubway/dubway/cni/wire"
)

// recorder is Pods that writes down what it is told.
type recorder struct {
	mu       sync.Mutex
	sandbox  map[string]Sandbox // added and not deleted, by container
	inodes   map[string]os.FileInfo
	calls    []string
	kept     []string
	fail     error
	hold     chan struct{} // Add waits until it is closed, or its caller's time is over
	held     chan struct{} // gets a value for each that waits
	inWork   int
	together int // the most that were in work at one time
}

func newRecorder() *recorder {
	return &recorder{sandbox: make(map[string]Sandbox), inodes: make(map[string]os.FileInfo), held: make(chan struct{}, 1000)}
}

func (r *recorder) note(verb string, s Sandbox) (hold chan struct{}, fail error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, verb+" "+s.ContainerID)
	return r.hold, r.fail
}

func (r *recorder) busy(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inWork += n
	r.together = max(r.together, r.inWork)
}

func (r *recorder) Add(ctx context.Context, s Sandbox) error {
	defer s.Netns.Close()
	r.busy(1)
	defer r.busy(-1)
	info, err := s.Netns.Stat()
	if err != nil {
		return err
	}
	hold, fail := r.note("add", s)
	if hold != nil {
		r.held <- struct{}{}
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if fail != nil {
		return fail
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sandbox[s.ContainerID], r.inodes[s.ContainerID] = s, info
	return nil
}

func (r *recorder) Check(_ context.Context, s Sandbox) error {
	defer s.Netns.Close()
	_, fail := r.note("check", s)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.sandbox[s.ContainerID]; !known {
		return errors.New("not enrolled")
	}
	return fail
}

func (r *recorder) Delete(_ context.Context, s Sandbox) error {
	_, fail := r.note("del", s)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sandbox, s.ContainerID)
	if s.Netns != nil {
		return errors.New("a sandbox that goes has a namespace")
	}
	return fail
}

func (r *recorder) Keep(_ context.Context, containers []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = containers
	for id := range r.sandbox {
		if !slices.Contains(containers, id) {
			delete(r.sandbox, id)
		}
	}
	return r.fail
}

func (r *recorder) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fail
}

func (r *recorder) set(fail error, hold chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail, r.hold = fail, hold
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sandbox)
}

// running is a server that serves.
type running struct {
	*Server

	t    *testing.T
	stop func()
}

// serve starts a server and waits until it is there.
func serve(t *testing.T, socket string, pods Pods) *running {
	t.Helper()
	before, _ := os.Lstat(socket)
	ctx, cancel := context.WithCancel(t.Context())
	s := New(pods, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, socket) }()
	r := &running{Server: s, t: t, stop: sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})}
	t.Cleanup(r.stop)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		now, err := os.Lstat(socket)
		if err == nil && (before == nil || !os.SameFile(before, now)) {
			return r
		}
		select {
		case err := <-done:
			done <- err
			t.Fatalf("does not serve: %v", err)
		default:
		}
		if time.Now().After(end) {
			t.Fatal("does not serve")
		}
	}
}

// counted waits until a counter has a value: it is counted after the answer.
func (r *running) counted(verb, result string, want float64) {
	r.t.Helper()
	get := func() float64 {
		return value(r.t, r.counts.requests.WithLabelValues(verb, result)).GetCounter().GetValue()
	}
	for end := time.Now().Add(30 * time.Second); get() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("%s %s: counted %v, want %v", verb, result, get(), want)
		}
	}
}

func value(t *testing.T, m prometheus.Metric) *dto.Metric {
	t.Helper()
	v := &dto.Metric{}
	if err := m.Write(v); err != nil {
		t.Fatal(err)
	}
	return v
}

func ask(ctx context.Context, socket string, r *wire.Request) (*wire.Answer, error) {
	c, err := wire.Dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var namespace *os.File
	if r.Verb == wire.Add || r.Verb == wire.Check {
		if namespace, err = os.Open("/proc/self/ns/net"); err != nil {
			return nil, err
		}
		defer namespace.Close()
	}
	return c.Ask(ctx, r, namespace)
}

func request(verb wire.Verb, id string) *wire.Request {
	return &wire.Request{Version: wire.Version, Verb: verb, TimeoutMillis: 60000,
		Sandbox: &wire.Sandbox{ContainerID: id, UID: "u-" + id, Namespace: "shop", Name: "pod-" + id}}
}

func TestVerbs(t *testing.T) {
	pods, socket := newRecorder(), filepath.Join(t.TempDir(), "node", "cni.sock")
	r := serve(t, socket, pods)
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket is %v, %v", info.Mode(), err)
	}
	keep := &wire.Request{Version: wire.Version, Verb: wire.Keep, TimeoutMillis: 1000, Containers: []string{"b"}}
	ready := &wire.Request{Version: wire.Version, Verb: wire.Ready, TimeoutMillis: 1000}
	for _, step := range []struct {
		request *wire.Request
		fail    error
		want    string // of the answer
		pods    int
	}{
		{request(wire.Check, "a"), nil, "not enrolled", 0},
		{request(wire.Add, "a"), nil, "", 1},
		{request(wire.Add, "a"), nil, "", 1}, // said twice
		{request(wire.Add, "b"), errors.New("no proxy"), "no proxy", 1},
		{request(wire.Add, "b"), nil, "", 2},
		{request(wire.Check, "a"), nil, "", 2},
		{keep, nil, "", 1},
		{request(wire.Delete, "b"), nil, "", 0},
		{request(wire.Delete, "b"), nil, "", 0},
		{ready, nil, "", 0},
		{ready, errors.New("starting"), "starting", 0},
	} {
		pods.set(step.fail, nil)
		a, err := ask(t.Context(), socket, step.request)
		if err != nil || a.Error != step.want || pods.count() != step.pods {
			t.Errorf("%s: %+v, %v, %d pods", step.request.Verb, a, err, pods.count())
		}
	}
	r.counted("add", "ok", 3)
	r.counted("add", "failed", 1)
	r.counted("check", "failed", 1)
	r.counted("check", "ok", 1)
	r.counted("gc", "ok", 1)
	r.counted("del", "ok", 2)
	r.counted("status", "ok", 1)
	r.counted("status", "failed", 1)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(r)
	families, err := registry.Gather()
	if err != nil {
		t.Error(err)
	}
	series := make(map[string]int)
	for _, f := range families {
		series[f.GetName()] = len(f.GetMetric())
	}
	if want := map[string]int{"dubway_cni_requests_total": 8, "dubway_cni_request_duration_seconds": 5, "dubway_cni_requests_in_work": 1}; !maps.Equal(series, want) {
		t.Errorf("metrics %v, want %v", series, want)
	}
	r.stop()
	left, err := os.ReadDir(filepath.Dir(socket))
	if err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// TestBurst is a node that gets a hundred pods at once.
func TestBurst(t *testing.T) {
	const burst = 100
	pods, socket := newRecorder(), filepath.Join(t.TempDir(), "cni.sock")
	hold := make(chan struct{})
	pods.set(nil, hold)
	r := serve(t, socket, pods)
	errs := make(chan error, burst)
	for i := range burst {
		go func() {
			a, err := ask(t.Context(), socket, request(wire.Add, fmt.Sprint("c", i)))
			if err == nil && a.Error != "" {
				err = errors.New(a.Error)
			}
			errs <- err
		}()
	}
	for range burst { // none of them waits for another
		select {
		case <-pods.held:
		case <-time.After(30 * time.Second):
			t.Fatal("not all are in work at one time")
		}
	}
	if got := value(t, r.counts.inWork).GetGauge().GetValue(); got != burst {
		t.Errorf("%v are in work", got)
	}
	close(hold)
	for range burst {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	r.counted("add", "ok", burst)
	if pods.count() != burst || pods.together != burst {
		t.Errorf("%d pods, %d together", pods.count(), pods.together)
	}
}

// TestDeadlines ends a request before its plugin's time is over, and with it.
func TestDeadlines(t *testing.T) {
	pods, socket := newRecorder(), filepath.Join(t.TempDir(), "cni.sock")
	pods.set(nil, make(chan struct{})) // for ever
	r := serve(t, socket, pods)
	short := request(wire.Add, "short")
	short.TimeoutMillis = 200
	if a, err := ask(t.Context(), socket, short); err != nil || !strings.Contains(a.Error, "not done within 180ms") {
		t.Errorf("before the plugin's time is over: %+v, %v", a, err)
	}
	r.counted("add", "failed", 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := ask(ctx, socket, request(wire.Add, "killed"))
		done <- err
	}()
	<-pods.held // of the first
	<-pods.held
	cancel() // the runtime kills a plugin that takes too long
	if err := <-done; err == nil {
		t.Error("there was an answer")
	}
	r.counted("add", "gone", 1)
	if pods.count() != 0 {
		t.Errorf("%d pods", pods.count())
	}
}

// TestStop answers nothing when the agent goes: the plugin asks the next one.
func TestStop(t *testing.T) {
	pods, socket := newRecorder(), filepath.Join(t.TempDir(), "cni.sock")
	pods.set(nil, make(chan struct{}))
	r := serve(t, socket, pods)
	done := make(chan error)
	go func() {
		a, err := ask(t.Context(), socket, request(wire.Add, "a"))
		if err == nil {
			err = fmt.Errorf("answer %+v", a)
		}
		done <- err
	}()
	<-pods.held
	r.stop()
	if err := <-done; !errors.Is(err, io.EOF) {
		t.Errorf("error is %v", err)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket: %v", err)
	}
}

// TestTakeover puts a server into the place of another: the older one finishes what it
// has, its end does not take the newer one's socket away, and at no moment is there none.
func TestTakeover(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "cni.sock")
	// Left by an agent that was killed.
	l, err := net.ListenUnix(wire.Network, &net.UnixAddr{Name: socket, Net: wire.Network})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	hold := make(chan struct{})
	old := newRecorder()
	old.set(nil, hold)
	first := serve(t, socket, old)
	answered := make(chan error)
	go func() {
		a, err := ask(t.Context(), socket, request(wire.Add, "old"))
		if err == nil && a.Error != "" {
			err = errors.New(a.Error)
		}
		answered <- err
	}()
	<-old.held
	// Somebody asks all the time.
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error)
	go func() {
		for ctx.Err() == nil {
			if _, err := ask(t.Context(), socket, &wire.Request{Version: wire.Version, Verb: wire.Ready, TimeoutMillis: 1000}); err != nil {
				asked <- err
				return
			}
		}
		asked <- nil
	}()
	next := newRecorder()
	second := serve(t, socket, next)
	if a, err := ask(t.Context(), socket, request(wire.Add, "new")); err != nil || a.Error != "" || next.count() != 1 {
		t.Errorf("the newer one: %+v, %v", a, err)
	}
	cancel()
	if err := <-asked; err != nil {
		t.Errorf("in between: %v", err)
	}
	close(hold)
	if err := <-answered; err != nil || old.count() != 1 {
		t.Errorf("the older one: %v, %d pods", err, old.count())
	}
	first.stop()
	if a, err := ask(t.Context(), socket, request(wire.Add, "newer")); err != nil || a.Error != "" || next.count() != 2 {
		t.Errorf("after the older one's end: %+v, %v", a, err)
	}
	second.stop()
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket: %v", err)
	}
}

// TestAnnounce: whoever takes a living server's place says so.
func TestAnnounce(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "cni.sock")
	serve(t, socket, newRecorder())
	var text strings.Builder
	s := New(newRecorder(), slog.New(slog.NewTextHandler(&text, nil)))
	l, err := s.listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if want := fmt.Sprintf("otherPid=%d", os.Getpid()); !strings.Contains(text.String(), want) {
		t.Errorf("log %q, want %q in it", text.String(), want)
	}
}

// TestRefused counts what is no request.
func TestRefused(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "cni.sock")
	r := serve(t, socket, newRecorder())
	u, err := net.DialUnix(wire.Network, nil, &net.UnixAddr{Name: socket, Net: wire.Network})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if _, err := u.Write([]byte(`{"version":2,"verb":"add"}`)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, wire.MaxMessage)
	n, err := u.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := wire.DecodeAnswer(buf[:n]); err != nil || !strings.Contains(a.Error, "speaks version 2") {
		t.Errorf("answer %+v, %v", a, err)
	}
	r.counted("", "refused", 1)
}
