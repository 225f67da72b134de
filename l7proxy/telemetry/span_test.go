package telemetry

import (
	"iter"
	"testing"

	"github.com/dubway/dubway/l7proxy/rpc"
)

// counted is a span that counts its ends.
type counted struct{ ends []rpc.Result }

func (*counted) Context() iter.Seq2[string, string] { return nil }
func (*counted) Again(*rpc.Call, rpc.Why)           {}
func (s *counted) End(r *rpc.Record)                { s.ends = append(s.ends, r.Result) }

// TestSpansEnd with the records of their calls.
func TestSpansEnd(t *testing.T) {
	r, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	call := &rpc.Call{Protocol: rpc.ProtocolDubbo, Interface: "org.x.S", Method: "find", Reporter: rpc.ReporterSource}
	o, s := r.Prepare(call), &counted{}
	o.Observe(&rpc.Record{Call: call, Result: rpc.ResultValue, Status: 20})
	o.Observe(&rpc.Record{Call: call, Result: rpc.ResultGone, Span: s})
	if len(s.ends) != 1 || s.ends[0] != rpc.ResultGone {
		t.Errorf("the span ended %v", s.ends)
	}
}
