package postscript

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/seam"
	"github.com/dubway/dubway/l7proxy/codec/edit"
)

func answer(status byte, body string) []byte {
	f := binary.BigEndian.AppendUint64([]byte{0xda, 0xbb, dubbo.Hessian2, status}, 7)
	return append(binary.BigEndian.AppendUint32(f, uint32(len(body))), body...)
}

func text(name, value string) Edit { return Edit{Name: name, Parts: []Part{{Text: value}}} }

func TestEdited(t *testing.T) {
	const attached = "\x94\x01xH\x01a\x011Z"
	asked := Edit{Name: "a", Parts: []Part{{Text: "<"}, {Text: "a", Asked: true}, {Text: "b", Asked: true}, {Text: ">"}}}
	for _, tt := range []struct {
		name   string
		edits  *Edits
		status byte
		body   string
		want   string
		counts [4]uint64 // edited, unreadable, large, unattached
	}{
		{"no edits", nil, dubbo.StatusOK, attached, attached, [4]uint64{}},
		{"added", &Edits{List: []Edit{text("b", "2")}}, dubbo.StatusOK, attached, "\x94\x01xH\x01a\x011\x01b\x012Z", [4]uint64{1}},
		{"made of itself", &Edits{List: []Edit{asked}}, dubbo.StatusOK, attached, "\x94\x01xH\x01a\x03<1>Z", [4]uint64{1}},
		{"an empty value", &Edits{List: []Edit{{Name: "a"}}}, dubbo.StatusOK, attached, "\x94\x01xH\x01a\x00Z", [4]uint64{1}},
		{"nothing to do", &Edits{List: []Edit{{Name: "c", How: edit.Remove}}}, dubbo.StatusOK, attached, attached, [4]uint64{1}},
		{"another kind", &Edits{List: []Edit{text("b", "2")}, Reads: true}, dubbo.StatusOK, "\x92", "\x95H\x01b\x012Z", [4]uint64{1}},
		{"a consumer that reads none", &Edits{List: []Edit{text("b", "2")}}, dubbo.StatusOK, "\x92", "\x92", [4]uint64{3: 1}},
		{"unreadable", &Edits{List: []Edit{text("b", "2")}}, dubbo.StatusOK, "\x94\x05x", "\x94\x05x", [4]uint64{1: 1}},
		{"not to be changed", &Edits{List: []Edit{text("a", "2")}}, dubbo.StatusOK, "\x95H\x01aHZZ", "\x95H\x01aHZZ", [4]uint64{1: 1}},
		{"an error", &Edits{List: []Edit{text("b", "2")}}, dubbo.StatusServiceError, "\x01x", "\x01x", [4]uint64{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var w Writer
			var s Stats
			got := w.Edited(seam.Protocol(), tt.edits, answer(tt.status, tt.body), &s)
			if !bytes.Equal(got, answer(tt.status, tt.want)) {
				t.Errorf("%q, want %q", got[dubbo.HeaderLen:], tt.want)
			}
			if counts := [4]uint64{s.Edited.Load(), s.Unreadable.Load(), s.Large.Load(), s.Unattached.Load()}; counts != tt.counts {
				t.Errorf("counted %v, want %v", counts, tt.counts)
			}
		})
	}
}

// TestFramesStay: what was returned does not change until Clear, however much follows.
func TestFramesStay(t *testing.T) {
	var w Writer
	var s Stats
	var all [][]byte
	edits := &Edits{List: []Edit{text("b", strings.Repeat("x", 1000))}, Reads: true}
	for range 3 {
		for i := range byte(200) {
			all = append(all, w.Edited(seam.Protocol(), edits, answer(dubbo.StatusOK, string([]byte{0x91, 1, 'A' + i%26})), &s))
		}
		for i, frame := range all {
			if frame[dubbo.HeaderLen+2] != 'A'+byte(i)%26 || len(frame) < 1000 {
				t.Fatalf("frame %d is % x", i, frame[:20])
			}
		}
		w.Clear()
		all = all[:0]
	}
	if n := s.Edited.Load(); n != 600 {
		t.Errorf("%d edited", n)
	}
}

// TestMemoryIsGivenBack: one burst of large answers does not keep memory for good.
func TestMemoryIsGivenBack(t *testing.T) {
	var w Writer
	var s Stats
	edits := &Edits{List: []Edit{text("b", strings.Repeat("x", 1<<20))}, Reads: true}
	w.Edited(seam.Protocol(), edits, answer(dubbo.StatusOK, "\x92"), &s)
	if w.Clear(); cap(w.room) > maxRoom {
		t.Errorf("%d bytes are kept", cap(w.room))
	}
}

func TestPassed(t *testing.T) {
	var s Stats
	Passed(nil, codec.Header{Status: dubbo.StatusOK}, &s)
	Passed(&Edits{}, codec.Header{Status: dubbo.StatusServiceError}, &s)
	if Passed(&Edits{}, codec.Header{Status: dubbo.StatusOK}, &s); s.Large.Load() != 1 {
		t.Errorf("%d large", s.Large.Load())
	}
}

// TestAllocations: without edits there are none, with some few.
func TestAllocations(t *testing.T) {
	var w Writer
	var s Stats
	frame := answer(dubbo.StatusOK, "\x94\x01xH\x01a\x011\x01b\x012Z")
	for name, tt := range map[string]struct {
		edits *Edits
		most  float64
	}{
		"none":  {nil, 0},
		"added": {&Edits{List: []Edit{text("c", "3"), text("d", "4")}}, 4},
		"all":   {&Edits{List: []Edit{text("a", "3"), {Name: "b", How: edit.Remove}, text("d", "4")}}, 4},
	} {
		n := testing.AllocsPerRun(100, func() {
			w.Edited(seam.Protocol(), tt.edits, frame, &s)
			w.Clear()
		})
		if t.Logf("%s: %v allocations", name, n); n > tt.most {
			t.Errorf("%s: %v allocations, want %v at most", name, n, tt.most)
		}
	}
}

func BenchmarkEdited(b *testing.B) {
	var w Writer
	var s Stats
	frame := answer(dubbo.StatusOK, "\x94\x01xH\x05dubbo\x052.0.2Z")
	edits := &Edits{List: []Edit{text("by", "shop/orders-1"), {Name: "debug", How: edit.Remove}}}
	b.ReportAllocs()
	for b.Loop() {
		w.Edited(seam.Protocol(), edits, frame, &s)
		w.Clear()
	}
}
