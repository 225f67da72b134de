package scenario

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/catest"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// authority is a certificate authority beside the agent, and how the agent is told of it.
func (m *mesh) authority() (ca *catest.CA, args []string) {
	m.t.Helper()
	ca = catest.New(m.t, true)
	at := m.System().Addr(15012).String()
	l, err := m.System().Listen(at)
	m.must(err)
	ca.Serve(l)
	return ca, []string{"--ca-address", at, "--ca-root-file", ca.RootFile, "--ca-token-file", ca.TokenFile}
}

// identities are those that the proxy has, by account; nil while it does not answer.
func (m *mesh) identities() map[string]admin.Identity {
	s, err := m.ProxyStatus(m.ctx)
	if err != nil {
		return nil
	}
	all := make(map[string]admin.Identity)
	for _, one := range s.Identities {
		all[one.ServiceAccount] = one
	}
	return all
}

// proven tells whether accounts have certificates, and nothing is wrong with them.
func (m *mesh) proven(accounts ...string) bool {
	all := m.identities()
	return !slices.ContainsFunc(accounts, func(a string) bool { return all[a].Expires == nil || all[a].Error != "" })
}

// TestIdentities: agent and proxy as they are in production get a certificate for each
// account that has pods, keep it while the authority or the agent is away, and forget it
// with the pods.
func TestIdentities(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.put(routed{addresses: []string{vip4}, routes: split(map[string]int{"v1": 1, "v2": 1}), clusters: both(v1, v2)})
	ca, args := m.authority()
	agent, err := m.StartAgent(m.ctx, args...)
	m.must(err)
	_, err = m.StartProxy(m.ctx)
	m.must(err)
	m.must(m.WaitEnrolled(m.ctx, consumer, v1, v2))
	m.eventually("certificates", func() bool { return m.proven("consumer", "provider-1", "provider-2") })

	id := "spiffe://cluster.local/ns/" + testnet.Namespace + "/sa/consumer"
	one := m.identities()["consumer"]
	if left := time.Until(*one.Expires); one.ID != id || one.Pods != 1 || left < 23*time.Hour || left > 24*time.Hour {
		t.Errorf("%+v", one)
	}
	if n := m.Sum("dubway_certificate_expires_timestamp_seconds{", `service_account="consumer"`); n != int(one.Expires.Unix()) {
		t.Errorf("the metric says %d, the status %s", n, one.Expires)
	}
	m.counted(`dubway_certificate_missing`, 0)
	m.counted(`dubway_signatures_total{`, 3, `result="ok"`)
	out, err := exec.CommandContext(m.ctx, filepath.Join(meshtest.Binaries, "dubwayctl"), "--state-dir", m.StateDir(), "status").Output()
	if err != nil || meshtest.CountLines(string(out), id, "ok") != 1 {
		t.Errorf("%v\n%s", err, out)
	}

	ca.Set(catest.How{Refuse: codes.Unauthenticated})
	late := m.pod("late")
	m.must(m.WaitEnrolled(m.ctx, late))
	m.eventually("the refusal is told", func() bool {
		s, err := m.ProxyStatus(m.ctx)
		return err == nil && slices.ContainsFunc(s.Problems, func(p string) bool {
			return strings.HasPrefix(p, "no certificate of "+testnet.Namespace+"/late: ") && strings.Contains(p, "CA_TRUSTED_NODE_ACCOUNTS")
		})
	})
	if !m.proven("consumer", "provider-1", "provider-2") {
		t.Errorf("the others': %+v", m.identities())
	}
	ca.Set(catest.How{})
	m.eventually("it is asked for again", func() bool { return m.proven("late") })

	asked := len(ca.Asked())
	m.must(agent.Signal(syscall.SIGTERM))
	<-agent.Done()
	_, err = m.StartAgent(m.ctx, args...)
	m.must(err)
	m.must(m.WaitEnrolled(m.ctx, consumer, v1, v2, late))
	m.eventually("the proxy is back", func() bool { s, err := m.ProxyStatus(m.ctx); return err == nil && s.AgentConnected })
	if got := m.identities()["consumer"]; got.Expires == nil || !got.Expires.Equal(*one.Expires) || len(ca.Asked()) != asked {
		t.Errorf("after the agent's restart: %+v, asked %d times instead of %d", got, len(ca.Asked()), asked)
	}
	m.must(consumer.Withdraw())
	m.eventually("it is forgotten", func() bool {
		all := m.identities()
		_, held := all["consumer"]
		return len(all) == 3 && !held
	})
}

// TestControlPlaneBelieves: the control plane is asked with the certificate of the pod
// whose view it is.
func TestControlPlaneBelieves(t *testing.T) {
	m := newMesh(t)
	m.pod("consumer")
	ca, args := m.authority()
	_, err := m.StartAgent(m.ctx, args...)
	m.must(err)
	_, err = m.StartUnprivileged(testnet.Command{
		Name: "proxy", Path: filepath.Join(meshtest.Binaries, "dubway-proxy"), Args: []string{
			"--state-dir", m.StateDir(), "--xds-server", m.System().Addr(15012).String(), "--xds-tls",
		},
	})
	m.must(err)
	want := "spiffe://cluster.local/ns/" + testnet.Namespace + "/sa/consumer " +
		"/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
	m.eventually("a stream", func() bool { return len(ca.Streams()) > 0 })
	if got := ca.Streams(); got[0] != want {
		t.Errorf("asked as %q, want %q", got, want)
	}
	m.eventually("the status says how", func() bool { return m.identities()["consumer"].ControlPlane == "certificate" })
}
