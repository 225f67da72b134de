package trace

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot/tracing"
)

// span is a sampled call. Its provider sees id as its parent; where one proxy is both
// sides of the call, that is the server's span, in which no other has a part, and the
// client's gets an id when it is known that there are two.
type span struct {
	tracer  *Tracer
	config  *tracing.Tracing
	trace   [16]byte
	parent  [8]byte // zero: it is the trace's first
	id      [8]byte
	state   string
	carried carried
	values  []string // of the config's tags
	events  []event
}

var _ rpc.Span = (*span)(nil)

// event is something that happened meanwhile.
type event struct {
	at   time.Time
	name string
	peer netip.AddrPort
	why  string
}

// begin makes the span of a request whose attachments can be read.
func begin(t *Tracer, config *tracing.Tracing, o *origin, a rpc.Attachments) *span {
	s := &span{tracer: t, config: config, id: newID(), carried: forms(a), values: make([]string, len(config.Tags))}
	if o.valid() {
		s.trace, s.parent = o.trace, o.span
		state, _, _ := a.Lookup(tracestate)
		s.state = strings.Clone(state)
	} else {
		binary.BigEndian.PutUint64(s.trace[:8], rand.Uint64())
		binary.BigEndian.PutUint64(s.trace[8:], rand.Uint64()|1) // never zero
	}
	for i, tag := range config.Tags {
		s.values[i] = tag.Value
		if tag.Attribute == "" || named(tag.Attribute) {
			continue
		}
		if value, ok, _ := a.Lookup(tag.Attribute); ok {
			s.values[i] = strings.Clone(value)
		}
	}
	return s
}

func newID() (id [8]byte) {
	binary.BigEndian.PutUint64(id[:], rand.Uint64()|1)
	return id
}

// named tells whether an attribute is one of the call's, which its Record knows.
func named(attribute string) bool {
	return attribute == "interface" || attribute == "method" || attribute == "version"
}

// Again is part of rpc.Span.
func (s *span) Again(call *rpc.Call, why rpc.Why) {
	e := event{at: time.Now(), name: "retry", why: why.String()}
	if call != nil {
		e.peer = call.Endpoint
	}
	if why == rpc.WhyNone {
		e.why = "the provider's answer"
	}
	s.events = append(s.events, e)
}

// ended is one side of a call that has ended, as the collector is told of it.
type ended struct {
	span     *span
	config   *tracing.Tracing // of that side
	server   bool
	id       [8]byte
	parent   [8]byte
	isRemote bool // the parent is somebody else's
	record   rpc.Record
	tags     []string // values of config's tags
}

// End is part of rpc.Span.
func (s *span) End(r *rpc.Record) {
	record := *r
	record.Exception, record.Capture, record.Span = strings.Clone(r.Exception), nil, nil
	one := ended{
		span: s, config: s.config, id: s.id, parent: s.parent, isRemote: true, record: record, tags: s.values,
		server: r.Call.Reporter == rpc.ReporterDestination,
	}
	if r.Call.Reporter != rpc.ReporterSource|rpc.ReporterDestination {
		s.tracer.put(&one)
		return
	}
	config, tags := s.provider(r.Call)
	if !config.On() {
		s.tracer.put(&one)
		return
	}
	far := one
	far.server, far.config, far.tags = true, config, tags
	one.id = newID()
	far.parent, far.isRemote = one.id, false
	s.tracer.put(&one)
	s.tracer.put(&far)
}

// provider is the tracing of the other side of a call whose both sides are here: what the
// provider's own listener says, and where it has none what the consumer's does.
func (s *span) provider(call *rpc.Call) (*tracing.Tracing, []string) {
	own, known := s.tracer.opts.Provider(call.Endpoint)
	if !known || own == s.config {
		return s.config, s.values
	}
	if !own.On() {
		return nil, nil
	}
	values := make([]string, len(own.Tags))
	for i, tag := range own.Tags {
		values[i] = tag.Value
		same := func(t tracing.Tag) bool { return tag.Attribute != "" && t.Attribute == tag.Attribute }
		if at := slices.IndexFunc(s.config.Tags, same); at >= 0 && s.values[at] != s.config.Tags[at].Value {
			values[i] = s.values[at] // what was read of the request
		}
	}
	return own, values
}
