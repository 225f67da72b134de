package scenario

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet"
)

// enter moves this process into a cgroup.
func enter(cgroup string) error {
	return os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), fmt.Append(nil, os.Getpid()), 0o644)
}

// kubelet is a process that is called kubelet, in a cgroup: kubelet CGROUP.
func kubelet(args []string) error {
	if err := enter(args[0]); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/self/comm", []byte("kubelet"), 0o644); err != nil {
		return err
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	if _, err := fmt.Fprintln(os.Stdout, "kubelet runs"); err != nil {
		return err
	}
	<-end
	return nil
}

// knocks is what a program of the node does: calls from a cgroup.
type knocks struct {
	Cgroup string
	callsOf
}

// knock is such a program: knock TAG JSON.
func knock(args []string) error {
	var ask knocks
	if err := json.Unmarshal([]byte(args[1]), &ask); err != nil {
		return err
	}
	if err := enter(ask.Cgroup); err != nil {
		return err
	}
	calls, err := json.Marshal(&ask.callsOf)
	if err != nil {
		return err
	}
	return callAll([]string{args[0], string(calls)})
}

// plant is a node's network, in which kubelet and others run, each in a cgroup.
type plant struct {
	*mesh

	node     *testnet.Pod // the mesh knows nothing of it
	provider *testnet.Pod
}

// group makes a cgroup beside the pods'.
func (p *plant) group(name string) string {
	p.t.Helper()
	dir := filepath.Join(p.Cgroup(), name)
	p.must(os.MkdirAll(dir, 0o755))
	return dir
}

// kubelet starts a kubelet in a cgroup.
func (p *plant) kubelet(cgroup string) *testnet.Process {
	p.t.Helper()
	proc, err := p.node.StartHelper("kubelet", cgroup)
	p.must(err)
	p.must(proc.WaitText(p.ctx, "kubelet runs"))
	return proc
}

// knock calls the provider as a program of the node, and tells whether the application
// answers.
func (p *plant) knock(cgroup, target string) bool {
	p.t.Helper()
	var result callsResult
	p.launch(p.node, "knock", knocks{cgroup, callsOf{Target: target, N: 1, Timeout: 30 * time.Second}})(&result)
	return result.Answers["provider"] == 1
}

// wants knocks by each family.
func (p *plant) wants(what, cgroup string, answered bool) {
	p.t.Helper()
	for _, target := range []string{
		p.provider.Addr(20880).String(), p.provider.Addr6(20880).String(), "[::ffff:" + p.provider.Addresses[0].String() + "]:20880",
	} {
		if got := p.knock(cgroup, target); got != answered {
			p.t.Errorf("%s to %s: answered %t, want %t", what, target, got, answered)
		}
	}
}

// passing waits until the agent says that kubelet's probes pass from a cgroup.
func (p *plant) passing(cgroup string) (s admin.AgentStatus) {
	p.t.Helper()
	p.eventually("kubelet's probes pass from "+cgroup, func() bool {
		var err error
		s, err = p.AgentStatus(p.ctx)
		return err == nil && s.Kubelet != nil && s.Kubelet.Passes && s.Kubelet.Cgroup == cgroup
	})
	return s
}

// TestKubeletProbes: the provider takes mutual TLS only, and lets nobody in. Kubelet's
// probes reach it, over restarts of the agent and of kubelet; another program of the same
// node, and a pod, do not.
func TestKubeletProbes(t *testing.T) {
	p := &plant{mesh: newMesh(t)}
	var err error
	p.node, err = p.AddPod("node", nil)
	p.must(err)
	p.provider = p.pod("provider", 20880)
	p.mesh.provider(p.provider, "provider")
	p.must(p.PutXDS("strict.yaml", []byte(fmt.Sprintf(strict, testnet.Namespace+"/provider"))))
	first, others := p.group("kubelet.service"), p.group("others.service")
	running := p.kubelet(first)
	find := []string{"--kubelet-cgroup", ""}
	agent, err := p.StartAgent(p.ctx, find...)
	p.must(err)
	_, err = p.StartProxy(p.ctx)
	p.must(err)
	p.must(p.WaitEnrolled(p.ctx, p.provider))

	s := p.passing(first)
	if s.Kubelet.PID != running.Pid() || len(s.Problems) != 0 {
		t.Errorf("kubelet is %+v, want pid %d; problems %q", s.Kubelet, running.Pid(), s.Problems)
	}
	p.wants("kubelet", first, true)
	p.wants("another program of the node", others, false)
	p.wants("the node's network alone", p.node.Cgroup, false)
	p.counted("dubway_tls_refused_total{", 6, `side="server"`, `reason="plaintext"`)
	p.eventually("probes that passed are counted", func() bool {
		s, err := p.AgentStatus(p.ctx)
		return err == nil && s.Counters["lookup_probe"] == 3
	})

	p.must(agent.Kill())
	p.wants("kubelet without an agent", first, true)
	p.wants("another without an agent", others, false)
	agent, err = p.StartAgent(p.ctx, find...)
	p.must(err)
	p.passing(first)
	p.wants("kubelet with the next agent", first, true)

	p.must(running.Kill())
	second := p.group("kubelet-again.service")
	running = p.kubelet(second)
	p.passing(second)
	p.wants("kubelet after its restart", second, true)
	p.wants("who is in its old cgroup", first, false)

	// Kubelet where pods are below it: they would pass for it.
	p.must(agent.Kill())
	_, err = p.StartAgent(p.ctx, "--kubelet-cgroup", p.Cgroup())
	p.must(err)
	p.eventually("the agent says why not", func() bool {
		s, err := p.AgentStatus(p.ctx)
		return err == nil && s.Kubelet != nil && !s.Kubelet.Passes && strings.Contains(s.Kubelet.Reason, "would pass for kubelet") &&
			strings.Contains(strings.Join(s.Problems, "\n"), "kubelet's probes do not pass")
	})
	p.wants("kubelet that cannot be told from pods", second, false)
	p.must(running.Stop(30 * time.Second))
}

// strict has the provider's namespace and workload. What istiod sends for
// PeerAuthentication STRICT and an AuthorizationPolicy that denies everything.
const strict = `resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: inbound
  traffic_direction: INBOUND
  metadata: {filter_metadata: {dubway.io: {workload: %s}}}
  address: {socket_address: {address: 0.0.0.0, port_value: 15006}}
  filter_chains:
  - filter_chain_match: {destination_port: 20880, transport_protocol: tls}
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
        require_client_certificate: true
        common_tls_context:
          alpn_protocols: [istio-peer-exchange, h2, http/1.1]
          tls_certificate_sds_secret_configs: [{name: default}]
          combined_validation_context:
            default_validation_context:
              match_typed_subject_alt_names: [{san_type: URI, matcher: {prefix: "spiffe://cluster.local/"}}]
            validation_context_sds_secret_config: {name: ROOTCA}
    filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: inbound
        http_filters:
        - name: deny
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
            rules:
              action: DENY
              policies: {nobody: {permissions: [{any: true}], principals: [{any: true}]}}
        route_config:
          virtual_hosts: [{name: inbound, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: inbound|20880||}}]}]
`
