package hostile

import (
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubboload"
)

// TestDecodeWork: one pod sends requests with 64k attachments, or with hundreds of
// thousands of values in front of them, where a route asks for an attachment. It waits,
// and is not refused; the other pod works as if it were alone, and so does the first
// one where nothing is read.
func TestDecodeWork(t *testing.T) {
	m := newMesh(t)
	enemy, worker := m.pod("enemy"), m.pod("worker")
	target, server := m.pod("target", 20880), m.pod("server", 20880)
	m.configure(map[string]*testnet.Pod{plain: server, picky: target, quiet: server}) // target may end what it cannot read
	m.args = []string{"--max-decoded-values", "2000000"}
	m.start(enemy, worker, target, server)
	load := dubboload.Open{Target: quiet + ":20880", Conns: 8, Rate: 300, Size: 1024, Warmup: time.Second, Time: 8 * time.Second}
	var alone, during dubboload.Result
	m.launch(worker, "victim", load)(&alone)
	if n := m.gauge("dubway_decode_waits_total"); n != 0 {
		t.Errorf("%v waits before anything was read", n)
	}
	besieged := m.launch(enemy, "attack", siege{
		Targets: []string{picky + ":20880"}, Kinds: []string{"attachments", "many values", "many objects"},
		Waves: 1, Conns: 60, Hold: 10 * time.Second,
	})
	m.launch(worker, "victim", load)(&during)
	if want := int64(load.Rate * load.Time.Seconds()); during.Calls < want*99/100 {
		t.Errorf("%d of %d calls beside it", during.Calls, want)
	}
	m.launch(enemy, "calls", plain+":20880")(new(string))
	var r siegeResult
	besieged(&r)
	waits, waited := m.gauge("dubway_decode_waits_total"), m.gauge("dubway_decode_wait_seconds_total")
	if waits == 0 || waited == 0 {
		t.Errorf("%v waits of %v s; %+v", waits, waited, r)
	}
	m.launch(worker, "calls", quiet+":20880")(new(string))
	t.Logf("the other pod's p50 %v, %v and p99 %v, %v alone and beside it; %v waits of %.1f s", alone.P50, during.P50, alone.P99, during.P99, waits, waited)
}
