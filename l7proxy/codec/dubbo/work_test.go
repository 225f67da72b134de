package dubbo

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/hessian"
)

// TestWork: what reading a body costs is counted once, up to where the reading ended,
// and nothing is counted of what nobody asked for.
func TestWork(t *testing.T) {
	const prefix = "\x052.0.2\x01S\x050.0.0\x04echo"
	list := func(n int) string {
		return "\x10Ljava/util/List;W" + string(bytes.Repeat([]byte("\x91"), n)) + "Z"
	}
	attached := func(n int) string {
		var b bytes.Buffer
		for i := range n {
			fmt.Fprintf(&b, "\x05k%04d\x01v", i)
		}
		return "H" + b.String() + "Z"
	}
	var b Body
	look := func(behind string) int {
		t.Helper()
		body := []byte(prefix + behind)
		p, state := ParsePrefix(Hessian2, body)
		if state != codec.Complete {
			t.Fatal(state)
		}
		b.Reset(codec.Header{Flags: Hessian2}, body, p)
		_, _, _ = b.Lookup("k0000")
		_, _, _ = b.Lookup("k0000")
		return b.Work()
	}
	if n := b.Work(); n != 0 {
		t.Errorf("%d of an empty body", n)
	}
	for _, tt := range []struct {
		name        string
		body        string
		least, most int
	}{
		{"one argument", "\x01I\x91" + attached(1), 3, 6},
		{"a list", list(1000) + attached(1), 1000, 1010},
		{"one argument again", "\x01I\x91" + attached(1), 3, 6},
		{"attachments", "\x01I\x91" + attached(1000), 2000, 2010},
		{"no more than are read", "\x01I\x91" + attached(1<<14), 2 * MaxAttachments, 2*MaxAttachments + 10},
		{"no more than the reader reads", list(hessian.MaxValues+100) + attached(1), hessian.MaxValues, hessian.MaxValues + 10},
	} {
		if n := look(tt.body); n < tt.least || n > tt.most {
			t.Errorf("%s: %d values, want from %d to %d", tt.name, n, tt.least, tt.most)
		}
		if n := b.Work(); n != 0 {
			t.Errorf("%s: %d values are counted twice", tt.name, n)
		}
	}
	// Two bodies before anybody asks.
	look("\x01I\x91H")
	for range 2 {
		body := []byte(prefix + list(100) + attached(1))
		p, _ := ParsePrefix(Hessian2, body)
		b.Reset(codec.Header{Flags: Hessian2}, body, p)
		_, _, _ = b.Lookup("x")
	}
	if n := b.Work(); n < 200 || n > 220 {
		t.Errorf("%d values of two bodies with 100 each", n)
	}
	h, frame := frameOf(t, "fastjson2-attachments")
	p, _ := ParsePrefix(h.Serialization(), frame[HeaderLen:])
	b.Reset(h, frame[HeaderLen:], p)
	if b.Work() != 0 {
		t.Error("something is counted of what nobody asked for")
	}
	if _, _, err := b.Lookup("user"); err != nil || b.Work() == 0 {
		t.Errorf("nothing is counted of fastjson2: %v", err)
	}
}
