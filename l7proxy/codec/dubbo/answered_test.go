package dubbo

import (
	"bytes"
	"encoding/hex"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/edit"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// answerFrame makes a frame of a body in hexadecimal, in which spaces mean nothing.
func answerFrame(t *testing.T, serialization, status byte, body string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(body, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return seal(append(appendHeader(nil, serialization, status, 7), b...), 0)
}

// TestAnswerEdits: the bytes of answers before and after.
func TestAnswerEdits(t *testing.T) {
	const (
		by    = "02 6279 01 31"       // by: 1, in hessian2
		jsonB = "7a 02 6279 7a 01 31" // in JSONB, as we write strings
	)
	add := []edit.Edit{{Name: "by", Value: "1"}}
	remove := []edit.Edit{{Name: "by", How: edit.Remove}}
	for _, tt := range []struct {
		name          string
		serialization byte
		status        byte // 0: OK
		body          string
		old           bool // the consumer reads no attachments
		edits         []edit.Edit
		want          string // "": unchanged, with an error
		is            error
	}{
		{name: "a value", serialization: Hessian2, body: "91 01 61", edits: add, want: "94 01 61 48" + by + "5a"},
		{name: "a value of dubbo-go, with a null behind it", serialization: Hessian2, body: "91 01 61 4e", edits: add, want: "94 01 61 48" + by + "5a 4e"},
		{name: "an exception", serialization: Hessian2, body: "90 43 01 78 91 01 79 60 90", edits: add, want: "93 43 01 78 91 01 79 60 90 48" + by + "5a"},
		{name: "null", serialization: Hessian2, body: "92", edits: add, want: "95 48" + by + "5a"},
		{name: "a long number for the kind", serialization: Hessian2, body: "49 00 00 00 01 01 61", edits: add, want: "49 00 00 00 04 01 61 48" + by + "5a"},
		{name: "nothing to remove", serialization: Hessian2, body: "91 01 61", edits: remove, want: "91 01 61"},
		{name: "nothing to remove, and an old consumer", serialization: Hessian2, body: "91 01 61", old: true, edits: remove, want: "91 01 61"},
		{name: "an old consumer", serialization: Hessian2, body: "91 01 61", old: true, edits: add, is: codec.ErrUnattached},
		{name: "an old consumer that gets some", serialization: Hessian2, body: "94 01 61 48 5a", old: true, edits: add, want: "94 01 61 48" + by + "5a"},
		{name: "some already", serialization: Hessian2, body: "94 01 61 48 01 78 01 79 5a", edits: add, want: "94 01 61 48 01 78 01 79" + by + "5a"},
		{name: "overwritten", serialization: Hessian2, body: "94 01 61 48 02 6279 02 3939 01 78 01 79 5a", edits: add, want: "94 01 61 48" + by + "01 78 01 79 5a"},
		{name: "removed", serialization: Hessian2, body: "94 01 61 48" + by + "01 78 01 79 5a 4e", edits: remove, want: "94 01 61 48 01 78 01 79 5a 4e"},
		{name: "the last is removed", serialization: Hessian2, body: "95 48" + by + "5a", edits: remove, want: "95 48 5a"},
		{name: "null for attachments", serialization: Hessian2, body: "95 4e", edits: add, want: "95 48" + by + "5a"},
		{name: "null for attachments, nothing to remove", serialization: Hessian2, body: "95 4e", edits: remove, want: "95 4e"},
		{name: "an object to be overwritten", serialization: Hessian2, body: "95 48 02 6279 79 90 5a", edits: add},
		{name: "no such kind", serialization: Hessian2, body: "96 48 5a", edits: add},
		{name: "cut in the value", serialization: Hessian2, body: "91 05 61", edits: add},
		{name: "no map", serialization: Hessian2, body: "94 01 61 01 62", edits: add},
		{name: "no attachments in spite of the kind", serialization: Hessian2, body: "94 01 61", edits: add},
		{name: "no body", serialization: Hessian2, body: "", edits: add},
		{name: "another status", serialization: Hessian2, status: 70, body: "01 61", edits: add},
		{name: "another serialization", serialization: 3, body: "91 01 61", edits: add},
		{
			name: "a value in fastjson2", serialization: Fastjson2, edits: add,
			body: "00000002 bd01 00000002 4a61", want: "00000002 bd04 00000002 4a61 00000009 a6" + jsonB + "a5",
		},
		{
			name: "null in fastjson2", serialization: Fastjson2, edits: add,
			body: "00000001 02", want: "00000001 05 00000009 a6" + jsonB + "a5",
		},
		{
			name: "some in fastjson2", serialization: Fastjson2, edits: add,
			body: "00000002 bd04 00000002 4a61 00000006 a6 4a78 4a79 a5", want: "00000002 bd04 00000002 4a61 0000000d a6 4a78 4a79" + jsonB + "a5",
		},
		{
			name: "removed in fastjson2", serialization: Fastjson2, edits: remove,
			body: "00000002 bd05 00000009 a6" + jsonB + "a5", want: "00000002 bd05 00000002 a6 a5",
		},
		{
			name: "null for attachments in fastjson2", serialization: Fastjson2, edits: add,
			body: "00000002 bd05 00000001 af", want: "00000002 bd05 00000009 a6" + jsonB + "a5",
		},
		{name: "an old consumer of fastjson2", serialization: Fastjson2, body: "00000001 02", old: true, edits: add, is: codec.ErrUnattached},
		{name: "a kind with more behind it", serialization: Fastjson2, body: "00000002 0202", edits: add},
		{name: "no element behind the kind", serialization: Fastjson2, body: "00000001 01", edits: add},
		{name: "a negative kind", serialization: Fastjson2, body: "00000001 ff", edits: add},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.status == 0 {
				tt.status = StatusOK
			}
			frame := answerFrame(t, tt.serialization, tt.status, tt.body)
			got, err := edited(t, frame, !tt.old, tt.edits)
			want := []byte(nil)
			if tt.want != "" {
				want = answerFrame(t, tt.serialization, tt.status, tt.want)
			}
			if !bytes.Equal(got, want) || (err != nil) != (tt.want == "") || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("% x\n%v\nwant\n% x", got, err, want)
			}
		})
	}
}

