package convert

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// outlier fills Envoy's defaults in. Which values are possible Envoy's own rules say.
func outlier(p *problems.List, m *clusterv3.OutlierDetection) *snapshot.Outlier {
	if m == nil {
		return nil
	}
	o := &snapshot.Outlier{
		Interval:     duration(m.GetInterval(), 10*time.Second),
		BaseEjection: duration(m.GetBaseEjectionTime(), 30*time.Second),
		MaxJitter:    duration(m.GetMaxEjectionTimeJitter(), 0),
		MaxEjected:   number(m.GetMaxEjectionPercent(), 10),
		AlwaysOne:    m.GetAlwaysEjectOneHost().GetValue(),
		Split:        m.GetSplitExternalLocalOriginErrors(),
		Errors: snapshot.Consecutive{
			Threshold: number(m.GetConsecutive_5Xx(), 5),
			Enforced:  number(m.GetEnforcingConsecutive_5Xx(), 100),
		},
		Unavailable: snapshot.Consecutive{
			Threshold: number(m.GetConsecutiveGatewayFailure(), 5),
			Enforced:  number(m.GetEnforcingConsecutiveGatewayFailure(), 0),
		},
		Local: snapshot.Consecutive{
			Threshold: number(m.GetConsecutiveLocalOriginFailure(), 5),
			Enforced:  number(m.GetEnforcingConsecutiveLocalOriginFailure(), 100),
		},
		SuccessRate: snapshot.SuccessRate{
			Hosts:         number(m.GetSuccessRateMinimumHosts(), 5),
			Volume:        number(m.GetSuccessRateRequestVolume(), 100),
			Factor:        number(m.GetSuccessRateStdevFactor(), 1900),
			Enforced:      number(m.GetEnforcingSuccessRate(), 100),
			EnforcedLocal: number(m.GetEnforcingLocalOriginSuccessRate(), 100),
		},
		FailurePercentage: snapshot.FailurePercentage{
			Hosts:         number(m.GetFailurePercentageMinimumHosts(), 5),
			Volume:        number(m.GetFailurePercentageRequestVolume(), 50),
			Threshold:     number(m.GetFailurePercentageThreshold(), 85),
			Enforced:      number(m.GetEnforcingFailurePercentage(), 0),
			EnforcedLocal: number(m.GetEnforcingFailurePercentageLocalOrigin(), 0),
		},
	}
	if keep := m.GetSuccessfulActiveHealthCheckUnejectHost(); keep != nil {
		o.KeepOnCheck = !keep.GetValue()
	}
	o.MaxEjection = duration(m.GetMaxEjectionTime(), max(300*time.Second, o.BaseEjection))
	if o.MaxEjection < o.BaseEjection {
		p.Addf("outlier_detection.max_ejection_time", "less than base_ejection_time, which is %s", o.BaseEjection)
	}
	return o
}
