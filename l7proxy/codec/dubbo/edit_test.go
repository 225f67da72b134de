package dubbo

import (
	"bytes"
	"maps"
	"testing"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/edit"
)

// edits are what the tests change, with what it makes of attachments.
var edits = []edit.Edit{
	{Name: "dubway-attempt", Value: "2"},
	{Name: "interface", Value: "x", How: edit.Append},
	{Name: "timeout", How: edit.Remove},
	{Name: "new", Value: "äö€😀", How: edit.Append},
	{Name: "new", Value: "2", How: edit.Append},
	{Name: "version", Value: "9", How: edit.Add},
	{Name: "version", Value: "8", How: edit.Replace},
	{Name: "nowhere", Value: "8", How: edit.Replace},
	{Name: "new", How: edit.Remove},
	{Name: "new", Value: "3"},
	{Name: "path", How: edit.Remove},
	{Name: "path", Value: "again", How: edit.Add},
}

// apply is what an edit means, in a map.
func apply(m map[string]string, e edit.Edit) {
	old, there := m[e.Name]
	switch {
	case e.How == edit.Remove:
		delete(m, e.Name)
	case e.How == edit.Add && there, e.How == edit.Replace && !there:
	case e.How == edit.Append && there:
		m[e.Name] = old + "," + e.Value
	default:
		m[e.Name] = e.Value
	}
}

// attachmentsOf reads all attachments of a body; false if it cannot be read, or has
// one that is no text.
func attachmentsOf(b *Body, serialization byte, body []byte) (m map[string]string, texts, ok bool) {
	p, st := ParsePrefix(serialization, body)
	if st != codec.Complete {
		return nil, false, false
	}
	b.Reset(codec.Header{Flags: serialization}, body, p)
	if b.readAttachments() != nil {
		return nil, false, false
	}
	m, texts = make(map[string]string), true
	for i := range b.attached.Len() {
		name, value, ok := b.attached.At(i)
		texts = texts && ok
		m[name] = value
	}
	return m, texts, true
}

// checkEdits makes n edits in a frame and holds the result against the map.
func checkEdits(t *testing.T, frame []byte, n int) {
	t.Helper()
	h, err := ParseHeader(frame)
	if err != nil || !h.Request() || h.Event() || h.Body != len(frame)-HeaderLen {
		return
	}
	var b, after Body
	want, texts, ok := attachmentsOf(&b, h.Serialization(), frame[HeaderLen:])
	if !ok {
		return
	}
	want = maps.Clone(want) // of values that alias the body
	prefix := bytes.Clone(frame)
	edited, err := b.AppendEdited([]byte("before"), frame, edits[:n]...)
	if !bytes.Equal(prefix, frame) {
		t.Fatal("the frame itself was changed")
	}
	if err != nil {
		if texts {
			t.Fatalf("%d edits: %v", n, err)
		}
		if string(edited) != "before" {
			t.Fatal("an error left something behind")
		}
		return
	}
	edited = edited[len("before"):]
	for _, e := range edits[:n] {
		apply(want, e)
	}
	again, err := ParseHeader(edited)
	if err != nil || again.Body != len(edited)-HeaderLen || again.Flags != h.Flags || again.ID != h.ID {
		t.Fatalf("%+v of %d bytes, %v", again, len(edited), err)
	}
	got, _, ok := attachmentsOf(&after, h.Serialization(), edited[HeaderLen:])
	if !ok || !maps.Equal(got, want) {
		t.Fatalf("%d edits: %q, %v; want %q", n, got, ok, want)
	}
	same, behind := b.attached.Bounds()
	if !bytes.Equal(edited[HeaderLen:HeaderLen+same], frame[HeaderLen:HeaderLen+same]) {
		t.Fatal("arguments have changed")
	}
	if !bytes.HasSuffix(edited, frame[HeaderLen+behind:]) {
		t.Fatal("what is behind the attachments has changed")
	}
}

// TestEdits: of every golden request, any number of edits.
func TestEdits(t *testing.T) {
	read := 0
	for _, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) {
			for n := range len(edits) + 1 {
				checkEdits(t, g.frame, n)
			}
		})
		if h, err := ParseHeader(g.frame); err == nil && h.Body <= len(g.frame)-HeaderLen {
			if _, _, ok := attachmentsOf(new(Body), h.Serialization(), g.frame[HeaderLen:]); ok && h.Request() {
				read++
			}
		}
	}
	if read < 20 {
		t.Errorf("%d golden frames have attachments that can be edited", read)
	}
}

func FuzzEdit(f *testing.F) {
	for _, g := range goldens(f) {
		f.Add(g.frame, byte(len(edits)))
	}
	f.Fuzz(func(t *testing.T, frame []byte, n byte) { checkEdits(t, frame, int(n)%(len(edits)+1)) })
}
