package trace

import (
	"encoding/hex"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/tracing"
)

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	spanID  = "b7ad6b7169203331"
)

// attached is a request's attachments.
type attached map[string]string

func (a attached) Lookup(name string) (string, bool, error) {
	if _, broken := a["broken"]; broken {
		return "", false, errors.New("the body ends early")
	}
	v, ok := a[name]
	return v, ok, nil
}

func (a attached) Spelling(name string, nth int) (string, bool, error) {
	for k, v := range a {
		if strings.EqualFold(k, name) {
			if nth--; nth < 0 {
				return v, true, nil
			}
		}
	}
	return "", false, nil
}

// TestRead: what of a request's context is understood, and what is not there although
// something is.
func TestRead(t *testing.T) {
	const w3c = "00-" + traceID + "-" + spanID
	for _, tt := range []struct {
		name string
		a    attached
		want string // trace, span and decision; "" for nothing
	}{
		{"nothing", attached{}, ""},
		{"sampled", attached{"traceparent": w3c + "-01"}, traceID + " " + spanID + " sampled"},
		{"not sampled", attached{"traceparent": w3c + "-00"}, traceID + " " + spanID + " not"},
		{"other flags", attached{"traceparent": w3c + "-fe"}, traceID + " " + spanID + " not"},
		{"a later version", attached{"traceparent": "cc" + w3c[2:] + "-01-what"}, traceID + " " + spanID + " sampled"},
		{"version ff", attached{"traceparent": "ff" + w3c[2:] + "-01"}, ""},
		{"version 00 with more", attached{"traceparent": w3c + "-01-what"}, ""},
		{"a later version with more of the flags", attached{"traceparent": "cc" + w3c[2:] + "-01x"}, ""},
		{"upper case", attached{"traceparent": strings.ToUpper(w3c) + "-01"}, ""},
		{"no hexadecimals", attached{"traceparent": "00-" + strings.Repeat("g", 32) + "-" + spanID + "-01"}, ""},
		{"short", attached{"traceparent": w3c}, ""},
		{"empty", attached{"traceparent": ""}, ""},
		{"no trace", attached{"traceparent": "00-" + strings.Repeat("0", 32) + "-" + spanID + "-01"}, ""},
		{"no span", attached{"traceparent": "00-" + traceID + "-" + strings.Repeat("0", 16) + "-01"}, ""},
		{"b3", attached{"b3": traceID + "-" + spanID + "-1"}, traceID + " " + spanID + " sampled"},
		{"b3 with a parent", attached{"b3": traceID + "-" + spanID + "-0-" + spanID}, traceID + " " + spanID + " not"},
		{"b3, debug", attached{"b3": traceID[16:] + "-" + spanID + "-d"}, strings.Repeat("0", 16) + traceID[16:] + " " + spanID + " sampled"},
		{"b3, undecided", attached{"b3": traceID + "-" + spanID}, traceID + " " + spanID},
		{"b3, a decision alone", attached{"b3": "0"}, "not"},
		{"b3, malformed", attached{"b3": traceID + "-1"}, ""},
		{"X-B3", attached{"X-B3-TraceId": traceID, "X-B3-SpanId": spanID, "X-B3-Sampled": "1"}, traceID + " " + spanID + " sampled"},
		{"x-b3", attached{"x-b3-traceid": traceID, "x-b3-spanid": spanID, "x-b3-sampled": "false"}, traceID + " " + spanID + " not"},
		{"X-B3, debug", attached{"X-B3-TraceId": traceID, "X-B3-SpanId": spanID, "X-B3-Flags": "1"}, traceID + " " + spanID + " sampled"},
		{"X-B3, undecided", attached{"X-B3-TraceId": traceID, "X-B3-SpanId": spanID}, traceID + " " + spanID},
		{"X-B3, a decision alone", attached{"X-B3-Sampled": "0"}, "not"},
		{"X-B3 without a span", attached{"X-B3-TraceId": traceID, "X-B3-Sampled": "1"}, ""},
		{"both", attached{"traceparent": w3c + "-00", "b3": "1"}, traceID + " " + spanID + " not"},
		{"a malformed one, and b3", attached{"traceparent": "00", "b3": "1"}, "sampled"},
	} {
		o, err := read(tt.a)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		var said []string
		if o.valid() {
			said = append(said, hex.EncodeToString(o.trace[:]), hex.EncodeToString(o.span[:]))
		}
		if o.decided {
			said = append(said, map[bool]string{true: "sampled", false: "not"}[o.sampled])
		}
		if got := strings.Join(said, " "); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestBegin: who is sampled, and what the provider is told: each form of the context that
// the consumer used, besides traceparent.
func TestBegin(t *testing.T) {
	on := func(share uint32) *tracing.Tracing {
		return &tracing.Tracing{Collector: tracing.Collector{Cluster: "c"}, Share: share}
	}
	const all = snapshot.Million
	const yes, no = "00-" + traceID + "-" + spanID + "-01", "00-" + traceID + "-" + spanID + "-00"
	var tracer Tracer
	for _, tt := range []struct {
		name     string
		config   *tracing.Tracing
		a        attached
		provider bool
		want     map[string]string // nil: not sampled. T and S are the trace and the span
	}{
		{"no tracing", nil, attached{}, false, nil},
		{"nobody to tell", &tracing.Tracing{Share: all}, attached{"traceparent": yes}, false, nil},
		{"none at random", on(0), attached{}, false, nil},
		{"all at random", on(all), attached{}, false, map[string]string{"traceparent": "00-T-S-01"}},
		{"none, but it is sampled", on(0), attached{"traceparent": yes}, false, map[string]string{"traceparent": "00-" + traceID + "-S-01"}},
		{"all, but it is not", on(all), attached{"traceparent": no}, false, nil},
		{"some, at the provider", on(all - 1), attached{}, true, nil},
		{"all, at the provider", on(all), attached{}, true, map[string]string{"traceparent": "00-T-S-01"}},
		{"sampled, at the provider", on(0), attached{"traceparent": yes}, true, map[string]string{"traceparent": "00-" + traceID + "-S-01"}},
		{"b3", on(0), attached{"b3": traceID + "-" + spanID + "-1"}, false, map[string]string{
			"traceparent": "00-" + traceID + "-S-01", "b3": traceID + "-S-1",
		}},
		{"undecided", on(all), attached{"X-B3-TraceId": traceID, "X-B3-SpanId": spanID}, false, map[string]string{
			"traceparent": "00-" + traceID + "-S-01", "X-B3-TraceId": traceID, "X-B3-SpanId": "S", "X-B3-Sampled": "1", "X-B3-ParentSpanId": spanID,
		}},
		{"undecided, and none at random", on(0), attached{"X-B3-TraceId": traceID, "X-B3-SpanId": spanID}, false, nil},
		{"a decision alone", on(0), attached{"x-b3-sampled": "1"}, false, map[string]string{
			"traceparent": "00-T-S-01", "x-b3-traceid": "T", "x-b3-spanid": "S", "x-b3-sampled": "1",
		}},
		{"broken", on(all), attached{"broken": ""}, false, nil},
		{"silent", &tracing.Tracing{Collector: tracing.Collector{Cluster: "c"}, Share: all, Silent: true}, attached{}, false, map[string]string{}},
	} {
		got := tracer.Begin(tt.config, tt.a, tt.provider, 1<<63)
		if (got == nil) != (tt.want == nil) {
			t.Errorf("%s: span %v", tt.name, got)
		}
		if got == nil {
			continue
		}
		s := got.(*span)
		for k, v := range tt.want {
			tt.want[k] = strings.NewReplacer("T", hex.EncodeToString(s.trace[:]), "S", hex.EncodeToString(s.id[:])).Replace(v)
		}
		if context := maps.Collect(s.Context()); !maps.Equal(context, tt.want) {
			t.Errorf("%s: the provider is told %v, want %v", tt.name, context, tt.want)
		}
	}
}

// TestShare: about as many as are asked for are sampled at random.
func TestShare(t *testing.T) {
	var tracer Tracer
	config := &tracing.Tracing{Collector: tracing.Collector{Cluster: "c"}, Share: 125_000}
	n := 0
	for i := range uint64(1000) {
		if tracer.Begin(config, attached{}, false, i*(^uint64(0)/1000)) != nil {
			n++
		}
	}
	if n < 124 || n > 126 {
		t.Errorf("%d of 1000 are sampled, want 125", n)
	}
}

// TestUnsampledAllocatesNothing, with a context and without one.
func TestUnsampledAllocatesNothing(t *testing.T) {
	var tracer Tracer
	config := &tracing.Tracing{Collector: tracing.Collector{Cluster: "c"}}
	for _, a := range []attached{{"group": "g"}, {"traceparent": "00-" + traceID + "-" + spanID + "-00"}, {"X-B3-Sampled": "0"}} {
		if n := testing.AllocsPerRun(100, func() {
			if tracer.Begin(config, a, false, 5) != nil {
				t.Error("it is sampled")
			}
		}); n != 0 {
			t.Errorf("%v: %v allocations", a, n)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("00-"+traceID+"-"+spanID+"-01", traceID+"-"+spanID+"-1")
	f.Add("", "0")
	f.Fuzz(func(t *testing.T, parent, single string) {
		o, _ := read(attached{"traceparent": parent, "b3": single, "X-B3-TraceId": parent, "X-B3-SpanId": single})
		if o.trace != [16]byte{} && !o.valid() {
			t.Errorf("a trace without a span of %q, %q", parent, single)
		}
	})
}
