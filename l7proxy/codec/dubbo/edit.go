package dubbo

import (
	"encoding/binary"

	"github.com/dubway/dubway/l7proxy/codec/edit"
	"github.com/dubway/dubway/l7proxy/codec/hessian"
	"github.com/dubway/dubway/l7proxy/codec/jsonb"
)

// region is where a body has its attachments: null, or entries between two offsets.
type region struct {
	null        bool
	start, end  int // null: of the null; else of the entries, end being that of the end mark
	element     int // fastjson2: offset of the element
	elementSize int // with its length
}

// AppendEdited appends a request frame with the edits made to its attachments, in
// their order. B has been Reset to the frame's body. Everything else stays byte by
// byte. An error means that the attachments cannot be read, or not be changed so;
// dst is then returned as it was.
func (b *Body) AppendEdited(dst, frame []byte, edits ...edit.Edit) ([]byte, error) {
	if err := b.readAttachments(); err != nil {
		return dst, err
	}
	have := make([]edit.Attachment, len(b.entries))
	for i, e := range b.entries {
		have[i] = edit.Attachment{Name: e.name, Value: e.value, OK: e.ok}
	}
	changes, added, err := edit.Plan(have, edits)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	head := len(frame) - len(b.body)
	dst = append(dst, frame[:head]...)
	at := &b.region
	if len(changes)+len(added) == 0 || at.null && len(added) == 0 {
		return append(dst, b.body...), nil
	}
	cursor, last := 0, at.start
	if at.null {
		dst = append(dst, b.body[:at.start]...)
		dst = append(dst, b.open())
		cursor, last = at.end, at.end
	}
	for _, c := range changes {
		e := &b.entries[c.At]
		dst = append(dst, b.body[cursor:e.start]...)
		if !c.Drop {
			dst = b.appendEntry(dst, edit.Edit{Name: e.name, Value: c.Value})
		}
		cursor = e.end
	}
	if !at.null {
		dst = append(dst, b.body[cursor:at.end]...)
		last = at.end
	}
	for _, e := range added {
		dst = b.appendEntry(dst, e)
	}
	if at.null {
		dst = append(dst, b.close())
	}
	dst = append(dst, b.body[last:]...)
	if b.serialization == Fastjson2 {
		grown := len(dst) - start - len(frame)
		binary.BigEndian.PutUint32(dst[start+head+at.element:], uint32(at.elementSize-4+grown))
	}
	return seal(dst, start), nil
}

func (b *Body) appendEntry(dst []byte, e edit.Edit) []byte {
	if b.serialization == Fastjson2 {
		return jsonb.AppendString(jsonb.AppendString(dst, e.Name), e.Value)
	}
	return hessian.AppendString(hessian.AppendString(dst, e.Name), e.Value)
}

// open and close are the marks around a map's entries.
func (b *Body) open() byte {
	if b.serialization == Fastjson2 {
		return jsonb.Object
	}
	return 'H'
}

func (b *Body) close() byte {
	if b.serialization == Fastjson2 {
		return jsonb.ObjectEnd
	}
	return 'Z'
}
