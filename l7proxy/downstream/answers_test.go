package downstream

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"maps"
	"math"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/mode"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// answering makes a provider answer everything with a body.
func (p *provider) answering(status byte, body string) {
	p.fail = func(_ net.Conn, w *bufio.Writer, h codec.Header) {
		f := binary.BigEndian.AppendUint64([]byte{0xda, 0xbb, dubbo.Hessian2, status}, h.ID)
		_, _ = w.Write(append(binary.BigEndian.AppendUint32(f, uint32(len(body))), body...))
	}
	p.failures.Store(math.MaxInt64)
}

// answersEdited are edits with a piece of each kind.
var answersEdited = []snapshot.Edit{
	{Name: "debug", How: snapshot.EditRemove},
	{Name: "by", Value: []snapshot.Piece{
		{Kind: snapshot.PieceUpstreamIP}, {Text: " of "}, {Kind: snapshot.PieceCluster}, {Text: " by "}, {Kind: snapshot.PieceRoute},
	}},
	{Name: "for", How: snapshot.EditAdd, Value: []snapshot.Piece{{Kind: snapshot.PieceSource, Text: "pod"}}},
	{Name: "was", How: snapshot.EditReplace, Value: []snapshot.Piece{{Text: "not "}, {Kind: snapshot.PieceAnswer, Text: "was"}}},
	{Name: "tags", How: snapshot.EditAppend, Value: []snapshot.Piece{{Kind: snapshot.PieceRequest, Text: "method"}}},
}

// editing gives the rig's route edits of answers.
func (r *rig) editing(edits []snapshot.Edit, p *provider) {
	r.configureWith(func(s *snapshot.Snapshot) {
		s.Routes["r"].VirtualHosts[0].Routes[0].Action.Answers = edits
	}, p.addr)
}

// frameOfAnswer reads one answer.
func frameOfAnswer(t *testing.T, c net.Conn) (codec.Header, []byte) {
	t.Helper()
	frame, err := readFrame(c)
	if err != nil {
		t.Fatal(err)
	}
	h, err := dubbo.ParseHeader(frame)
	if err != nil {
		t.Fatal(err)
	}
	return h, frame
}

// TestAnswersEdited: a consumer gets the attachments that the route makes of the
// provider's, behind the same value; what cannot have them passes as it is.
func TestAnswersEdited(t *testing.T) {
	all := map[string]string{"by": "127.0.0.1 of c by all", "for": "consumer", "tags": "echo", "debug": "", "was": ""}
	some := maps.Clone(all)
	some["was"], some["tags"] = "not here", "a,echo"
	const attached = "H\x05debug\x03yes\x03was\x04here\x04tags\x01aZ"
	for _, tt := range []struct {
		name    string
		status  byte // 0: OK
		body    string
		version string            // of the consumer; "": 2.0.2
		begins  string            // the body afterwards
		want    map[string]string // nil: the body is as it was
		counts  [3]uint64         // edited, unreadable, unattached
	}{
		{name: "a value", body: "\x91\x01x", begins: "\x94\x01xH", want: all, counts: [3]uint64{1, 0, 0}},
		{name: "null", body: "\x92", begins: "\x95H", want: all, counts: [3]uint64{1, 0, 0}},
		{name: "an exception", body: "\x90C\x01a\x91\x01b\x60\x01c", begins: "\x93C\x01a\x91\x01b\x60\x01cH", want: all, counts: [3]uint64{1, 0, 0}},
		{name: "some already", body: "\x94\x01x" + attached, begins: "\x94\x01xH", want: some, counts: [3]uint64{1, 0, 0}},
		{name: "an old consumer", body: "\x91\x01x", version: "2.0.0", counts: [3]uint64{0, 0, 1}},
		{name: "a consumer that says its library's version", body: "\x91\x01x", version: "2.5.3", counts: [3]uint64{0, 0, 1}},
		{name: "an old consumer that gets some", body: "\x94\x01x" + attached, version: "2.0.0", begins: "\x94\x01xH", want: some, counts: [3]uint64{1, 0, 0}},
		{name: "unreadable", body: "\x94\x05x", counts: [3]uint64{0, 1, 0}},
		{name: "an error", status: dubbo.StatusServiceError, body: "\x04busy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newProvider(t)
			if tt.status == 0 {
				tt.status = dubbo.StatusOK
			}
			p.answering(tt.status, tt.body)
			r := newRig(t, p.addr)
			r.editing(answersEdited, p)
			c := r.dial()
			ask := waits(7, "1000")
			if tt.version != "" {
				ask = bytes.Replace(ask, []byte("2.0.2"), []byte(tt.version), 1)
			}
			for range 2 { // the same again: no edit is left over
				write(t, c, ask)
				h, frame := frameOfAnswer(t, c)
				if h.ID != 7 || h.Status != tt.status {
					t.Fatalf("status %d for %d", h.Status, h.ID)
				}
				body := string(frame[dubbo.HeaderLen:])
				if tt.want == nil {
					if body != tt.body {
						t.Errorf("%q was changed into %q", tt.body, body)
					}
					continue
				}
				if !strings.HasPrefix(body, tt.begins) {
					t.Errorf("the body is %q", body)
				}
				var a dubbo.Answer
				if err := a.Reset(h, frame); err != nil {
					t.Fatal(err)
				}
				for name, want := range tt.want {
					if got, ok := a.Lookup(name); got != want || ok != (want != "") {
						t.Errorf("%s is %q, %v; want %q", name, got, ok, want)
					}
				}
			}
			s := &r.env.Pool.Stats().Postscripts
			if got := [3]uint64{s.Edited.Load(), s.Unreadable.Load(), s.Unattached.Load()}; got != [3]uint64{2 * tt.counts[0], 2 * tt.counts[1], 2 * tt.counts[2]} {
				t.Errorf("edited, unreadable and unattached are %v", got)
			}
		})
	}
}

