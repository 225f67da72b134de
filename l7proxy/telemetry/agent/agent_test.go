package agent_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/dubway/dubway/l7proxy/telemetry/agent"
)

// says is an agent that answers with a text, or not.
type says struct {
	text string
	err  error
}

func (s says) Text(context.Context, string, int64) ([]byte, error) { return []byte(s.text), s.err }

// TestGather: the agent's own metrics and whether it answered are told, whatever
// it says.
func TestGather(t *testing.T) {
	tests := []struct {
		name  string
		agent says
		up    float64
		want  string // a further metric
	}{
		{"its own", says{text: "# TYPE dubway_workloads gauge\ndubway_workloads 3\n# TYPE go_threads gauge\ngo_threads 9\n"}, 1, "dubway_workloads"},
		{"nothing", says{}, 1, ""},
		{"no answer", says{err: errors.New("gone")}, 0, ""},
		{"no metrics", says{text: "<html>"}, 0, ""},
	}
	for _, test := range tests {
		families, err := agent.NewGatherer(test.agent, slog.New(slog.DiscardHandler)).Gather()
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		got := map[string]float64{}
		for _, f := range families {
			got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
		up, told := got["dubway_agent_up"]
		if !told || up != test.up {
			t.Errorf("%s: dubway_agent_up is %v (told: %v), want %v", test.name, up, told, test.up)
		}
		if _, ok := got[test.want]; test.want != "" && !ok || len(got) != len(families) || test.want == "" && len(got) > 1 || len(got) > 2 {
			t.Errorf("%s: the metrics are %v", test.name, got)
		}
	}
}
