package handoff

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/handoff/field"
	"github.com/dubway/dubway/internal/handoff/rights"
	"github.com/dubway/dubway/internal/handoff/served"
)

// recorder is a Handler that writes down what it is told.
type recorder struct {
	mu     sync.Mutex
	events []string
	end    chan struct{} // one for each SnapshotEnd
	fail   error
}

func newRecorder() *recorder { return &recorder{end: make(chan struct{}, 8)} }

func (r *recorder) notef(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, fmt.Sprintf(format, args...))
}

func (r *recorder) Workload(w *Workload, files []*os.File) error {
	r.notef("workload %s with %d", w.UID, len(files))
	for _, f := range files {
		f.Close()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fail
}

func (r *recorder) failWith(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = err
}

func (r *recorder) WorkloadGone(uid string) error { r.notef("gone %s", uid); return nil }

func (r *recorder) SnapshotEnd() error { r.notef("end"); r.end <- struct{}{}; return nil }
func (r *recorder) Yield()             { r.notef("yield") }

func (r *recorder) Lanes(l *Lanes, files []*os.File) error {
	r.notef("lanes %s with %d", l.Mode, len(files))
	for _, f := range files {
		f.Close()
	}
	return nil
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.events
	r.events = nil
	return events
}

// toy is an agent that a test plays by hand.
type toy struct {
	*testing.T

	acceptor *Acceptor
	client   *Client
	handler  *recorder
	conn     *Conn
	done     chan error
	cancel   context.CancelFunc
	lends    *served.Note // with its Hello
}

func newToy(t *testing.T) *toy {
	t.Helper()
	path := filepath.Join(t.TempDir(), "handoff.sock")
	acceptor, err := Listen(path, os.Getuid())
	if err != nil {
		t.Fatal(err)
	}
	handler := newRecorder()
	y := &toy{T: t, acceptor: acceptor, handler: handler,
		client: NewClient(path, "node", handler, slog.New(slog.DiscardHandler))}
	t.Cleanup(func() {
		if y.cancel != nil {
			y.hangUp()
		}
		y.client.Close()
		acceptor.Close()
	})
	return y
}

// connect lets the client come, and returns what it gives back, by uid.
func (y *toy) connect() map[string]int {
	y.Helper()
	ctx, cancel := context.WithCancel(y.Context())
	y.cancel, y.done = cancel, make(chan error, 1)
	go func() { y.done <- y.client.Run(ctx) }()
	conn, err := y.acceptor.Accept()
	y.must(err)
	y.conn = conn
	held := make(map[string]int)
	for {
		m, fds, err := conn.Receive()
		y.must(err)
		rights.Close(fds)
		switch m.Kind {
		case KindHello:
			if m.Hello.Version != Version || m.Hello.Node != "node" || m.Hello.Instance != y.client.instance {
				y.Errorf("hello is %s", show(y.T, m))
			}
		case KindWorkload:
			held[m.Workload.UID] = len(fds)
		case KindSnapshotEnd:
			y.hello()
			return held
		default:
			y.Fatalf("unexpected %s", show(y.T, m))
		}
	}
}

func (y *toy) hello() {
	y.Helper()
	m := &Message{Kind: KindHello, Hello: &Hello{Version: Version, Release: "test"}}
	if y.lends == nil {
		y.send(m)
		return
	}
	file, err := y.lends.Lend()
	y.must(err)
	defer file.Close()
	m.Hello.Note = y.lends.Name()
	y.send(m, int(file.Fd()))
}

func (y *toy) hangUp() error {
	y.Helper()
	y.conn.Close()
	err := <-y.done
	y.cancel()
	y.cancel = nil
	return err
}

func (y *toy) must(err error) {
	y.Helper()
	if err != nil {
		y.Fatal(err)
	}
}

func (y *toy) send(m *Message, fds ...int) { y.Helper(); y.must(y.conn.Send(m, fds...)) }

func (y *toy) receive() *Message {
	y.Helper()
	m, fds, err := y.conn.Receive()
	y.must(err)
	rights.Close(fds)
	return m
}

// workload sends a pod with two listeners, which are pipes here, and returns
// what the proxy answers.
func (y *toy) workload(uid string, seq uint64) *Message {
	y.Helper()
	m := samples()["workload"]
	m.Seq, m.Workload.UID, m.Workload.Listeners = seq, uid, m.Workload.Listeners[:2]
	r, w := pipe(y.T)
	y.send(m, int(r.Fd()), int(w.Fd()))
	return y.receive()
}

func (y *toy) snapshotEnd(seq uint64) {
	y.Helper()
	y.send(&Message{Kind: KindSnapshotEnd, Seq: seq})
	if got := y.receive(); !reflect.DeepEqual(got, NewAck(seq, nil)) {
		y.Errorf("snapshot end answered with %s", show(y.T, got))
	}
	<-y.handler.end
}

func (y *toy) told(want ...string) {
	y.Helper()
	if got := y.handler.take(); !slices.Equal(got, want) {
		y.Errorf("handler was told %q, want %q", got, want)
	}
}

func TestClientAcks(t *testing.T) {
	y := newToy(t)
	y.connect()
	if got := y.workload("a", 1); !reflect.DeepEqual(got, NewAck(1, nil)) {
		t.Errorf("workload answered with %s", show(t, got))
	}
	y.handler.failWith(errors.New("no room " + strings.Repeat("x", 2*field.MaxText)))
	if got := y.workload("b", 2); got.Seq != 2 || !strings.HasPrefix(got.Ack.Error, "no room") {
		t.Errorf("refused workload answered with %s", show(t, got))
	}
	y.send(&Message{Kind: KindWorkloadGone, Seq: 3, WorkloadGone: &WorkloadGone{UID: "a"}})
	if got := y.receive(); !reflect.DeepEqual(got, NewAck(3, nil)) {
		t.Errorf("gone answered with %s", show(t, got))
	}
	y.told("workload a with 2", "workload b with 2", "gone a")
}

// TestClientGivesBack: after a reconnect the new agent gets the listeners of
// every pod, and pods that it does not know are gone.
func TestClientGivesBack(t *testing.T) {
	y := newToy(t)
	if held := y.connect(); len(held) != 0 {
		t.Errorf("a new client gives back %v", held)
	}
	y.workload("a", 1)
	y.workload("b", 2)
	y.workload("b", 3) // replaced: still one
	y.snapshotEnd(4)
	y.told("workload a with 2", "workload b with 2", "workload b with 2", "end")
	y.hangUp()
	held := y.connect()
	if want := map[string]int{"a": 2, "b": 2}; !reflect.DeepEqual(held, want) {
		t.Errorf("given back %v, want %v", held, want)
	}
	y.workload("b", 1)
	y.snapshotEnd(2)
	y.told("workload b with 2", "gone a", "end")
	y.hangUp()
	if held := y.connect(); !reflect.DeepEqual(held, map[string]int{"b": 2}) {
		t.Errorf("at the third time given back %v", held)
	}
}

// TestClientYields: a proxy that another accepts for lets go of its listeners, is told of
// pods without any, and gives back what it was told of meanwhile.
func TestClientYields(t *testing.T) {
	y := newToy(t)
	y.connect()
	y.workload("a", 1)
	y.workload("b", 2)
	y.snapshotEnd(3)
	before := openFDs(t)
	y.send(&Message{Kind: KindYield})
	y.workload("b", 4)
	y.told("workload a with 2", "workload b with 2", "end", "yield", "workload b with 0")
	if now := openFDs(t); now != before { // four are closed, two are b's new ones, two the test's own
		t.Errorf("%d descriptors are open, %d were", now, before)
	}
	y.hangUp()
	if held := y.connect(); !reflect.DeepEqual(held, map[string]int{"b": 2}) {
		t.Errorf("given back %v", held)
	}
	y.workload("b", 1)
	y.snapshotEnd(2)
	y.told("workload b with 2", "gone a", "end")
	y.hangUp()
	y.connect()
	y.send(&Message{Kind: KindYield}) // before anything: one that gets ready
	y.workload("c", 1)
	y.snapshotEnd(2)
	y.told("yield", "workload c with 0", "gone b", "end")
	y.hangUp()
	if held := y.connect(); !reflect.DeepEqual(held, map[string]int{"c": 2}) {
		t.Errorf("given back %v", held)
	}
}

// TestClientSuperseded: a proxy without an agent lets go of its listeners when another
// agent's serves, and not before; the next agent says anew whose note it is.
func TestClientSuperseded(t *testing.T) {
	y := newToy(t)
	if y.client.Superseded() {
		t.Error("superseded before it met an agent")
	}
	dir := t.TempDir()
	var notes [2]*served.Note
	for i := range notes {
		var err error
		notes[i], err = served.Open(dir, t.TempDir())
		y.must(err)
		defer notes[i].Close()
	}
	y.lends = notes[0]
	y.connect()
	y.workload("a", 1)
	y.snapshotEnd(2)
	y.must(notes[0].Write())
	y.hangUp()
	if y.client.Superseded() {
		t.Error("superseded by its own agent")
	}
	if held := y.connect(); !reflect.DeepEqual(held, map[string]int{"a": 2}) {
		t.Errorf("given back %v", held)
	}
	y.workload("a", 1)
	y.snapshotEnd(2)
	y.hangUp()
	y.must(notes[1].Write())
	if !y.client.Superseded() {
		t.Error("not superseded though another agent's proxy serves")
	}
	y.lends = nil
	if held := y.connect(); len(held) > 0 {
		t.Errorf("who was superseded gives back %v", held)
	}
	y.hangUp()
	if y.client.Superseded() {
		t.Error("superseded by the note of an agent before the last, which lent none")
	}
}

func TestClientDial(t *testing.T) {
	y := newToy(t)
	ask := Dial{Workload: "a", Destination: netip.MustParseAddrPort("10.0.0.1:80")}
	if _, err := y.client.Dial(t.Context(), ask); !errors.Is(err, ErrNotConnected) {
		t.Errorf("without an agent: %v", err)
	}
	y.connect()
	y.snapshotEnd(1)
	type result struct {
		fd  int
		err error
	}
	dial := func(ctx context.Context) chan result {
		done := make(chan result, 1)
		go func() {
			fd, err := y.client.Dial(ctx, ask)
			done <- result{fd, err}
		}()
		return done
	}
	first, second := dial(t.Context()), dial(t.Context())
	m1, m2 := y.receive(), y.receive()
	// Answers come in any order and find their question.
	_, w := pipe(t)
	y.send(NewDialResult(m2.Seq, nil), int(w.Fd()))
	y.send(NewDialResult(m1.Seq, &DialError{Code: DialDenied, Text: "because"}))
	results := []result{<-first, <-second}
	if results[0].err == nil {
		results[0], results[1] = results[1], results[0]
	}
	var refused *DialError
	if !errors.As(results[0].err, &refused) || refused.Code != DialDenied || refused.Text != "because" {
		t.Errorf("refused dial ended with %v", results[0].err)
	}
	if results[1].err != nil || unix.Close(results[1].fd) != nil {
		t.Errorf("good dial ended with %v", results[1])
	}

	ctx, cancel := context.WithCancel(t.Context())
	late := dial(ctx)
	m := y.receive()
	cancel()
	if r := <-late; !errors.Is(r.err, context.Canceled) {
		t.Errorf("cancelled dial ended with %v", r)
	}
	before := openFDs(t)
	y.send(NewDialResult(m.Seq, nil), int(w.Fd()))
	y.snapshotEnd(2) // the client has handled the late answer when it acks this
	if after := openFDs(t); after != before {
		t.Errorf("a late answer leaves %d descriptors", after-before)
	}

	lost := dial(t.Context())
	y.receive()
	y.hangUp()
	if r := <-lost; !errors.Is(r.err, ErrNotConnected) {
		t.Errorf("dial of a lost connection ended with %v", r)
	}
}

func TestClientSign(t *testing.T) {
	y := newToy(t)
	ask := &Sign{Namespace: "shop", ServiceAccount: "consumer", Request: []byte{1}}
	if _, err := y.client.Sign(t.Context(), ask); !errors.Is(err, ErrNotConnected) {
		t.Errorf("without an agent: %v", err)
	}
	y.connect()
	y.snapshotEnd(1)
	signed := &SignResult{Chain: [][]byte{{1}}, Roots: [][]byte{{2}}}
	for _, c := range []struct {
		name   string
		answer func(seq uint64) *Message
		want   string // of the error
		code   SignCode
	}{
		{"signed", func(seq uint64) *Message { return NewSignResult(seq, signed, nil) }, "", ""},
		{"refused", func(seq uint64) *Message {
			return NewSignResult(seq, nil, &SignError{Code: SignDenied, Text: "because"})
		}, "because", SignDenied},
		{"failed", func(seq uint64) *Message { return NewSignResult(seq, nil, errors.New("no way")) }, "no way", SignFailed},
		{"too large", func(seq uint64) *Message {
			large := make([][]byte, maxCertificates)
			for i := range large {
				large[i] = make([]byte, maxCertificate)
			}
			return NewSignResult(seq, &SignResult{Chain: large, Roots: large}, nil)
		}, "too large", SignFailed},
		{"another answer", func(seq uint64) *Message { return NewAck(seq, nil) }, "answered with ack", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			type result struct {
				got *SignResult
				err error
			}
			done := make(chan result, 1)
			go func() {
				got, err := y.client.Sign(t.Context(), ask)
				done <- result{got, err}
			}()
			m := y.receive()
			if !reflect.DeepEqual(m.Sign, ask) {
				t.Errorf("asked with %s", show(t, m))
			}
			y.send(c.answer(m.Seq))
			r := <-done
			var refused *SignError
			if errors.As(r.err, &refused) && refused.Code != c.code || c.code != "" && refused == nil {
				t.Errorf("refused with %v, want %s", r.err, c.code)
			}
			switch {
			case c.want == "" && (r.err != nil || !reflect.DeepEqual(r.got, signed)):
				t.Errorf("%+v, %v", r.got, r.err)
			case c.want != "" && (r.err == nil || !strings.Contains(r.err.Error(), c.want)):
				t.Errorf("error %v, want one with %q", r.err, c.want)
			}
		})
	}
}

