//go:build e2e

package istiod_test

import (
	"fmt"
	"strings"

	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// telemetry: a service whose listeners come with logs, traces and metrics from the start is
// routed as any other; its calls are counted with the tags, and logged by the filter, that
// Telemetry says.
func (w *world) telemetry() {
	const vip, told = "198.19.0.51", `destination_service_name="provider-told"`
	defer w.with("telemetry")()
	w.settled("by method", at(vip, "sayHello"), map[string]int{"v2": 20})
	w.settled("else", at(vip, "buy"), map[string]int{"v1": 20})

	sum := func(parts ...string) int { return w.Sum("istio_requests_total{", append(parts, told)...) }
	const source, destination, app = `reporter="source"`, `reporter="destination"`, `source_app=`
	removed, sizes := sum(source, app), w.Sum("istio_request_bytes_count{", told)
	w.settled("with a tag", at(vip, "buy", "tier", "gold"), map[string]int{"v1": 10})
	w.Eventually("a tag is added", func() bool { return sum(source, `tier="gold"`) >= 20 })
	w.Eventually("at the provider nothing is", func() bool { return sum(destination, app) >= 100 })
	if n := sum(destination, "tier="); n > 0 {
		w.T.Errorf("%d of the provider's calls have the consumer's tag", n)
	}
	if n := sum(source, app); n > removed {
		w.T.Errorf("%d calls have the removed tag, %d had", n, removed)
	}
	if n := w.Sum("istio_request_bytes_count{", told); n > sizes {
		w.T.Errorf("%d sizes are counted of a metric that is switched off, %d were", n, sizes)
	}

	w.settled("an error", at(vip, "errorv1"), map[string]int{"status 70": 2})
	lines := func(method string) int {
		return meshtest.CountLines(w.proxy.Output(), fmt.Sprintf(`"dubbo_method":%q`, method), "provider-told")
	}
	w.Eventually("errors are logged", func() bool { return lines("errorv1") >= 4 })
	if n := lines("buy"); n > 0 {
		w.T.Errorf("%d calls without an error are logged", n)
	}
}

// aeraki: of a listener with Aeraki's filter the table is asked for at Aeraki's own server.
// It is not there: the status says so, calls are refused and not passed by, and everything
// else goes on, a table in the filter itself among it.
func (w *world) aeraki() {
	const without, inlined = "240.241.0.8", "240.241.0.10"
	defer w.with("endpoints")()
	defer w.with("aeraki")()
	w.settled("without a table", at(without, "buy"), map[string]int{"thrown": 2})
	if r := w.calls(1, at(without, "buy")); !strings.Contains(strings.Join(r.Errors, " "), "no route") {
		w.T.Errorf("without a table: %v %q", r.By, r.Errors)
	}
	w.Eventually("the status says so", func() bool {
		s, err := w.ProxyStatus(w.Ctx)
		return err == nil && strings.Contains(strings.Join(s.Problems, "\n"), "no server of routes aeraki-xds")
	})
	w.settled("by method", at(inlined, "sayHello"), map[string]int{"v2": 20})
	w.settled("else", at(inlined, "buy"), map[string]int{"v1": 20})
	w.both(at("198.19.0.30", "buy"))
}
