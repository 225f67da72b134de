package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestWritten: the chart's files are what is written now.
func TestWritten(t *testing.T) {
	dir := t.TempDir()
	if err := run([]string{dir}); err != nil {
		t.Fatal(err)
	}
	written, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(written) < 3 {
		t.Fatalf("%d dashboards (%v)", len(written), err)
	}
	for _, path := range written {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("../chart/dashboards", filepath.Base(path)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what is written now (%v): run make generate", filepath.Base(path), err)
		}
	}
	if there, err := filepath.Glob("../chart/dashboards/*"); err != nil || len(there) != len(written) {
		t.Errorf("the chart has %q (%v), %d were written", there, err, len(written))
	}
}

// documented are the labels of each metric of docs/metrics.md, which other tests hold against
// what the processes register. A histogram is there as its three series.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	quoted := regexp.MustCompile("`([^`]+)`")
	groups := map[string][]string{}
	metrics := map[string][]string{
		// Every Prometheus client's, of the process.
		"process_cpu_seconds_total": {}, "process_resident_memory_bytes": {},
	}
	kinds := map[string]string{}
	heading := ""
	for line := range strings.Lines(string(text)) {
		if title, found := strings.CutPrefix(line, "#"); found {
			heading = strings.ToLower(strings.TrimSpace(strings.TrimLeft(title, "#")))
		}
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		if strings.HasSuffix(heading, " labels") { // "request labels", "tcp labels"
			for _, match := range quoted.FindAllStringSubmatch(cells[1], -1) {
				groups[heading] = append(groups[heading], match[1])
			}
			continue
		}
		name := quoted.FindStringSubmatch(cells[1])[1]
		if kind := strings.TrimSpace(cells[2]); slices.Contains([]string{"counter", "gauge", "histogram"}, kind) {
			kinds[name] = kind
			metrics[name] = []string{strings.ToLower(strings.TrimSpace(cells[3]))}
		}
	}
	for name, labels := range metrics {
		if len(labels) == 1 {
			if group, ok := groups[labels[0]]; ok {
				metrics[name] = group
			} else {
				all := []string{}
				for _, match := range quoted.FindAllStringSubmatch(labels[0], -1) {
					all = append(all, match[1])
				}
				metrics[name] = all
			}
		}
		if kinds[name] == "histogram" {
			labels := metrics[name]
			delete(metrics, name)
			metrics[name+"_bucket"] = append([]string{"le"}, labels...)
			metrics[name+"_sum"], metrics[name+"_count"] = labels, labels
		}
	}
	return metrics
}

// everywhere are labels that Prometheus itself gives to every series.
var everywhere = []string{"instance", "job"}

