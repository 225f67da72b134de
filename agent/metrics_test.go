package agent

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dubway/dubway/agent/authority"
	"github.com/dubway/dubway/agent/lanes"
	"github.com/dubway/dubway/agent/server"
)

var (
	metricRow  = regexp.MustCompile("(?m)^\\| `(dubway_[a-z_]+)` \\| [a-z]+ \\| ([^|]*)\\|")
	metricDesc = regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)
)

// TestMetricsAreDocumented compares the agent's table in docs/metrics.md with
// what the agent registers.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## dubway-agent\n")
	section, _, _ = strings.Cut(section, "\n## ")
	documented := map[string]string{}
	for _, row := range metricRow.FindAllStringSubmatch(section, -1) {
		documented[row[1]] = sorted(strings.NewReplacer("`", "", " ", "").Replace(row[2]))
	}
	descs := make(chan *prometheus.Desc, 100)
	for _, c := range append(server.NewCounts().Collectors(), (*Agent)(nil), (*lanes.Lanes)(nil), authority.NewDesk(nil, nil, nil).Counts()) {
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
