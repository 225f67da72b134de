package scenario

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// rendered are the documents of the chart as it comes.
func rendered(t *testing.T) [][]byte {
	t.Helper()
	text, err := os.ReadFile("../../../deploy/chart/testdata/files.golden.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(text, []byte("\n---\n"))
}

// helmTest is the file of xDS that the chart has for `helm test`, with a provider's address in
// place of its name.
func helmTest(t *testing.T, provider string) []byte {
	t.Helper()
	for _, document := range rendered(t) {
		var o struct{ Data map[string]string }
		if err := yaml.Unmarshal(document, &o); err != nil {
			t.Fatal(err)
		}
		if text, ok := o.Data["dubway-test.yaml"]; ok {
			return []byte(regexp.MustCompile(`dubway-test-provider\S+`).ReplaceAllString(text, provider))
		}
	}
	t.Fatal("the chart has no file for helm test")
	return nil
}

// TestHelmTest makes the call of `helm test` on the chart's own configuration: an address that
// is nowhere is answered in the mesh, and there alone.
func TestHelmTest(t *testing.T) {
	m := newMesh(t)
	provider, consumer := m.pod("provider", 20880), m.pod("consumer")
	stranger, err := m.AddPod("stranger", nil)
	m.must(err)
	ctl := filepath.Join(meshtest.Binaries, "dubwayctl")
	_, err = provider.Start(testnet.Command{Path: ctl, Args: []string{"echo", "serve", "--name", "helm-test"}})
	m.must(err)
	m.eventually("the provider listens", func() bool { return provider.Listens(20880) })
	m.must(m.PutXDS("dubway-test.yaml", helmTest(t, provider.Addresses[0].String())))
	_, proxy := m.start(provider, consumer)

	call := func(p *testnet.Pod, within string) string {
		t.Helper()
		process, err := p.Start(testnet.Command{Path: ctl, Args: []string{"echo", "call", "240.0.208.80:20880", "--within", within}})
		m.must(err)
		select {
		case <-process.Done():
		case <-time.After(2 * time.Minute):
			t.Fatalf("the call of %s does not end", p.Name)
		}
		return process.Output()
	}
	if said := call(consumer, "1m"); !strings.Contains(said, "helm-test") || !strings.Contains(said, consumer.Addresses[0].String()) {
		t.Errorf("the consumer: %q, want an answer of helm-test, which saw %s", said, consumer.Addresses[0])
	}
	if said := call(stranger, "2s"); !strings.Contains(said, "not answered within 2s") {
		t.Errorf("a pod that is not part of the mesh: %q", said)
	}
	m.Counted("istio_tcp_connections_opened_total{", 1, `reporter="source"`, `source_workload="consumer"`)
	m.eventually("the access log has it", func() bool { return strings.Contains(proxy.Output(), `"240.0.208.80:20880"`) })
}

// confined writes a program that runs the agent as the chart's container runs it: root with the
// capabilities that are added there and no other, without a way to more, in the proxy's group.
func confined(t *testing.T) string {
	t.Helper()
	var spec struct {
		Spec struct {
			Template struct {
				Spec struct {
					SecurityContext struct{ SupplementalGroups []int }
					Containers      []struct {
						Name            string
						SecurityContext struct{ Capabilities struct{ Add []string } }
					}
				}
			}
		}
	}
	for _, document := range rendered(t) {
		if bytes.Contains(document, []byte("\nkind: DaemonSet\n")) {
			if err := yaml.Unmarshal(document, &spec); err != nil {
				t.Fatal(err)
			}
		}
	}
	pod := spec.Spec.Template.Spec
	if len(pod.Containers) == 0 || len(pod.SecurityContext.SupplementalGroups) != 1 {
		t.Fatalf("the chart's pod is %+v", pod)
	}
	bounding := "-all,+" + strings.ToLower(strings.Join(pod.Containers[0].SecurityContext.Capabilities.Add, ",+"))
	script := fmt.Sprintf("#!/bin/sh\nexec setpriv --no-new-privs --groups %d --inh-caps=-all --bounding-set=%s %s \"$@\"\n",
		pod.SecurityContext.SupplementalGroups[0], bounding, filepath.Join(meshtest.Binaries, "dubway-agent"))
	path := filepath.Join(t.TempDir(), "dubway-agent")
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestChartPrivileges: what the chart gives the agent is enough for all that it does.
func TestChartPrivileges(t *testing.T) {
	node, err := testnet.New(testnet.Options{Tag: "sc", Number: 1, Agent: confined(t), Proxy: filepath.Join(meshtest.Binaries, "dubway-proxy")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(func() {
		cancel()
		if err := node.Close(); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	m := &mesh{Mesh: &meshtest.Mesh{Node: node, T: t, Ctx: ctx}, t: t, ctx: ctx}
	provider, consumer := m.pod("provider", 20880), m.pod("consumer")
	m.provider(provider, "v1")
	m.must(m.PutXDS("dubway-test.yaml", helmTest(t, provider.Addresses[0].String())))
	agent, _ := m.start(provider, consumer)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", agent.Pid()))
	m.must(err)
	if !regexp.MustCompile(`(?m)^NoNewPrivs:\s+1$`).Match(status) || !regexp.MustCompile(`(?m)^CapEff:\s+000000c000281001$`).Match(status) {
		t.Errorf("the agent is not confined:\n%s", status)
	}
	if r := m.calls(consumer, callsOf{Target: "240.0.208.80:20880", N: 10, Timeout: 30 * time.Second}); r.Answers["v1"] != 10 {
		t.Errorf("calls: %v %q", r.Answers, r.Errors)
	}
	m.Counted("dubway_agent_up", 1) // the proxy's user reads it by the agent's socket
}