var (
	word      = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*`)
	grouping  = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	selector  = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})?`)
	matcher   = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)\s*"[^"]*"`)
	window    = regexp.MustCompile(`\[[^\]]*\]`)
	functions = []string{"sum", "rate", "increase", "histogram_quantile", "count", "min", "time"}
	asked     = regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`)
	inLegend  = regexp.MustCompile(`{{(\w+)}}`)
)

// against returns what an expression names that no metric has.
func against(metrics map[string][]string, expr, legend string) (found []string) {
	var grouped, known []string
	for _, match := range grouping.FindAllStringSubmatch(expr, -1) {
		grouped = append(grouped, word.FindAllString(match[1], -1)...)
	}
	rest := window.ReplaceAllString(grouping.ReplaceAllString(expr, ""), "")
	plain := true // no aggregation: a line has all labels
	for _, match := range selector.FindAllStringSubmatch(rest, -1) {
		if slices.Contains(functions, match[1]) {
			plain = plain && !slices.Contains([]string{"sum", "count", "min"}, match[1])
			continue
		}
		labels, ok := metrics[match[1]]
		if !ok {
			found = append(found, "there is no metric "+match[1])
			continue
		}
		labels = append(slices.Clone(everywhere), labels...)
		for _, m := range matcher.FindAllStringSubmatch(match[2], -1) {
			if !slices.Contains(labels, m[1]) {
				found = append(found, fmt.Sprintf("%s has no label %s", match[1], m[1]))
			}
		}
		for _, label := range grouped {
			if !slices.Contains(labels, label) {
				found = append(found, fmt.Sprintf("%s has no label %s to group by", match[1], label))
			}
		}
		known = labels
	}
	for _, match := range inLegend.FindAllStringSubmatch(legend, -1) {
		if plain && !slices.Contains(known, match[1]) || !plain && !slices.Contains(grouped, match[1]) {
			found = append(found, fmt.Sprintf("the legend names %s, which no line has", match[1]))
		}
	}
	for _, pair := range []string{"()", "{}", "[]"} {
		if strings.Count(expr, pair[:1]) != strings.Count(expr, pair[1:]) {
			found = append(found, "not every "+pair+" is closed")
		}
	}
	return found
}

// TestMetrics: every metric and every label in the dashboards' files exists.
func TestMetrics(t *testing.T) {
	metrics := documented(t)
	if len(metrics) < 50 {
		t.Fatalf("docs/metrics.md has %d metrics: this test looks at nothing", len(metrics))
	}
	files, err := filepath.Glob("../chart/dashboards/*.json")
	if err != nil {
		t.Fatal(err)
	}
	queries := 0
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var document struct {
			UID    string
			Panels []struct {
				Title, Type string
				Targets     []struct{ Expr, LegendFormat string }
			}
			Templating struct {
				List []struct {
					Name, Type string
					Query      json.RawMessage
				}
			}
		}
		if err := json.Unmarshal(text, &document); err != nil {
			t.Fatal(err)
		}
		if document.UID+".json" != filepath.Base(path) {
			t.Errorf("%s has the uid %s", path, document.UID)
		}
		names := []string{"__rate_interval", "datasource"}
		for _, v := range document.Templating.List {
			names = append(names, v.Name)
			if v.Type != "query" {
				continue
			}
			var q struct{ Query string }
			if err := json.Unmarshal(v.Query, &q); err != nil {
				t.Fatal(err)
			}
			match := asked.FindStringSubmatch(q.Query)
			if match == nil || !slices.Contains(append(slices.Clone(everywhere), metrics[match[1]]...), match[2]) || metrics[match[1]] == nil {
				t.Errorf("%s, variable %s: %s", filepath.Base(path), v.Name, q.Query)
			}
		}
		for _, p := range document.Panels {
			if p.Type != "row" && len(p.Targets) == 0 {
				t.Errorf("%s, %s: it shows nothing", filepath.Base(path), p.Title)
			}
			for _, target := range p.Targets {
				queries++
				for _, said := range against(metrics, target.Expr, target.LegendFormat) {
					t.Errorf("%s, %s: %s, in %s", filepath.Base(path), p.Title, said, target.Expr)
				}
				for _, v := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(target.Expr, -1) {
					if !slices.Contains(names, v[1]) {
						t.Errorf("%s, %s: there is no variable %s", filepath.Base(path), p.Title, v[1])
					}
				}
			}
		}
	}
	if queries < 50 {
		t.Errorf("%d queries were looked at", queries)
	}
}

// TestMetricsCanFail breaks each rule once.
func TestMetricsCanFail(t *testing.T) {
	metrics := documented(t)
	for _, test := range []struct{ expr, legend, want string }{
		{`sum by (dubbo_method) (rate(istio_requests_total{reporter="source",instance=~"x"}[5m]))`, "{{dubbo_method}}", ""},
		{`histogram_quantile(0.99, sum by (le) (rate(dubway_overhead_seconds_bucket[5m])))`, "p99", ""},
		{`dubway_memory_level{instance="x"}`, "{{instance}}", ""},
		{`sum(rate(istio_request_total[5m]))`, "", "no metric istio_request_total"},
		{`sum(rate(istio_request_bytes[5m]))`, "", "no metric istio_request_bytes"},
		{`sum(rate(istio_requests_total{method="x"}[5m]))`, "", "no label method"},
		{`sum by (le) (rate(istio_requests_total[5m]))`, "", "no label le to group by"},
		{`sum by (reporter) (rate(istio_requests_total[5m]))`, "{{dubbo_method}}", "legend names dubbo_method"},
		{`dubway_memory_level`, "{{pod}}", "legend names pod"},
		{`sum(rate(istio_requests_total[5m])`, "", "not every () is closed"},
		{`summe(istio_requests_total)`, "", "no metric summe"},
	} {
		got := strings.Join(against(metrics, test.expr, test.legend), "; ")
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", test.expr, got, test.want)
		}
	}
}
