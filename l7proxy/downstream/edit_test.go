package downstream

import (
	"net"
	"testing"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// arrived sends a request and returns what its provider got, which echoes it.
func arrived(t *testing.T, c net.Conn, frame []byte) *dubbo.Body {
	t.Helper()
	write(t, c, frame)
	h, body := mustAnswer(t, c)
	if h.Status != dubbo.StatusOK {
		t.Fatalf("status %d", h.Status)
	}
	body = body[1:] // the answer's kind
	prefix, state := dubbo.ParsePrefix(dubbo.Hessian2, body)
	if state != codec.Complete {
		t.Fatalf("%q arrived", body)
	}
	var b dubbo.Body
	b.Reset(codec.Header{Flags: dubbo.Hessian2}, body, prefix)
	return &b
}

func wantAttachment(t *testing.T, b *dubbo.Body, name, want string) {
	t.Helper()
	if got, ok, err := b.Lookup(name); got != want || ok != (want != "") || err != nil {
		t.Errorf("%s is %q, %v, %v; want %q", name, got, ok, err, want)
	}
}

// TestEdits: the provider gets the attachments that the route makes of the consumer's,
// and its arguments as they were.
func TestEdits(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	r.configureWith(func(s *snapshot.Snapshot) {
		s.Routes["r"].Whole = true
		s.Routes["r"].VirtualHosts[0].Routes[0].Action.Edits = []snapshot.Edit{
			{Name: "timeout", How: snapshot.EditRemove},
			{Name: "from", Value: []snapshot.Piece{
				{Kind: snapshot.PieceSource, Text: "namespace"}, {Text: "/"}, {Kind: snapshot.PieceSource, Text: "pod"},
			}},
			{Name: "what", How: snapshot.EditAdd, Value: []snapshot.Piece{{Kind: snapshot.PieceRequest, Text: "method"}}},
			{Name: "dialled", Value: []snapshot.Piece{{Kind: snapshot.PieceLocal}}},
			{Name: "client", Value: []snapshot.Piece{{Kind: snapshot.PieceRemoteIP}}},
			{Name: "waits", Value: []snapshot.Piece{{Kind: snapshot.PieceRequest, Text: "timeout"}}},
		}
	}, p.addr)
	c := r.dial()
	for range 2 {
		b := arrived(t, c, waits(7, "1000"))
		for name, want := range map[string]string{
			"timeout": "", "from": "shop/consumer", "what": "echo", "dialled": vip.String(), "client": "127.0.0.1", "waits": "1000",
		} {
			wantAttachment(t, b, name, want)
		}
		if text, ok, err := b.Argument(0); text != "x" || !ok || err != nil {
			t.Errorf("the argument is %q, %v, %v", text, ok, err)
		}
	}
	// What cannot be read goes as it came.
	broken := request(9, twoWay, []byte("\x01x"))
	write(t, c, broken)
	wantEcho(t, c, "without attachments", broken)
	// A large one is held until it can be changed.
	big := make([]byte, 400<<10)
	text := append([]byte{'R', 0x80, 0}, big[:0x8000]...)
	for range 9 {
		text = append(text, append([]byte{'R', 0x80, 0}, big[:0x8000]...)...)
	}
	b := arrived(t, c, request(10, twoWay, append(append(text, 0), "HZ"...)))
	wantAttachment(t, b, "what", "echo")
}

// TestRetriesAreMarked: a provider can tell what the mesh has sent again.
func TestRetriesAreMarked(t *testing.T) {
	p := newProvider(t)
	failing(80)(p)
	p.failures.Store(2)
	r := newRig(t, p.addr)
	r.policy(func(a *snapshot.Action) {
		a.Retry = &snapshot.Retry{Num: 2, On: snapshot.RetryError}
	}, snapshot.RetryBudget{}, p.addr)
	c := r.dial()
	wantAttachment(t, arrived(t, c, waits(7, "1000")), "dubway-attempt", "3")
	wantAttachment(t, arrived(t, c, waits(8, "1000")), "dubway-attempt", "")
}
