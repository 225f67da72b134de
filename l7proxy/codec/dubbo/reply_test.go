package dubbo

import (
	"bytes"
	"strings"
	"testing"

	oracle "github.com/apache/dubbo-go-hessian2"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/rpc"
)

var texts = []string{
	"",
	"no route matches",
	"не найдено",
	"服务不存在",
	"a pair 😀 and \U0010ffff",
	strings.Repeat("x", 31),
	strings.Repeat("x", 32),
	strings.Repeat("x", 1023),
	strings.Repeat("x", 1024),
	strings.Repeat("x", 0x8000),
	strings.Repeat("x", 0x8001),
	strings.Repeat("x", 0x7fff) + "😀" + strings.Repeat("y", 0x9000),
}

func TestAppendError(t *testing.T) {
	for _, serialization := range []byte{Hessian2, Fastjson2, 22} {
		for _, text := range texts {
			req := codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay | serialization, ID: 1<<63 | 7}
			frame := AppendError([]byte("before"), req, StatusServiceNotFound, text)
			frame, ok := bytes.CutPrefix(frame, []byte("before"))
			if !ok {
				t.Fatal("what was in dst is gone")
			}
			h, err := ParseHeader(frame)
			want := codec.Header{Flags: Hessian2, Status: StatusServiceNotFound, ID: req.ID, Head: HeaderLen, Body: len(frame) - HeaderLen}
			if err != nil || h != want {
				t.Fatalf("header %+v, %v; want %+v", h, err, want)
			}
			if got := decode(t, frame[HeaderLen:], 0); got != text {
				t.Errorf("%d bytes of text come back as %d: %.40q", len(text), len(got.(string)), got)
			}
			if got := AnswerKind(h, frame[HeaderLen:]); got != rpc.ResultError {
				t.Errorf("AnswerKind = %v", got)
			}
		}
	}
}

func TestAppendErrorReplacesInvalidUTF8(t *testing.T) {
	frame := AppendError(nil, codec.Header{Flags: Hessian2}, StatusServerError, "bad \xff byte")
	if got := decode(t, frame[HeaderLen:], 0); got != "bad \ufffd byte" {
		t.Errorf("decoded %q", got)
	}
}

func TestHeartbeats(t *testing.T) {
	frame := AppendHeartbeat(nil, 5)
	h, err := ParseHeader(frame)
	if err != nil || !h.Request() || !h.TwoWay() || !h.Event() || h.ID != 5 || IsReadOnly(h, frame[HeaderLen:]) {
		t.Errorf("heartbeat %+v, %v", h, err)
	}
	for serialization, body := range map[byte]string{Hessian2: "N", Fastjson2: "\x00\x00\x00\x01\xaf", 22: "N"} {
		ask := codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay | codec.FlagEvent | serialization, ID: 1 << 40}
		frame := AppendHeartbeatReply(nil, ask)
		h, err := ParseHeader(frame)
		if err != nil || h.Request() || !h.Event() || h.Status != StatusOK || h.ID != ask.ID {
			t.Errorf("answer %+v, %v", h, err)
		}
		if got := string(frame[HeaderLen:]); got != body {
			t.Errorf("serialization %d: body %x, want %x", serialization, got, body)
		}
	}
}

func TestPutID(t *testing.T) {
	frame := AppendError(nil, codec.Header{ID: 1}, StatusServerError, "text")
	want := AppendError(nil, codec.Header{ID: 0xfffffffffffffffe}, StatusServerError, "text")
	PutID(frame, 0xfffffffffffffffe)
	if !bytes.Equal(frame, want) {
		t.Errorf("% x, want % x", frame, want)
	}
}

func TestStatusNames(t *testing.T) {
	seen := map[string]bool{}
	for status := range 256 {
		name := StatusName(byte(status))
		if name == "" || name != "unknown" && seen[name] {
			t.Errorf("status %d is %q", status, name)
		}
		seen[name] = true
	}
	if len(seen) != 13 { // Dubbo's twelve, and unknown
		t.Errorf("%d names", len(seen))
	}
}

// decode returns the nth value of a body as dubbo-go-hessian2 reads it.
func decode(t *testing.T, body []byte, n int) any {
	t.Helper()
	d := oracle.NewDecoder(body)
	for i := 0; ; i++ {
		v, err := d.Decode()
		if err != nil {
			t.Fatalf("value %d: %v", i, err)
		}
		if i == n {
			return v
		}
	}
}
