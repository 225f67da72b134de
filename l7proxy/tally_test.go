package l7proxy

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// TestLaneIsScraped: a scrape, and whoever asks for the lanes, sees every call of the lane
// that has ended, though nobody counts in between.
func TestLaneIsScraped(t *testing.T) {
	p, err := New(Options{
		StateDir: t.TempDir(), XDSDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler),
		MaxFrame: 1 << 20, MaxConnections: 1, MaxTotal: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.pool.Close()
	defer p.identities.Close()
	ask := func(path string) string {
		answer := httptest.NewRecorder()
		p.adminHandler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		return answer.Body.String()
	}
	var list admin.LaneList
	if err := json.Unmarshal([]byte(ask(admin.PathLanes)), &list); err != nil || list.Mode != admin.LaneOff || list.Reason == "" {
		t.Errorf("without an agent lanes are %+v (%v)", list, err)
	}
	if err := p.Lanes(&handoff.Lanes{Mode: handoff.LaneObserve, Why: "asked for"}, nil); err != nil {
		t.Fatal(err)
	}
	memory := &lane.Memory{
		Sizes: lane.Sizes{Lanes: 1, Routes: 1, Series: 4, CPUs: 2}, Lanes: make([]lane.Lane, 1),
		Flights: make([]lane.Flight, lane.Flights), Routes: make([]lane.Route, 1), Tallies: make([]lane.Tally, 8),
		Counted: make([]lane.Tally, 4),
	}
	laneUser{p}.Use(memory, handoff.LaneObserve)
	call := &rpc.Call{Protocol: rpc.ProtocolDubbo, Reporter: rpc.ReporterSource, Interface: "I", Method: "m", SameNode: true}
	p.recorder.Prepare(call)
	number, ok := p.tally.Put(call, lane.Hessian2, nil)
	if !ok {
		t.Fatal("there is no room")
	}
	for i := range uint64(3) {
		one := &memory.Tallies[4+number]
		one.Durations[0]++
		one.RequestSizes[5]++
		one.AnswerSizes[5]++
		one.Nanoseconds += 1000
		one.RequestBytes += 300
		text := ask(admin.PathMetrics)
		n := "} " + string('1'+rune(i)) + "\n"
		for _, series := range []string{"istio_requests_total{", "istio_request_duration_milliseconds_count{", "istio_request_bytes_count{"} {
			if _, rest, _ := strings.Cut(text, "\n"+series); !strings.Contains(rest[:strings.IndexByte(rest, '\n')+1], n) {
				t.Errorf("after %d calls: %s", i+1, rest[:strings.IndexByte(rest, '\n')])
			}
		}
		if !strings.Contains(text, "\ndubway_lane_calls_total "+string('1'+rune(i))+"\n") {
			t.Errorf("dubway_lane_calls_total is not %d", i+1)
		}
	}
	if err := json.Unmarshal([]byte(ask(admin.PathLanes)), &list); err != nil || list.Mode != admin.LaneObserve || list.Calls != 3 {
		t.Errorf("lanes are %+v (%v)", list, err)
	}
}
