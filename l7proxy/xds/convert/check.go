package convert

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/problems"
	"github.com/dubway/dubway/l7proxy/xds/typed"
)

// check converts the health check of a cluster. What Envoy requires, its own rules say.
func check(p *problems.List, m *clusterv3.Cluster) *snapshot.Check {
	if len(m.GetHealthChecks()) == 0 {
		return nil
	}
	if len(m.GetHealthChecks()) > 1 {
		p.Addf("health_checks[1]", "not implemented: only one check")
	}
	if m.GetType() == clusterv3.Cluster_ORIGINAL_DST {
		p.Addf("health_checks", "not with type ORIGINAL_DST, which has no endpoints to check")
	}
	h := m.GetHealthChecks()[0]
	interval := duration(h.GetInterval(), 0)
	c := &snapshot.Check{
		Timeout:       duration(h.GetTimeout(), 0),
		Interval:      interval,
		Unhealthy:     duration(h.GetUnhealthyInterval(), interval),
		HealthyEdge:   duration(h.GetHealthyEdgeInterval(), interval),
		InitialJitter: duration(h.GetInitialJitter(), 0),
		Jitter:        duration(h.GetIntervalJitter(), 0),
		JitterPercent: h.GetIntervalJitterPercent(),
		Fails:         max(h.GetUnhealthyThreshold().GetValue(), 1),
		Passes:        max(h.GetHealthyThreshold().GetValue(), 1),
	}
	c.UnhealthyEdge = duration(h.GetUnhealthyEdgeInterval(), c.Unhealthy)
	c.Probe = probe(p, "health_checks[0]", h)
	if port := h.GetAltPort(); port != nil {
		if port.GetValue() == 0 || port.GetValue() > 65535 {
			p.Addf("health_checks[0].alt_port", "%d is no port", port.GetValue())
		}
		c.Probe.Port = uint16(port.GetValue())
	}
	if c.JitterPercent > maxJitter {
		p.Addf("health_checks[0].interval_jitter_percent", "%d is more than %d", c.JitterPercent, maxJitter)
	}
	return c
}

// maxJitter bounds a jitter in percent, so that no sum overflows.
const maxJitter = 1000

func probe(p *problems.List, path string, m *corev3.HealthCheck) (out snapshot.Probe) {
	switch kind := m.GetHealthChecker().(type) {
	case *corev3.HealthCheck_TcpHealthCheck_:
		tcp := kind.TcpHealthCheck
		out.Send = payload(p, path+".tcp_health_check.send", tcp.GetSend())
		for i, r := range tcp.GetReceive() {
			out.Receive = append(out.Receive, payload(p, fmt.Sprintf("%s.tcp_health_check.receive[%d]", path, i), r))
		}
	case *corev3.HealthCheck_CustomHealthCheck_:
		dubboProbe(p, path+".custom_health_check.typed_config", kind.CustomHealthCheck, &out)
	default: // package fields, or Envoy's rules, reject it
	}
	return out
}

func payload(p *problems.List, path string, m *corev3.HealthCheck_Payload) []byte {
	if m.GetPayload() == nil {
		return nil
	}
	if _, isText := m.GetPayload().(*corev3.HealthCheck_Payload_Text); !isText {
		return m.GetBinary()
	}
	b, err := hex.DecodeString(m.GetText())
	if err != nil {
		p.Addf(path+".text", "%v", err)
	}
	return b
}

// dubboProbe reads our own health checker.
func dubboProbe(p *problems.List, path string, m *corev3.HealthCheck_CustomHealthCheck, out *snapshot.Probe) {
	_, config, inner := typed.TypeOf(m.GetTypedConfig())
	path += inner
	texts := make(map[string]string)
	for _, key := range slices.Sorted(maps.Keys(config.GetFields())) {
		text, isText := config.GetFields()[key].AsInterface().(string)
		if !isText {
			p.Addf(path+"."+key, "not a text")
		}
		texts[key] = text
	}
	switch texts["probe"] {
	case "", "heartbeat":
		out.Kind = snapshot.ProbeHeartbeat
		for _, key := range []string{"interface", "version", "group"} {
			if texts[key] != "" {
				p.Addf(path+"."+key, "only with the probe echo")
			}
		}
	case "echo":
		out.Kind, out.Interface, out.Version, out.Group = snapshot.ProbeEcho, texts["interface"], texts["version"], texts["group"]
		if out.Interface == "" {
			p.Addf(path+".interface", "required with the probe echo")
		}
	default:
		p.Addf(path+".probe", "neither heartbeat nor echo")
	}
}