// edited makes edits in an answer's frame; nil with an error.
func edited(t *testing.T, frame []byte, reads bool, edits []edit.Edit) ([]byte, error) {
	t.Helper()
	h, err := ParseHeader(frame)
	if err != nil {
		t.Fatal(err)
	}
	var a Answer
	if err := a.Reset(h, frame); err != nil {
		return nil, err
	}
	before := bytes.Clone(frame)
	got, err := a.AppendEdited([]byte("before"), reads, edits...)
	if !bytes.Equal(before, frame) {
		t.Fatal("the frame itself was changed")
	}
	if !bytes.HasPrefix(got, []byte("before")) || err != nil && len(got) > len("before") {
		t.Fatalf("what was there became %q, %v", got, err)
	}
	if err != nil {
		return nil, err
	}
	return got[len("before"):], nil
}

// attachedTo reads all attachments of an answer; false if it cannot be read, or has one
// that is no text.
func attachedTo(a *Answer, h codec.Header, frame []byte) (m map[string]string, texts, ok bool) {
	if a.Reset(h, frame) != nil {
		return nil, false, false
	}
	m, texts = make(map[string]string), true
	for i := range a.attached.Len() {
		name, value, ok := a.attached.At(i)
		texts = texts && ok
		m[strings.Clone(name)] = strings.Clone(value)
	}
	return m, texts, true
}

// checkAnswerEdits makes n edits in an answer and holds the result against a map.
func checkAnswerEdits(t *testing.T, frame []byte, n int) {
	t.Helper()
	h, err := ParseHeader(frame)
	if err != nil || h.Request() || h.Event() || h.Body != len(frame)-HeaderLen {
		return
	}
	var a, after Answer
	want, texts, ok := attachedTo(&a, h, frame)
	if !ok {
		if a.attached.Len() > 0 {
			t.Fatal("attachments of an answer that cannot be read")
		}
		return
	}
	got, err := edited(t, frame, true, edits[:n])
	if err != nil {
		if texts {
			t.Fatalf("%d edits: %v", n, err)
		}
		return
	}
	for _, e := range edits[:n] {
		apply(want, e)
	}
	again, err := ParseHeader(got)
	if err != nil || again.Body != len(got)-HeaderLen || again.Flags != h.Flags || again.Status != h.Status || again.ID != h.ID {
		t.Fatalf("%+v of %d bytes, %v", again, len(got), err)
	}
	have, _, ok := attachedTo(&after, again, got)
	if !ok || !maps.Equal(have, want) {
		t.Fatalf("%d edits: %q, %v; want %q", n, have, ok, want)
	}
	if AnswerKind(h, frame[HeaderLen:]) != AnswerKind(again, got[HeaderLen:]) {
		t.Fatal("the answer is of another result")
	}
	same, behind := a.attached.Bounds()
	if !bytes.Equal(got[HeaderLen+a.kind+1:HeaderLen+same], frame[HeaderLen+a.kind+1:HeaderLen+same]) || !bytes.HasSuffix(got, frame[HeaderLen+behind:]) {
		t.Fatal("the value has changed")
	}
	if !bytes.Equal(got[HeaderLen:HeaderLen+a.kind], frame[HeaderLen:HeaderLen+a.kind]) {
		t.Fatal("what is before the kind's last byte has changed")
	}
}

