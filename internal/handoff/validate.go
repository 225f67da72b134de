package handoff

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/dubway/dubway/internal/handoff/field"
)

// Limits of what one message may hold, beside MaxMessage.
const (
	maxListeners = 4 // two directions, two families
	maxAddresses = 16
)

// validate checks that m holds exactly the body that Kind names, and the body.
func (m *Message) validate() error {
	if err := m.validateBody(); err != nil {
		return err
	}
	switch m.Kind {
	case KindHello:
		return m.Hello.validate()
	case KindWorkload:
		return m.Workload.validate()
	case KindWorkloadGone:
		return field.Name("uid", m.WorkloadGone.UID)
	case KindAck:
		return m.Ack.validate()
	case KindDial:
		return m.Dial.validate()
	case KindDialResult:
		return m.DialResult.validate()
	case KindDestinations:
		return m.Destinations.validate()
	case KindSign:
		return m.Sign.validate()
	case KindSignResult:
		return m.SignResult.validate()
	case KindCertified:
		return m.Certified.validate()
	case KindLanes:
		return m.Lanes.validate()
	case KindLane:
		return m.Lane.validate()
	case KindSnapshotEnd, KindGoodbye, KindYield, KindLaneGone:
	}
	return nil
}

// validateBody compares the bodies that are set, and Seq, with what Kind wants.
func (m *Message) validateBody() error {
	bodies := []struct {
		kind Kind
		set  bool
	}{
		{KindHello, m.Hello != nil},
		{KindWorkload, m.Workload != nil},
		{KindWorkloadGone, m.WorkloadGone != nil},
		{KindAck, m.Ack != nil},
		{KindDial, m.Dial != nil},
		{KindDialResult, m.DialResult != nil},
		{KindDestinations, m.Destinations != nil},
		{KindSign, m.Sign != nil},
		{KindSignResult, m.SignResult != nil},
		{KindCertified, m.Certified != nil},
		{KindLanes, m.Lanes != nil},
		{KindLane, m.Lane != nil},
		{KindLaneGone, m.LaneGone != nil},
	}
	known := m.Kind == KindSnapshotEnd || m.Kind == KindGoodbye || m.Kind == KindYield
	for _, b := range bodies {
		known = known || b.kind == m.Kind
		if b.set && b.kind != m.Kind {
			return fmt.Errorf("body %s does not belong to kind %q", b.kind, m.Kind)
		}
		if !b.set && b.kind == m.Kind && m.Kind != KindAck {
			return errors.New("body is missing")
		}
	}
	if !known {
		return fmt.Errorf("unknown kind %q", m.Kind)
	}
	switch m.Kind {
	case KindAck, KindDial, KindDialResult, KindSign, KindSignResult:
		if m.Seq == 0 {
			return errors.New("seq is missing")
		}
	default:
	}
	return nil
}

func (h *Hello) validate() error {
	if h.Version < 1 {
		return fmt.Errorf("version %d", h.Version)
	}
	return errors.Join(field.Text("release", h.Release), field.Text("node", h.Node), field.Text("note", h.Note))
}

func (w *Workload) validate() error {
	if err := field.Name("uid", w.UID); err != nil {
		return err
	}
	if err := field.Name("name", w.Name); err != nil {
		return err
	}
	if err := errors.Join(field.Text("namespace", w.Namespace),
		field.Text("serviceAccount", w.ServiceAccount)); err != nil {
		return err
	}
	for k, v := range w.Labels {
		if err := errors.Join(field.Name("label", k), field.Text("label "+k, v)); err != nil {
			return err
		}
	}
	for k, v := range w.Annotations {
		if err := errors.Join(field.Name("annotation", k), field.Text("annotation "+k, v)); err != nil {
			return err
		}
	}
	if w.NetnsCookie == 0 {
		return errors.New("netnsCookie is missing")
	}
	if n := len(w.Addresses); n == 0 || n > maxAddresses {
		return fmt.Errorf("%d addresses", n)
	}
	for _, a := range w.Addresses {
		if err := field.Addr("address", a); err != nil {
			return err
		}
	}
	if slices.Contains(w.Ports, 0) {
		return errors.New("port 0")
	}
	return validateListeners(w.Listeners)
}

func validateListeners(listeners []Listener) error {
	if n := len(listeners); n == 0 || n > maxListeners {
		return fmt.Errorf("%d listeners", n)
	}
	seen := make(map[Listener]bool, maxListeners)
	for _, l := range listeners {
		if l.Direction != Outbound && l.Direction != Inbound {
			return fmt.Errorf("listener of direction %q", l.Direction)
		}
		if l.Family != 4 && l.Family != 6 {
			return fmt.Errorf("listener of family %d", l.Family)
		}
		if seen[l] {
			return fmt.Errorf("two %s listeners of family %d", l.Direction, l.Family)
		}
		seen[l] = true
	}
	return nil
}

func (a *Ack) validate() error {
	if a == nil {
		return nil
	}
	return field.Text("error", a.Error)
}

func (d *Dial) validate() error {
	if err := field.Name("workload", d.Workload); err != nil {
		return err
	}
	if err := field.AddrPort("destination", d.Destination); err != nil {
		return err
	}
	if d.Client == (netip.AddrPort{}) {
		return nil
	}
	return field.AddrPort("client", d.Client)
}

func (r *DialResult) validate() error {
	switch r.Code {
	case "":
		if r.Error != "" {
			return errors.New("error without a code")
		}
	case DialDenied, DialUnknown, DialExhausted, DialFailed:
	default:
		return fmt.Errorf("unknown code %q", r.Code)
	}
	return field.Text("error", r.Error)
}

func (d *Destinations) validate() error {
	if d.Generation == 0 {
		return errors.New("generation is missing")
	}
	switch d.Unknown {
	case UnknownPass, UnknownCount, UnknownRefuse:
	default:
		return fmt.Errorf("unknown is %q, not count, refuse or absent", d.Unknown)
	}
	if d.Unknown != UnknownPass && !d.Last {
		return errors.New("unknown before the last part")
	}
	if d.Table == 0 && len(d.Workloads) > 0 {
		return errors.New("workloads of table 0, which is that of all others")
	}
	for _, uid := range d.Workloads {
		if err := field.Name("workload", uid); err != nil {
			return err
		}
	}
	for _, e := range d.Entries {
		if err := field.Prefix(e.Prefix); err != nil {
			return err
		}
	}
	return nil
}
