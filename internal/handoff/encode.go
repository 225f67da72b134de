package handoff

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/dubway/dubway/internal/lane"
)

// ErrTooLarge is returned for a message of more than MaxMessage bytes.
var ErrTooLarge = errors.New("message is too large")

// Encode returns the packet of m. It refuses what Decode would refuse, so that a
// mistake shows at its author's side.
func Encode(m *Message) ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.Kind, err)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.Kind, err)
	}
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("encode %s: %w: %d bytes", m.Kind, ErrTooLarge, len(b))
	}
	return b, nil
}

// Decode reads one packet. It believes nothing: unknown fields, a body that
// Kind does not name, and values that no peer of this version sends are errors.
// What it accepts encodes again to an equal message.
func Decode(packet []byte) (*Message, error) {
	if len(packet) > MaxMessage {
		return nil, fmt.Errorf("decode message: %w: %d bytes", ErrTooLarge, len(packet))
	}
	if !utf8.Valid(packet) {
		return nil, errors.New("decode message: not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(packet))
	d.DisallowUnknownFields()
	m := &Message{}
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("decode message: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("decode message: bytes after the message")
	}
	m.normalise()
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("decode %q: %w", m.Kind, err)
	}
	// JSON escapes make some text longer than the peer wrote it.
	if _, err := Encode(m); err != nil {
		return nil, fmt.Errorf("decode %q: %w", m.Kind, err)
	}
	return m, nil
}

// normalise gives the two spellings of nothing, an absent list and an empty
// one, the same form.
func (m *Message) normalise() {
	if w := m.Workload; w != nil {
		if len(w.Labels) == 0 {
			w.Labels = nil
		}
		if len(w.Annotations) == 0 {
			w.Annotations = nil
		}
		if len(w.Ports) == 0 {
			w.Ports = nil
		}
	}
	if d := m.Destinations; d != nil {
		if len(d.Workloads) == 0 {
			d.Workloads = nil
		}
		if len(d.Entries) == 0 {
			d.Entries = nil
		}
	}
	if m.SignResult != nil {
		m.SignResult.normalise()
	}
	if m.Lane != nil && len(m.Lane.Ends) == 0 {
		m.Lane.Ends = nil
	}
}

// fds returns how many file descriptors travel with m.
func (m *Message) fds() int {
	switch m.Kind {
	case KindWorkload:
		return len(m.Workload.Listeners)
	case KindHello:
		if m.Hello.Note != "" {
			return 1
		}
	case KindDialResult:
		if m.DialResult.Code == "" {
			return 1
		}
	case KindLanes:
		if m.Lanes.Sizes != (lane.Sizes{}) {
			return lane.Files
		}
	case KindLane:
		return 1 + len(m.Lane.Ends)
	case KindWorkloadGone, KindSnapshotEnd, KindGoodbye, KindYield, KindAck, KindDial, KindDestinations,
		KindSign, KindSignResult, KindCertified, KindLaneGone:
	}
	return 0
}
