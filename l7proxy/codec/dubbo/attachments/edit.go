package attachments

import (
	"encoding/binary"

	"github.com/dubway/dubway/l7proxy/codec/edit"
	"github.com/dubway/dubway/l7proxy/codec/hessian"
	"github.com/dubway/dubway/l7proxy/codec/jsonb"
)

// Draft is what edits make of a Map.
type Draft struct {
	changes []edit.Change
	added   []edit.Edit
}

// Empty tells whether nothing changes.
func (d *Draft) Empty() bool { return len(d.changes)+len(d.added) == 0 }

// Draft works out what edits, in their order, change. An error means that one of the
// attachments that they name cannot be changed.
func (m *Map) Draft(edits []edit.Edit) (d Draft, err error) {
	have := make([]edit.Attachment, len(m.entries))
	for i, e := range m.entries {
		have[i] = edit.Attachment{Name: e.name, Value: e.value, OK: e.ok}
	}
	d.changes, d.added, err = edit.Plan(have, edits)
	return d, err
}

// Missing tells whether the body has no attachments at all, not even null: what is
// added makes it a body of another kind.
func (m *Map) Missing() bool { return m.region.none }

// Bounds returns the offsets in the body between which Append changes it.
func (m *Map) Bounds() (start, end int) {
	if m.jsonb {
		return m.region.element, m.region.end
	}
	return m.region.start, m.region.end
}

// Append appends the body as the draft changes it. Everything but the attachments stays
// byte by byte. Null, or nothing, stays so if nothing is added.
func (m *Map) Append(dst []byte, d *Draft) []byte {
	at := &m.region
	whole := !at.null && !at.none
	if d.Empty() || !whole && len(d.added) == 0 {
		return append(dst, m.body...)
	}
	start := len(dst)
	cursor, last := 0, at.end
	if !whole {
		dst = append(dst, m.body[:at.start]...)
		if at.none && m.jsonb {
			dst = append(dst, 0, 0, 0, 0) // the element's length
		}
		dst = append(dst, m.open())
		cursor = at.end
	}
	for _, c := range d.changes {
		e := &m.entries[c.At]
		dst = append(dst, m.body[cursor:e.start]...)
		if !c.Drop {
			dst = m.appendEntry(dst, edit.Edit{Name: e.name, Value: c.Value})
		}
		cursor = e.end
	}
	if whole {
		dst = append(dst, m.body[cursor:at.end]...)
	}
	for _, e := range d.added {
		dst = m.appendEntry(dst, e)
	}
	if !whole {
		dst = append(dst, m.end())
	}
	dst = append(dst, m.body[last:]...)
	if m.jsonb {
		grown := len(dst) - start - len(m.body)
		binary.BigEndian.PutUint32(dst[start+at.element:], uint32(at.elementSize+grown-4))
	}
	return dst
}

func (m *Map) appendEntry(dst []byte, e edit.Edit) []byte {
	if m.jsonb {
		return jsonb.AppendString(jsonb.AppendString(dst, e.Name), e.Value)
	}
	return hessian.AppendString(hessian.AppendString(dst, e.Name), e.Value)
}

// open and end are the marks around a map's entries.
func (m *Map) open() byte {
	if m.jsonb {
		return jsonb.Object
	}
	return 'H'
}

func (m *Map) end() byte {
	if m.jsonb {
		return jsonb.ObjectEnd
	}
	return 'Z'
}
