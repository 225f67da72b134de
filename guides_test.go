package dubway_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	refusalClass = regexp.MustCompile(`Class = "([a-z_]+)"`)
	metricName   = regexp.MustCompile("\x60[a-z0-9(]*((?:dubway|istio)_[a-z0-9_]+)")
	wordsOfClass = regexp.MustCompile(`(?:^|_)[a-z]`)
)

// TestGuidesAreWhole: the guides name metrics that there are, and have a row for each reason for which
// a pod is not enrolled, in every language.
func TestGuidesAreWhole(t *testing.T) {
	metrics, refusals := mustRead(t, "docs/metrics.md"), mustRead(t, "agent/enroll/refusal.go")
	classes := refusalClass.FindAllStringSubmatch(refusals, -1)
	if len(classes) < 10 {
		t.Fatalf("%d reasons for which a pod is not enrolled: this test looks at nothing", len(classes))
	}
	for _, dir := range []string{"docs/", "docs/zh/"} {
		rows := mustRead(t, dir+"troubleshoot.md")
		for _, class := range classes {
			reason := wordsOfClass.ReplaceAllStringFunc(class[1], func(s string) string { return strings.ToUpper(s[len(s)-1:]) })
			if !strings.Contains(rows, "\n| \x60"+reason+"\x60 |") {
				t.Errorf("%stroubleshoot.md has no row for pods that are not enrolled for the reason %s", dir, reason)
			}
		}
		for _, name := range []string{"adopt.md", "install.md", "observe.md", "troubleshoot.md"} {
			if missing := unknownMetrics(mustRead(t, dir+name), metrics); len(missing) > 0 {
				t.Errorf("%s%s names %q, which docs/metrics.md does not have", dir, name, missing)
			}
		}
	}
}

func TestUnknownMetrics(t *testing.T) {
	const metrics = "| `dubway_agent_up` | gauge |\n| `istio_requests_total` | counter |\n"
	const text = "`dubway_agent_up == 0`, `increase(istio_requests_total[5m])`, `dubway_agent`, `rate(dubway_none_total[5m])`, dubway_plain"
	if got := unknownMetrics(text, metrics); !slices.Equal(got, []string{"dubway_agent", "dubway_none_total"}) {
		t.Errorf("unknown are %q", got)
	}
}

// unknownMetrics are those that a text names and the table of metrics has not.
func unknownMetrics(text, metrics string) (missing []string) {
	for _, match := range metricName.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(metrics, "| \x60"+match[1]+"\x60 |") {
			missing = append(missing, match[1])
		}
	}
	return missing
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
