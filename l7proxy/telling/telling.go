// Package telling tells telemetry of a request what its rules ask: the values that are
// labels, and the conditions of the access log. Without such rules nobody asks it. It
// counts nothing and writes nothing.
package telling

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"

	"github.com/dubway/dubway/l7proxy/condition"
	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
	"github.com/dubway/dubway/l7proxy/workload"
)

// maxEdges bounds what one connection remembers; beyond it, it starts afresh.
const maxEdges = 256

// Recorder prepares calls, and says which label value stands for a value of a request
// of a consumer: one of few.
type Recorder interface {
	Prepare(c *rpc.Call) rpc.Observer
	Value(from *rpc.Peer, of, value string) string
}

// Teller remembers, for one connection, the edges of requests that telemetry tells apart.
// Its owner locks. The zero value is ready.
type Teller struct {
	edges      map[edgeKey]*upstream.Edge
	asked      map[*report.Rules]*asked
	neighbours map[netip.AddrPort]neighbour
	changes    uint64
	look       []byte
	values     []string
}

// edgeKey is an edge as it was planned, and what was read of a request.
type edgeKey struct {
	edge *upstream.Edge
	look string
}

// asked is what rules ask, as conditions on headers.
type asked struct{ labels, conditions []snapshot.HeaderMatch }

// Rules returns what a listener says of requests; a nil one says nothing.
func Rules(l *snapshot.Listener) *report.Rules {
	if l == nil {
		return nil
	}
	return l.Report
}

// Edge returns the edge for the records of a request that was led to e, whose rules ask
// something.
func (t *Teller) Edge(e *upstream.Edge, req *rpc.Request, recorder Recorder) *upstream.Edge {
	values := condition.ValuesOf(req)
	told := *e.SameNode.Told
	t.look, t.values = t.look[:0], t.values[:0]
	t.read(&told.Source, &values, e.Remote.Source, recorder)
	n := len(t.values)
	t.read(&told.Destination, &values, e.Remote.Source, recorder)
	if known := t.edges[edgeKey{e, string(t.look)}]; known != nil {
		return known
	}
	if t.edges == nil || len(t.edges) >= maxEdges {
		t.edges = make(map[edgeKey]*upstream.Edge)
	}
	all := append([]string(nil), t.values...)
	told.Source.Values, told.Destination.Values = all[:n:n], all[n:]
	made := *e
	made.Remote, made.SameNode = tell(e.Remote, &told, recorder), tell(e.SameNode, &told, recorder)
	t.edges[edgeKey{e, string(t.look)}] = &made
	return &made
}

// tell is a call of which telemetry is told more.
func tell(c *rpc.Call, told *report.Told, recorder Recorder) *rpc.Call {
	made, more := *c, *told
	made.Told = &more
	made.Observer = recorder.Prepare(&made)
	return &made
}

// read adds what the rules of a side ask to look and values.
func (t *Teller) read(side *report.Side, values *condition.Values, from *rpc.Peer, recorder Recorder) {
	if !side.Rules.Asks() {
		return
	}
	a := t.asks(side.Rules)
	for i := range a.labels {
		raw := ""
		if text, ok := values.Value(&a.labels[i]); ok {
			raw = whole(&text)
		}
		value := recorder.Value(from, side.Rules.Labels[i], raw)
		t.look = append(append(t.look, value...), 0xff) // which no UTF-8 has
		t.values = append(t.values, value)
	}
	for i := range a.conditions {
		if values.Matches(&a.conditions[i]) {
			side.Holds |= 1 << i
		}
	}
	t.look = binary.LittleEndian.AppendUint64(t.look, side.Holds)
}

// whole is a value in one piece; only a path has several.
func whole(t *condition.Text) string {
	if len(t[0]) == t.Len() {
		return t[0]
	}
	return t.String()
}

func (t *Teller) asks(r *report.Rules) *asked {
	if known := t.asked[r]; known != nil {
		return known
	}
	if t.asked == nil || len(t.asked) >= maxEdges {
		t.asked = make(map[*report.Rules]*asked)
	}
	made := new(asked)
	for _, name := range r.Labels {
		made.labels = append(made.labels, header(name))
	}
	for i := range r.Conditions {
		made.conditions = append(made.conditions, match(&r.Conditions[i]))
	}
	t.asked[r] = made
	return made
}

// header asks for an attribute by the name that a header has to routes.
func header(name string) snapshot.HeaderMatch {
	h := snapshot.HeaderMatch{Name: name, Kind: snapshot.HeaderPresent, Want: true}
	if text, ok := strings.CutPrefix(name, "arguments["); ok {
		if index, err := strconv.Atoi(strings.TrimSuffix(text, "]")); err == nil {
			h.Source, h.Name, h.Index = snapshot.SourceArgument, "", index
		}
	}
	return h
}

func match(c *report.Condition) snapshot.HeaderMatch {
	h := header(c.Attribute)
	h.Value, h.Regex = c.Text, c.Regex
	switch c.Operator {
	case report.Equals:
		h.Kind = snapshot.HeaderExact
	case report.Starts:
		h.Kind = snapshot.HeaderPrefix
	case report.Ends:
		h.Kind = snapshot.HeaderSuffix
	case report.Contains:
		h.Kind = snapshot.HeaderContains
	case report.Matches:
		h.Kind = snapshot.HeaderRegex
	case report.Present:
	}
	return h
}

// Views tells what workloads see, and which of them is at an address of this node.
type Views struct {
	Of        func(workload string) func() *snapshot.Snapshot
	Workloads *workload.Registry
}

// neighbour is a provider of this node, whose own rules hold for its side of a call.
type neighbour struct {
	views Views
	rules *report.Rules
}

// At returns what a provider of this node says of opaque connections and of requests to an
// address of its own; nil: it is elsewhere, or says nothing.
func (v Views) At(at netip.AddrPort) *snapshot.Listener {
	w := v.Workloads.ByAddress(at.Addr())
	if w == nil {
		return nil
	}
	in := v.Of(w.UID)().Inbound(at, w.Whole())
	if in == nil {
		return nil
	}
	return in.Listener(true, false)
}

// Provider returns the rules of a provider of this node for requests, and remembers that
// they are in use.
func (t *Teller) Provider(views Views, at netip.AddrPort) *report.Rules {
	if views.Workloads.ByAddress(at.Addr()) == nil {
		return nil
	}
	rules := Rules(views.At(at))
	if t.neighbours == nil {
		t.neighbours = make(map[netip.AddrPort]neighbour)
	}
	t.neighbours[at] = neighbour{views, rules}
	return rules
}

// Outdated tells whether the rules of a provider are others now. Changes counts the
// changes of what anybody sees; nil: there are none.
func (t *Teller) Outdated(changes func() uint64) bool {
	if changes == nil {
		return false
	}
	now := changes()
	if now == t.changes {
		return false
	}
	t.changes = now
	for at, n := range t.neighbours {
		if Rules(n.views.At(at)) != n.rules {
			return true
		}
	}
	return false
}

// Forget drops what was remembered.
func (t *Teller) Forget() { t.edges, t.asked, t.neighbours = nil, nil, nil }
