package lane_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/dubway/dubway/bpf"
	"github.com/dubway/dubway/internal/lane"
)

// renamed are members that have another name in C, by struct and name in Go.
var renamed = map[string]string{
	"Lane.Requested": "requests", "Lane.Answered": "answers", "Lane.EndsReading": "ends_reading",
	"Tally.RequestSizes": "requests", "Tally.AnswerSizes": "answers", "Tally.RequestBytes": "request_bytes",
	"Tally.AnswerBytes": "answer_bytes", "Record.RequestBytes": "request_bytes", "Record.AnswerBytes": "answer_bytes",
}

// TestLayout: internal/lane reads the memory as the programs write it, member by member.
func TestLayout(t *testing.T) {
	spec, err := bpf.LoadLane()
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]any{
		"lane": lane.Lane{}, "lane_end": lane.End{}, "lane_flight": lane.Flight{}, "lane_share": lane.Share{}, "lane_route": lane.Route{},
		"lane_tally": lane.Tally{}, "lane_record": lane.Record{}, "lane_budget": lane.Budget{}, "lane_state": lane.State{},
	} {
		var theirs *btf.Struct
		if err := spec.Types.TypeByName(name, &theirs); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		ours := reflect.TypeOf(value)
		if uintptr(theirs.Size) != ours.Size() {
			t.Errorf("%s has %d bytes, %s %d", name, theirs.Size, ours, ours.Size())
		}
		members := map[string]btf.Member{}
		for _, m := range theirs.Members {
			members[m.Name] = m
		}
		for f := range ours.Fields() {
			if f.Name == "_" {
				continue
			}
			in, ok := renamed[ours.Name()+"."+f.Name]
			if !ok {
				in = strings.ToLower(f.Name)
			}
			m, ok := members[in]
			if !ok {
				t.Errorf("%s has no member %s", name, in)
				continue
			}
			size, err := btf.Sizeof(m.Type)
			if err != nil || m.Offset.Bytes() != uint32(f.Offset) || uintptr(size) != f.Type.Size() {
				t.Errorf("%s.%s has %d bytes at %d, %s.%s %d at %d (%v)", name, in, size, m.Offset.Bytes(), ours, f.Name, f.Type.Size(), f.Offset, err)
			}
			delete(members, in)
		}
		for in := range members {
			if in != "pad" && in != "rest" {
				t.Errorf("%s.%s is nothing in %s", name, in, ours)
			}
		}
	}
}
