package plan

import (
	"testing"

	"github.com/dubway/dubway/l7proxy/codec/edit"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// TestAnswers: what becomes of answers is worked out once for an edge, and with it costs
// its requests nothing.
func TestAnswers(t *testing.T) {
	r := newRig(t, vip, pod1)
	a := &r.snap.Routes["r"].VirtualHosts[0].Routes[0].Action
	a.Answers = []snapshot.Edit{{Name: "by", How: snapshot.EditAdd, Value: []snapshot.Piece{{Kind: snapshot.PieceUpstream}}}}
	h, body := attached("find", "")
	frame := append(make([]byte, 16), body...)
	e, why := r.Edge(h, body)
	if why != rpc.WhyNone || e.Answers == nil || !e.Answers.Reads {
		t.Fatalf("%+v, %q", e.Answers, why)
	}
	got := r.Answers(e, frame)
	if got != e.Answers || len(got.List) != 1 || got.List[0].How != edit.Add || got.List[0].Parts[0].Text != pod1.String() {
		t.Errorf("%+v", got)
	}
	if n := testing.AllocsPerRun(100, func() {
		again, _ := r.Edge(h, body)
		if r.Answers(again, frame) != got {
			t.Error("it is worked out anew")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	a.Answers = nil
	if other, _ := r.Edge(attached("drop", "")); r.Answers(other, frame) != nil {
		t.Error("of a route without edits")
	}
}