// attachmentOf returns an attachment of the next answer.
func attachmentOf(t *testing.T, c net.Conn, name string) (id uint64, value string) {
	t.Helper()
	h, frame := frameOfAnswer(t, c)
	var a dubbo.Answer
	if err := a.Reset(h, frame); err != nil {
		t.Fatal(err)
	}
	value, _ = a.Lookup(name)
	return h.ID, value
}

// TestAnswersOfTheirRequests: many at once, each with what its own request said, and a
// large request too, which is held for it.
func TestAnswersOfTheirRequests(t *testing.T) {
	p := newProvider(t)
	p.answering(dubbo.StatusOK, "\x91\x01x")
	r := newRig(t, p.addr)
	r.configureWith(func(s *snapshot.Snapshot) {
		s.Routes["r"].Whole = true
		s.Routes["r"].VirtualHosts[0].Routes[0].Action.Answers = []snapshot.Edit{
			{Name: "waited", Value: []snapshot.Piece{{Text: "at most "}, {Kind: snapshot.PieceRequest, Text: "timeout"}}},
		}
	}, p.addr)
	c := r.dial()
	var burst []byte
	for i := range 100 {
		burst = append(burst, waits(uint64(i), strings.Repeat("1", 1+i%9))...)
	}
	write(t, c, burst)
	for range 100 {
		id, got := attachmentOf(t, c, "waited")
		if want := "at most " + strings.Repeat("1", 1+int(id)%9); got != want {
			t.Errorf("answer %d has %q, want %q", id, got, want)
		}
	}
	write(t, c, request(7, twoWay, []byte("\x01x"))) // which cannot be read
	if id, got := attachmentOf(t, c, "waited"); id != 7 || got != "at most " {
		t.Errorf("%d: %q", id, got)
	}
}

