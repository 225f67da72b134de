package convert

import (
	"math"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Envoy's defaults of a retry_budget.
const (
	budgetPercent = 20
	budgetLeast   = 3
)

// thresholds converts those of connections and requests. The largest number is none.
func thresholds(m *clusterv3.CircuitBreakers) (requests, connections *uint32) {
	bound := func(v *wrapperspb.UInt32Value) *uint32 {
		if v == nil || v.GetValue() == math.MaxUint32 {
			return nil
		}
		n := v.GetValue()
		return &n
	}
	for _, t := range m.GetThresholds() {
		if t.GetPriority() == corev3.RoutingPriority_DEFAULT {
			return bound(t.GetMaxRequests()), bound(t.GetMaxConnections())
		}
	}
	return nil, nil
}

// retries converts what circuit breakers say of retries. Requests have the default
// priority.
func retries(m *clusterv3.CircuitBreakers) snapshot.RetryBudget {
	for _, t := range m.GetThresholds() {
		if t.GetPriority() != corev3.RoutingPriority_DEFAULT {
			continue
		}
		if b := t.GetRetryBudget(); b != nil {
			out := snapshot.RetryBudget{Percent: budgetPercent, Least: budgetLeast}
			if v := b.GetBudgetPercent(); v != nil {
				out.Percent = uint32(math.Round(v.GetValue()))
			}
			if v := b.GetMinRetryConcurrency(); v != nil {
				out.Least = v.GetValue()
			}
			return out
		}
		if v := t.GetMaxRetries(); v != nil {
			return snapshot.RetryBudget{Max: v.GetValue(), None: v.GetValue() == 0}
		}
	}
	return snapshot.RetryBudget{}
}
