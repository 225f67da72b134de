package router

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// unknown explains a connect to what no listener is for, as the kernel decides about it: the
// agent steers what listeners are for and nothing else.
func (e *explanation) unknown(dst netip.AddrPort) {
	const none = "no listener covers the destination"
	policy := e.snapshot.Unknown.String()
	switch why := e.spared(dst.Addr()); {
	case e.snapshot.Generation == 0 && len(e.snapshot.Clusters) == 0:
		e.step("configuration", "missing", "nothing was ever told of what the workload sees")
		e.end(OutcomePass, "there is no configuration yet")
	case e.snapshot.Unknown != snapshot.UnknownRefuse:
		e.end(OutcomePass, none)
	case why != "":
		e.step("outboundTrafficPolicy "+policy, "passes", why)
		e.end(OutcomePass, none+", and "+why)
	case e.question.Unknown == handoff.UnknownRefuse:
		e.step("outboundTrafficPolicy "+policy, "refuses",
			"connect() fails at once, with ECONNREFUSED (EPERM before Linux 6.0); dubwayctl unknown counts it")
		e.end(OutcomeUnreachable, none+" (REGISTRY_ONLY)")
	case e.question.Unknown == handoff.UnknownCount:
		e.step("outboundTrafficPolicy "+policy, "would refuse",
			"the proxy runs with --unknown-destinations count: connect() goes on, and dubwayctl unknown lists it")
		e.end(OutcomePass, none+"; it is counted as what REGISTRY_ONLY would refuse")
	default:
		e.step("outboundTrafficPolicy "+policy, "is left out",
			"the proxy runs with --unknown-destinations pass: connect() goes on, and nothing counts it")
		e.end(OutcomePass, none+"; REGISTRY_ONLY is not in force on this node")
	}
}

// spared says why connects to an address pass whatever the policy; "" if they do not.
func (e *explanation) spared(to netip.Addr) string {
	switch {
	case to.IsLoopback():
		return "what a pod says to loopback is its own"
	case to.IsLinkLocalUnicast():
		return "what a pod says on its link is its own"
	case slices.Contains(e.question.Own, to):
		return fmt.Sprintf("%s is the pod's own address", to)
	}
	return ""
}