// TestAnswersOfShares: a weighted cluster has edits in the route's stead.
func TestAnswersOfShares(t *testing.T) {
	p := newProvider(t)
	p.answering(dubbo.StatusOK, "\x91\x01x")
	r := newRig(t, p.addr)
	text := func(name, value string) []snapshot.Edit {
		return []snapshot.Edit{{Name: name, Value: []snapshot.Piece{{Text: value}}}}
	}
	r.policy(func(a *snapshot.Action) {
		a.Answers = text("share", "route")
		a.Clusters, a.Total = []snapshot.WeightedCluster{
			{Cluster: "c", Weight: 1}, {Cluster: "c", Weight: 1, Edits: &snapshot.Edits{Answers: text("share", "b")}},
		}, 2
	}, snapshot.RetryBudget{}, p.addr)
	c := r.dial()
	seen := map[string]int{}
	for range 200 {
		write(t, c, waits(7, "1000"))
		_, got := attachmentOf(t, c, "share")
		seen[got]++
	}
	if seen["route"] < 50 || seen["b"] < 50 || seen["route"]+seen["b"] != 200 {
		t.Errorf("%v", seen)
	}
}

// TestAnswersKept: of a request that is tried again the consumer gets one answer, with
// the edits made once; the same where no try is left and it is the one that was kept.
func TestAnswersKept(t *testing.T) {
	add := []snapshot.Edit{{Name: "tags", How: snapshot.EditAppend, Value: []snapshot.Piece{{Text: "edited"}}}}
	for name, budget := range map[string]snapshot.RetryBudget{"all tries": {Max: 100}, "no try is allowed": {None: true}} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			p.answering(dubbo.StatusOK, "\x93C\x08org.Busy\x91\x01b\x60\x01cHZ")
			r := newRig(t, p.addr)
			r.policy(func(a *snapshot.Action) {
				a.Answers = add
				a.Retry = &snapshot.Retry{Num: 2, Exceptions: []*regexp.Regexp{regexp.MustCompile("^org[.]Busy$")}}
			}, budget, p.addr)
			c := r.dial()
			write(t, c, waits(7, "1000"))
			h, frame := frameOfAnswer(t, c)
			var a dubbo.Answer
			if err := a.Reset(h, frame); err != nil {
				t.Fatal(err)
			}
			if got, _ := a.Lookup("tags"); h.ID != 7 || got != "edited" {
				t.Errorf("%d: tags is %q", h.ID, got)
			}
			if want := int64(1 + min(budget.Max, 2)); p.requests.Load() != want {
				t.Errorf("%d tries, want %d", p.requests.Load(), want)
			}
		})
	}
}

// TestLargeAnswersAreNotEdited: what is not held passes as it is, and is counted.
func TestLargeAnswersAreNotEdited(t *testing.T) {
	p := newProvider(t)
	body := "\x91" + strings.Repeat("R\x80\x00"+strings.Repeat("x", 0x8000), 10) + "\x01x"
	p.answering(dubbo.StatusOK, body)
	r := newRig(t, p.addr)
	r.editing(answersEdited, p)
	c := r.dial()
	write(t, c, waits(7, "1000"))
	h, frame := frameOfAnswer(t, c)
	s := &r.env.Pool.Stats().Postscripts
	if h.ID != 7 || string(frame[dubbo.HeaderLen:]) != body || s.Large.Load() != 1 || s.Edited.Load() != 0 {
		t.Errorf("%d, %d bytes, %d large, %d edited", h.ID, len(frame), s.Large.Load(), s.Edited.Load())
	}
}

// TestObservedAnswers: of a workload that is only observed no byte is changed.
func TestObservedAnswers(t *testing.T) {
	p := newProvider(t)
	p.answering(dubbo.StatusOK, "\x91\x01x")
	r := newRig(t, p.addr)
	if err := r.env.Modes.Put(&mode.Workload{UID: r.pod.UID, Labels: map[string]string{mode.Key: "observe"}}); err != nil {
		t.Fatal(err)
	}
	r.editing(answersEdited, p)
	c := r.dial()
	write(t, c, waits(7, "1000"))
	if _, frame := frameOfAnswer(t, c); string(frame[dubbo.HeaderLen:]) != "\x91\x01x" {
		t.Errorf("%q", frame[dubbo.HeaderLen:])
	}
	if n := r.env.Pool.Stats().Postscripts.Edited.Load(); n != 0 {
		t.Errorf("%d edited", n)
	}
}
