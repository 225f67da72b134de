package router_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/router"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// TestUnknownExplained: what becomes of a connect that no listener is for, by the policy of
// the configuration and by what the proxy makes of it.
func TestUnknownExplained(t *testing.T) {
	for _, c := range []struct {
		name    string
		policy  snapshot.Unknown
		mode    handoff.Unknown
		to      string
		fresh   bool
		outcome router.Outcome
		says    string
	}{
		{"nothing told", snapshot.UnknownPass, handoff.UnknownRefuse, "203.0.113.1:443", true, router.OutcomePass, "nothing was ever told"},
		{"ALLOW_ANY", snapshot.UnknownPass, handoff.UnknownRefuse, "203.0.113.1:443", false, router.OutcomePass, "none covers 203.0.113.1:443"},
		{"refuse", snapshot.UnknownRefuse, handoff.UnknownRefuse, "203.0.113.1:443", false, router.OutcomeUnreachable, "ECONNREFUSED"},
		{"count", snapshot.UnknownRefuse, handoff.UnknownCount, "203.0.113.1:443", false, router.OutcomePass, "--unknown-destinations count"},
		{"pass", snapshot.UnknownRefuse, handoff.UnknownPass, "203.0.113.1:443", false, router.OutcomePass, "--unknown-destinations pass"},
		{"loopback", snapshot.UnknownRefuse, handoff.UnknownRefuse, "[::1]:443", false, router.OutcomePass, "loopback"},
		{"link", snapshot.UnknownRefuse, handoff.UnknownRefuse, "169.254.1.1:443", false, router.OutcomePass, "on its link"},
		{"mapped link", snapshot.UnknownRefuse, handoff.UnknownRefuse, "[::ffff:169.254.1.1]:443", false, router.OutcomePass, "on its link"},
		{"own", snapshot.UnknownRefuse, handoff.UnknownRefuse, "10.0.0.7:443", false, router.OutcomePass, "10.0.0.7 is the pod's own"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &snapshot.Snapshot{Generation: 1, Unknown: c.policy}
			if c.fresh {
				s.Generation = 0
			}
			d := router.Explain(s.Seal(), router.Question{
				Destination: netip.MustParseAddrPort(c.to), Unknown: c.mode, Own: []netip.Addr{netip.MustParseAddr("10.0.0.7")},
			})
			var said strings.Builder
			for _, step := range d.Steps {
				said.WriteString(step.Object + " " + step.Verdict + " " + step.Why + "\n")
			}
			if d.Outcome != c.outcome || !strings.Contains(said.String(), c.says) {
				t.Errorf("outcome %s (%s), want %s and %q in\n%s", d.Outcome, d.Reason, c.outcome, c.says, said.String())
			}
		})
	}
}
