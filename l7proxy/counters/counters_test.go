package counters_test

import (
	"fmt"
	"testing"

	"github.com/dubway/dubway/l7proxy/cluster/checkup"
	"github.com/dubway/dubway/l7proxy/cluster/outlier"
	"github.com/dubway/dubway/l7proxy/counters"
	"github.com/dubway/dubway/l7proxy/listener"
	"github.com/dubway/dubway/l7proxy/mirror"
	"github.com/dubway/dubway/l7proxy/mtls"
	"github.com/dubway/dubway/l7proxy/overload"
	"github.com/dubway/dubway/l7proxy/quota"
	"github.com/dubway/dubway/l7proxy/telemetry/inverted"
	"github.com/dubway/dubway/l7proxy/telemetry/stale"
	"github.com/dubway/dubway/l7proxy/trace"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// TestNew: no two counters are one series, those of one name are told of alike, and each
// reads its own source at every scrape.
func TestNew(t *testing.T) {
	s := counters.Sources{
		Listeners: new(listener.Stats), Upstream: new(upstream.Stats), Checks: new(checkup.Stats), Outliers: new(outlier.Stats),
		Waits: new(quota.Waits), Memory: new(overload.Monitor), TLS: new(mtls.Stats), Spans: new(trace.Stats),
		Stale: new(stale.List), Inverted: new(inverted.List), Mirror: new(mirror.Mirror),
		Connections: func() int { return 3 }, Rejections: func() uint64 { return 4 },
		Generation: func() uint64 { return 5 }, Workloads: func() int { return 6 },
	}
	list := counters.New(s)
	s.Listeners.Accepted.Add(1)
	s.Waits.Nanos.Add(2e9)
	s.Outliers.Ejections[0].Add(7)
	s.TLS.Refused[mtls.ServerSide][mtls.Plaintext].Add(8)
	s.Spans.Dropped[trace.DropRefused].Add(9)
	want := map[string]float64{
		"dubway_connections_accepted_total map[]":                                          1,
		"dubway_decode_wait_seconds_total map[]":                                           2,
		"dubway_upstream_connections map[]":                                                3,
		"dubway_xds_rejections_total map[]":                                                4,
		"dubway_snapshot_generation map[]":                                                 5,
		"dubway_proxy_workloads map[]":                                                     6,
		fmt.Sprintf("dubway_outlier_ejections_total map[detector:%s]", outlier.Kind(0)):    7,
		fmt.Sprintf("dubway_tls_refused_total map[reason:%s side:server]", mtls.Plaintext): 8,
		fmt.Sprintf("dubway_spans_dropped_total map[reason:%s]", trace.DropRefused):        9,
	}
	seen, kinds := map[string]bool{}, map[string]string{}
	for _, c := range list {
		series, kind := fmt.Sprint(c.Name, " ", c.Labels), fmt.Sprint(c.Help, c.Gauge)
		if seen[series] {
			t.Errorf("%s is there twice", series)
		}
		seen[series] = true
		if before, known := kinds[c.Name]; known && before != kind {
			t.Errorf("%s is told of as %q and as %q", c.Name, before, kind)
		}
		kinds[c.Name] = kind
		if got := c.Value(); got != want[series] {
			t.Errorf("%s is %v, want %v", series, got, want[series])
		}
	}
	for series := range want {
		if !seen[series] {
			t.Errorf("%s is not there", series)
		}
	}
}
