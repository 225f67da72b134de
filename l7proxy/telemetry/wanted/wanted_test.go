package wanted

import (
	"testing"

	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// TestCode: no end of a request is without a meaning to conditions that are written for
// HTTP, and none of the mesh's own refusals looks like success.
func TestCode(t *testing.T) {
	for why := range rpc.Why(rpc.Whys) {
		code := Code(70, why)
		isNone := why == rpc.WhyDownstreamGone || why == rpc.WhyIdleTimeout
		if isNone != (code == 0) || !isNone && (code < 400 || code > 599) {
			t.Errorf("%q is %d", why.String(), code)
		}
	}
	for status, want := range map[uint8]int64{
		0: 0, 20: 200, 25: 400, 30: 504, 31: 504, 35: 503, 40: 400, 50: 500, 60: 404, 70: 500, 80: 500, 90: 500, 100: 503, 7: 500,
	} {
		if got := Code(status, rpc.WhyNone); got != want {
			t.Errorf("status %d is %d, want %d", status, got, want)
		}
	}
}

// TestEitherSide: a call that is counted for both sides has a line if one of them wants it;
// a side that it is not counted for has no say.
func TestEitherSide(t *testing.T) {
	all := &report.Rules{Log: &report.Log{Any: []report.Expression{{Kind: report.Always}}}}
	none := &report.Rules{Log: new(report.Log)}
	second := &report.Rules{Log: &report.Log{Any: []report.Expression{{Kind: report.Holds, Min: 1}}}}
	const both = rpc.ReporterSource | rpc.ReporterDestination
	tests := []struct {
		name     string
		reporter rpc.Reporter
		told     *report.Told
		says     bool
		wants    bool
	}{
		{"nothing is said", both, nil, false, false},
		{"of metrics alone", both, report.Tell(&report.Rules{Metrics: new(report.Metrics)}, nil), false, false},
		{"one wants it", both, report.Tell(none, all), true, true},
		{"none wants it", both, report.Tell(none, none), true, false},
		{"the other side's", rpc.ReporterSource, report.Tell(none, all), true, false},
		{"nobody's here", rpc.ReporterSource, report.Tell(nil, all), false, false},
		{"its condition holds", both, &report.Told{Source: report.Side{Rules: second, Holds: 2}}, true, true},
		{"another holds", both, &report.Told{Source: report.Side{Rules: second, Holds: 1}}, true, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := &rpc.Call{Reporter: test.reporter, Told: test.told}
			if got := Says(c); got != test.says {
				t.Fatalf("says %v, want %v", got, test.says)
			}
			if test.says && Request(c, &rpc.Record{Status: 20}) != test.wants {
				t.Errorf("wants %v, want %v", !test.wants, test.wants)
			}
		})
	}
}
