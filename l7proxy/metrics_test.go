package l7proxy

import (
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/dubway/dubway/l7proxy/filter/global"
	"github.com/dubway/dubway/l7proxy/filter/limit"
	"github.com/dubway/dubway/l7proxy/filter/rbac"
	"github.com/dubway/dubway/l7proxy/filter/tally"
	"github.com/dubway/dubway/l7proxy/identity"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

var code = regexp.MustCompile("`([a-z_]+)`")

// documented returns the metrics of the table below a heading of
// docs/metrics.md: "type labels...", by name.
func documented(t *testing.T, heading string) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for section := range strings.SplitSeq("\n"+string(text), "\n#") {
		name, body, _ := strings.Cut(section, "\n")
		sections[strings.TrimLeft(name, "# ")] = body
	}
	metrics := map[string]string{}
	for line := range strings.Lines(sections[heading]) {
		cells := strings.Split(line, " | ")
		if len(cells) < 3 || !strings.HasPrefix(line, "| `") {
			continue
		}
		labels := codes(cells[2])
		if set := strings.TrimSpace(cells[2]); strings.HasSuffix(set, " labels") {
			for row := range strings.Lines(sections[strings.ToUpper(set[:1])+set[1:]]) {
				if first, _, ok := strings.Cut(strings.TrimPrefix(row, "| "), " | "); ok {
					labels = append(labels, codes(first)...)
				}
			}
		}
		slices.Sort(labels)
		metrics[codes(cells[0])[0]] = strings.TrimSpace(cells[1]) + " " + strings.Join(labels, ",")
	}
	return metrics
}

func codes(cell string) (words []string) {
	for _, match := range code.FindAllStringSubmatch(cell, -1) {
		words = append(words, match[1])
	}
	return words
}

// TestMetricsAreDocumented compares docs/metrics.md with what a proxy exposes
// after one request and one connection.
func TestMetricsAreDocumented(t *testing.T) {
	p, err := New(Options{
		StateDir: t.TempDir(), XDSDir: t.TempDir(), AccessLog: io.Discard, Applications: true,
		Logger: slog.New(slog.DiscardHandler), MaxFrame: 1 << 20, MaxConnections: 1, MaxTotal: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.pool.Close()
	p.identities.Put("uid", identity.Account{Namespace: "shop", Name: "consumer"})
	defer p.identities.Close()
	call := &rpc.Call{Protocol: rpc.ProtocolDubbo, Reporter: rpc.ReporterSource, Interface: "I", Method: "m", Application: "a"}
	p.recorder.Prepare(call).Observe(&rpc.Record{Call: call, Result: rpc.ResultException, Exception: "E", Status: 20, Serialization: 2})
	p.env.Policies.Tally.Rules("f", &snapshot.Rules{}, false, rbac.Decision{Policy: rbac.None})
	p.env.Policies.Tally.Global(&snapshot.Global{Name: "f"}, global.OK)
	p.env.Policies.Tally.Limit(&snapshot.Limit{}, limit.OK)
	p.env.Policies.Tally.Fault(&snapshot.Fault{}, tally.Delayed)
	p.recorder.Connection(&rpc.Connection{Call: call})
	p.recorder.Connection(&rpc.Connection{Call: call, Closed: true})

	answer := httptest.NewRecorder()
	p.metricsHandler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	exposed := map[string]string{}
	for name, family := range families {
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		labels := map[string]bool{}
		for _, m := range family.GetMetric() {
			for _, pair := range m.GetLabel() {
				labels[pair.GetName()] = true
			}
		}
		exposed[name] = strings.ToLower(family.GetType().String()) + " " + strings.Join(slices.Sorted(maps.Keys(labels)), ",")
	}
	if len(exposed) < 20 {
		t.Fatalf("%d metrics are exposed: this test looks at nothing", len(exposed))
	}
	want := documented(t, "dubway-proxy")
	for name, is := range exposed {
		if want[name] != is {
			t.Errorf("%s is %q, docs/metrics.md says %q", name, is, want[name])
		}
	}
	for name := range want {
		if exposed[name] == "" {
			t.Errorf("docs/metrics.md has %s, which the proxy does not expose", name)
		}
	}
}