func TestClientDestinations(t *testing.T) {
	y := newToy(t)
	y.connect()
	y.snapshotEnd(1)
	var entries []Destination
	for i := range 3*entriesPerPart + 1 {
		a := netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i)})
		entries = append(entries, Destination{Prefix: netip.PrefixFrom(a, 128), Port: 65535})
	}
	var uids []string
	for i := range 1000 { // the longest that there are, where each byte takes six
		uids = append(uids, fmt.Sprint(i)+strings.Repeat("<", field.MaxName-4))
	}
	done := make(chan error, 1)
	publish := func(generation uint64, table DestinationTable) {
		go func() { done <- y.client.Destinations(t.Context(), generation, table) }()
	}
	for name, table := range map[string]DestinationTable{
		"all":       {Table: 1<<32 - 1, Workloads: uids, Entries: entries, Unknown: UnknownCount},
		"entries":   {Entries: entries, Unknown: UnknownRefuse},
		"one part":  {Entries: entries[:entriesPerPart]},
		"workloads": {Table: 1, Workloads: uids[:1]},
		"nothing":   {Table: 2},
	} {
		publish(7, table)
		got := DestinationTable{Table: table.Table}
		for last := false; !last; {
			m := y.receive()
			d := m.Destinations
			if d == nil || d.Generation != 7 || d.Table != table.Table {
				t.Fatalf("%s: got %+v", name, d)
			}
			got.Workloads = append(got.Workloads, d.Workloads...)
			got.Entries = append(got.Entries, d.Entries...)
			if last = d.Last; last {
				got.Unknown = d.Unknown
				y.send(NewAck(m.Seq, nil))
			}
		}
		if err := <-done; err != nil || !reflect.DeepEqual(got, table) {
			t.Errorf("%s: published %d of %d workloads, %d of %d entries, %q: %v", name,
				len(got.Workloads), len(table.Workloads), len(got.Entries), len(table.Entries), got.Unknown, err)
		}
	}
	publish(8, DestinationTable{Table: 9})
	y.send(NewAck(y.receive().Seq, errors.New("map is full")))
	if err := <-done; err == nil || !strings.Contains(err.Error(), "map is full") || !strings.Contains(err.Error(), "table 9") {
		t.Errorf("refused generation ended with %v", err)
	}
}

func TestClientEnds(t *testing.T) {
	for name, c := range map[string]struct {
		m    *Message
		want string
	}{
		"goodbye":    {&Message{Kind: KindGoodbye}, ErrReplaced.Error()},
		"unexpected": {samples()["dial"], "unexpected dial"},
	} {
		t.Run(name, func(t *testing.T) {
			y := newToy(t)
			y.connect()
			y.send(c.m)
			if err := <-y.done; !strings.Contains(err.Error(), c.want) {
				t.Errorf("run ended with %v", err)
			}
			y.done <- nil
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		y := newToy(t)
		y.connect()
		y.cancel()
		if err := <-y.done; !errors.Is(err, context.Canceled) {
			t.Errorf("run ended with %v", err)
		}
		y.done <- nil
	})
}

// TestClientCloses: a closed client holds nothing, though its Run goes on.
func TestClientCloses(t *testing.T) {
	y := newToy(t)
	y.connect()
	y.workload("a", 1)
	before := openFDs(t)
	y.client.Close()
	if after := openFDs(t); after != before-2 {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	if got := y.workload("b", 2); got.Ack == nil || got.Ack.Error == "" {
		t.Errorf("a closed client took a workload: %s", show(t, got))
	}
}