// TestGoldenAnswersEdited: of every golden answer, any number of edits.
func TestGoldenAnswersEdited(t *testing.T) {
	read := map[byte]int{}
	for _, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) {
			for n := range len(edits) + 1 {
				checkAnswerEdits(t, g.frame, n)
			}
		})
		if h, err := ParseHeader(g.frame); err == nil && !h.Request() && !h.Event() && h.Body == len(g.frame)-HeaderLen {
			if _, _, ok := attachedTo(new(Answer), h, g.frame); ok {
				read[h.Serialization()]++
			}
		}
	}
	if read[Hessian2] < 10 || read[Fastjson2] < 8 {
		t.Errorf("%v golden answers can be edited", read)
	}
}

// TestAnswerCut: of an answer that ends anywhere before its attachments' end nothing is
// changed, and nothing is read beyond it.
func TestAnswerCut(t *testing.T) {
	for _, g := range goldens(t) {
		h, err := ParseHeader(g.frame)
		if err != nil || h.Request() || h.Body != len(g.frame)-HeaderLen {
			continue
		}
		var whole, cut Answer
		if whole.Reset(h, g.frame) != nil {
			continue
		}
		_, end := whole.attached.Bounds()
		for n := range end {
			frame := g.frame[: HeaderLen+n : HeaderLen+n]
			if cut.Reset(h, frame) == nil {
				t.Fatalf("%s: %d of %d bytes can be edited", g.name, n, end)
			}
		}
	}
}

func FuzzAnswerEdit(f *testing.F) {
	for _, g := range goldens(f) {
		f.Add(g.frame, byte(len(edits)))
	}
	f.Fuzz(func(t *testing.T, frame []byte, n byte) { checkAnswerEdits(t, frame, int(n)%(len(edits)+1)) })
}

func TestReadsAttachments(t *testing.T) {
	for version, want := range map[string]bool{
		"2.0.2": true, "2.0.3": true, "2.0.9": true, "2.0.1": false, "2.0.0": false, "1.9.9": false, "2.0.10": false, "2.5.3": false,
		"2.6.2": false, "2.6.3": true, "2.7.23": true, "2.8.0": false, "2.8.4": false, "2.9.0": true, "3.3.6": true, "": false, "2.0": false,
		"2.0.x": false, "x": false, "2.6.5-SNAPSHOT": true, "2.0.2.1": true, "99999999999999999999.0.2": false,
	} {
		if got := ReadsAttachments(version); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}

// TestLocalExceptionEdited: what the mesh throws at a provider's node can be edited at
// its consumer's.
func TestLocalExceptionEdited(t *testing.T) {
	for _, serialization := range []byte{Hessian2, Fastjson2} {
		frame, _ := AppendLocal(nil, codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay | serialization, ID: 7}, rpc.WhyDenied, "no")
		got, err := edited(t, frame, true, []edit.Edit{{Name: "a", Value: "b"}})
		h, _ := ParseHeader(got)
		if err != nil || AnswerKind(h, got[HeaderLen:]) != rpc.ResultException || ExceptionClass(serialization, got[HeaderLen:]) == "" {
			t.Errorf("% x, %v", got, err)
		}
		var a Answer
		if err := a.Reset(h, got); err != nil {
			t.Error(err)
		}
		if value, ok := a.Lookup("a"); value != "b" || !ok {
			t.Errorf("%q, %v", value, ok)
		}
	}
}
