package verdicts_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/dubway/dubway/l7proxy/filter/global"
	"github.com/dubway/dubway/l7proxy/filter/limit"
	"github.com/dubway/dubway/l7proxy/filter/rbac"
	"github.com/dubway/dubway/l7proxy/filter/tally"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/telemetry/verdicts"
)

func TestCollector(t *testing.T) {
	var c tally.Tally
	rules := &snapshot.Rules{Prefix: "tcp.", Policies: []snapshot.RBACPolicy{{Name: "ns[shop]-policy[x]-rule[0]"}}}
	c.Rules("rbac", rules, false, rbac.Decision{Policy: 0}).Add()
	c.Rules("rbac", rules, false, rbac.Decision{Policy: rbac.None, Denied: true}).Add()
	c.Limit(&snapshot.Limit{Name: "limit", Prefix: "x"}, limit.Limited).Add()
	c.Fault(&snapshot.Fault{Name: "fault"}, tally.Delayed).Add()
	c.Global(&snapshot.Global{Name: "global", Prefix: "g"}, global.Limited).Add()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(verdicts.Collector(c.All)); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range []string{
		`dubway_rbac_total{action="allow",filter="rbac",mode="enforced",policy="ns[shop]-policy[x]-rule[0]",result="allowed",stat_prefix="tcp."} 1`,
		`dubway_rbac_total{action="allow",filter="rbac",mode="enforced",policy="",result="denied",stat_prefix="tcp."} 1`,
		`dubway_local_rate_limit_total{filter="limit",result="limited",stat_prefix="x"} 1`,
		`dubway_global_rate_limit_total{filter="global",result="over_limit",stat_prefix="g"} 1`,
		`dubway_global_rate_limit_total{filter="global",result="failure_mode_allowed",stat_prefix="g"} 0`,
		`dubway_faults_total{filter="fault",result="delayed"} 1`,
		`dubway_faults_total{filter="fault",result="overflowed"} 0`,
		`dubway_local_rate_limit_total{filter="limit",result="ok",stat_prefix="x"} 0`,
	} {
		if !strings.Contains(text.String(), line+"\n") {
			t.Errorf("no line %s in\n%s", line, text.String())
		}
	}
}
