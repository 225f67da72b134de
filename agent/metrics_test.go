package agent

import (
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dubway/dubway/agent/authority"
	"github.com/dubway/dubway/agent/chain"
	"github.com/dubway/dubway/agent/lanes"
	"github.com/dubway/dubway/agent/server"
	"github.com/dubway/dubway/cni/entry"
	"github.com/dubway/dubway/cni/install"
)

var (
	metricRow  = regexp.MustCompile("(?m)^\\| `(dubway_[a-z_]+)` \\| [a-z]+ \\| ([^|]*)\\|")
	metricDesc = regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)
)

// TestMetricsAreDocumented compares the agent's tables in docs/metrics.md with
// what an agent registers that has a part in the CNI chain.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, heading := range []string{"dubway-agent", "The CNI plugin's end"} {
		_, section, _ := strings.Cut(string(text), "\n## "+heading+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		for _, row := range metricRow.FindAllStringSubmatch(section, -1) {
			documented[row[1]] = sorted(strings.NewReplacer("`", "", " ", "").Replace(row[2]))
		}
	}
	chained, err := chain.New(chain.Options{NodeDir: t.TempDir(), Log: slog.New(slog.DiscardHandler), Install: install.Options{
		ConfDir: t.TempDir(), BinDir: t.TempDir(), Source: os.Args[0], Socket: "/run/dubway/cni.sock", Mode: entry.Closed,
	}})
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{
		counts: server.NewCounts(), chain: chained, lanes: new(lanes.Lanes),
		server: server.New(&server.Options{Desk: authority.NewDesk(nil, nil, nil)}),
	}
	descs := make(chan *prometheus.Desc, 100)
	for _, c := range a.collectors() {
		c.Describe(descs)
	}
	close(descs)
	registered := map[string]string{}
	for d := range descs {
		match := metricDesc.FindStringSubmatch(d.String())
		if match == nil {
			t.Fatalf("cannot read %s", d)
		}
		registered[match[1]] = sorted(match[2])
	}
	for name, labels := range registered {
		if got, ok := documented[name]; !ok || got != labels {
			t.Errorf("%s has the labels %q, docs/metrics.md says %q", name, labels, got)
		}
	}
	for name := range documented {
		if _, ok := registered[name]; !ok {
			t.Errorf("docs/metrics.md has %s, which the agent does not register", name)
		}
	}
}

func sorted(labels string) string {
	list := strings.Split(labels, ",")
	slices.Sort(list)
	return strings.Join(list, ",")
}
