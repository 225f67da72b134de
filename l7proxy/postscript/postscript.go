// Package postscript is what routes make of the attachments that stand behind the value
// of an answer: what becomes of them, and the writer that does it where answers arrive.
// Package plan works out what is wanted; how frames are read and written is their protocol's.
package postscript

import (
	"errors"
	"strings"
	"sync/atomic"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/edit"
)

// maxRoom is the memory that a Writer keeps between two reads, in bytes.
const maxRoom = 256 << 10

// Edits is what becomes of the answer to a request. It is shared, and never changed.
type Edits struct {
	List []Edit
	// Reads says that the consumer reads answers with attachments, so that one without
	// may get some.
	Reads bool
	// Asks says that a value is made of the request's own attachments: what is here is of
	// one request.
	Asks bool
}

// Edit changes one attachment. Its value is its parts, one after the other.
type Edit struct {
	Name  string
	How   edit.How
	Parts []Part
}

// Part is a text, or the name of an attachment of the answer, of which an absent one is
// an empty text.
type Part struct {
	Text  string
	Asked bool // Text is a name
}

// Stats counts the answers of routes that edit them: edited, also where nothing was
// found to change; passed on as they are because they could not be read, were too large
// to be held, or got attachments that their consumer cannot read. Answers with a status
// other than OK have no attachments, and are not counted.
type Stats struct {
	Edited, Unreadable, Large, Unattached atomic.Uint64
}

// Writer edits the answers of one connection to a provider. Its zero value is ready. One
// goroutine uses it.
type Writer struct {
	answer codec.Answer // 2 KiB: only where a route edits
	edits  []edit.Edit
	room   []byte // of edited frames
}

// Edited returns the frame of an answer with the edits made, or the frame itself if there
// are none, or they cannot be made. It is valid until Clear.
func (w *Writer) Edited(p *codec.Protocol, e *Edits, frame []byte, stats *Stats) []byte {
	if e == nil {
		return frame
	}
	h, err := p.Frames.ParseHeader(frame)
	if err != nil || h.Status != codec.StatusOK {
		return frame
	}
	if p.Attached == nil {
		stats.Unattached.Add(1)
		return frame
	}
	if w.answer == nil {
		w.answer = p.Attached.NewAnswer()
	}
	if err := w.answer.Reset(h, frame); err != nil {
		stats.Unreadable.Add(1)
		return frame
	}
	start := len(w.room)
	w.room, err = w.answer.AppendEdited(w.room, e.Reads, w.fill(e)...)
	switch {
	case errors.Is(err, codec.ErrUnattached):
		stats.Unattached.Add(1)
		return frame
	case err != nil:
		stats.Unreadable.Add(1)
		return frame
	}
	stats.Edited.Add(1)
	return w.room[start:]
}

// Passed counts an answer that is too large to be held.
func Passed(e *Edits, h codec.Header, stats *Stats) {
	if e != nil && h.Status == codec.StatusOK {
		stats.Large.Add(1)
	}
}

// Clear says that what Edited returned is no longer needed.
func (w *Writer) Clear() {
	if w.room = w.room[:0]; cap(w.room) > maxRoom {
		w.room = nil
	}
}

// fill works out the values of edits for the answer.
func (w *Writer) fill(e *Edits) []edit.Edit {
	w.edits = w.edits[:0]
	for i := range e.List {
		one := &e.List[i]
		w.edits = append(w.edits, edit.Edit{Name: one.Name, How: one.How, Value: w.value(one.Parts)})
	}
	return w.edits
}

func (w *Writer) value(parts []Part) string {
	if len(parts) == 1 {
		return w.part(&parts[0])
	}
	var b strings.Builder
	for i := range parts {
		b.WriteString(w.part(&parts[i]))
	}
	return b.String()
}

func (w *Writer) part(p *Part) string {
	if !p.Asked {
		return p.Text
	}
	value, _ := w.answer.Lookup(p.Text) // what has no text is no value
	return value
}
