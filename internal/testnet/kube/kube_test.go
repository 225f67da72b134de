//go:build e2e

package kube

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// TestKube is one cluster, through which it goes in order.
func TestKube(t *testing.T) {
	w := begin(t)
	consumer := w.run(made{namespace: "shop", name: "consumer", spec: "serviceAccountName: consumer,"})
	provider := w.run(made{
		namespace: "shop", name: "provider", ports: "[{containerPort: 20880}]",
		listens: []string{"[::]:20880", "0.0.0.0:7070", "127.0.0.1:9999"},
	})
	asked := w.run(made{namespace: "plain", name: "asked", labels: "{dubway.io/mesh: enabled}"})
	declined := w.run(made{namespace: "shop", name: "declined", labels: "{dubway.io/mesh: disabled}"})
	stranger := w.run(made{namespace: "plain", name: "stranger"})
	system := w.run(made{namespace: "kube-system", name: "system", labels: "{dubway.io/mesh: enabled}"})
	sidecar := w.run(made{namespace: "shop", name: "sidecar", spec: "initContainers: [{name: istio-proxy, image: p, restartPolicy: Always}],"})
	w.start()
	proxy, err := w.StartProxy(w.Ctx)
	w.Must(err)
	t.Run("labels decide", func(t *testing.T) {
		for _, p := range []*pod{consumer, provider, asked} {
			w.enrolled(p)
		}
		for _, p := range []*pod{declined, stranger, system} {
			w.absent(p)
		}
		if s := w.workload(sidecar); s == nil || s.Enrolled || !strings.Contains(s.Reason, "Istio sidecar") {
			t.Errorf("the pod with a sidecar: %+v", s)
		}
		s, err := w.AgentStatus(w.Ctx)
		w.Must(err)
		if !s.Source.Synced || s.Source.Kind != "kubernetes" {
			t.Errorf("status: %+v", s.Source)
		}
		w.Must(exec.Command(filepath.Join(meshtest.Binaries, "dubway-agent"), "ready", "--state-dir", w.StateDir()).Run())
	})
	t.Run("ports are declared and heard", func(*testing.T) {
		w.Eventually("the undeclared port is taken over", func() bool {
			s := w.workload(provider)
			return s != nil && slices.Equal(s.Ports, []uint16{7070, 20880})
		})
	})
	t.Run("it is reported", func(t *testing.T) {
		w.Eventually("conditions", func() bool {
			return w.condition("shop", "provider") == "True Enrolled: its calls go through the mesh" &&
				strings.HasPrefix(w.condition("shop", "sidecar"), "False Excluded: the pod has an Istio sidecar")
		})
		if c := w.condition("plain", "stranger") + w.condition("kube-system", "system"); c != "" {
			t.Errorf("a pod that nobody asked for says %q", c)
		}
		w.Eventually("an event", func() bool { return strings.Contains(w.events("shop"), `"reason":"NotEnrolled"`) })
	})
	t.Run("TLS", func(t *testing.T) { w.tls(t, consumer) })
	t.Run("the agent restarts", func(t *testing.T) {
		before := w.enrolled(provider).NetnsCookie
		w.Must(w.agent.Kill())
		w.start()
		w.Must(proxy.WaitFor(w.Ctx, "the agent", func() bool { s, err := w.ProxyStatus(w.Ctx); return err == nil && s.AgentConnected }))
		if after := w.enrolled(provider).NetnsCookie; after != before {
			t.Errorf("netns cookie %d, before %d", after, before)
		}
	})
	t.Run("the API server is away", func(t *testing.T) { w.away(t, consumer, provider) })
	t.Run("a finished pod owns no address", func(t *testing.T) {
		job := w.create(made{namespace: "shop", name: "job"})
		next := w.run(made{namespace: "shop", name: "next"})
		job.Pod = next.Pod // for its name only: the address of both is the same
		w.Must(w.server.API.Status(w.Ctx, "{apiVersion: v1, kind: Pod, metadata: {name: job, namespace: shop}, status: {phase: Succeeded, podIP: "+
			next.Addresses[0].String()+", podIPs: [{ip: "+next.Addresses[0].String()+"}]}}"))
		s := w.enrolled(next)
		if !slices.Contains(s.Addresses, next.Addresses[0].String()) {
			t.Errorf("addresses: %v", s.Addresses)
		}
		w.absent(job)
	})
	t.Run("a deleted pod stays while it runs", func(t *testing.T) {
		w.Must(w.server.API.Delete(w.Ctx, "{apiVersion: v1, kind: Pod, metadata: {name: asked, namespace: plain}}"))
		late := w.run(made{namespace: "shop", name: "late"})
		w.enrolled(late) // which the API told of afterwards
		if s := w.workload(asked); s == nil || !s.Enrolled {
			t.Errorf("the pod that still runs: %+v", s)
		}
		w.Must(asked.process.Kill())
		w.absent(asked)
	})
	t.Run("a namespace is switched off and on", func(*testing.T) {
		w.label("namespaces", "", "shop", "null")
		w.absent(provider)
		w.Eventually("its condition is gone", func() bool { return w.condition("shop", "provider") == "" })
		w.label("namespaces", "", "shop", `"enabled"`)
		w.enrolled(provider)
		w.label("pods", "shop", "provider", `"disabled"`)
		w.absent(provider)
		w.enrolled(consumer)
	})
}

// tls: neighbours are told to encrypt when there is a policy that limits who tells them,
// and are told otherwise before the pod is withdrawn.
func (w *world) tls(t *testing.T, consumer *pod) {
	marked := func() bool {
		d := w.get("shop", "consumer").Metadata
		return d.Labels["security.istio.io/tlsMode"] == "istio" && d.Annotations["dubway.io/tls-mode"] == "set"
	}
	w.problem("no admission policy limits that; fix: install the chart's ValidatingAdmissionPolicy")
	if marked() {
		t.Error("a pod was labelled without a policy")
	}
	w.apply(w.read("policy.yaml"))
	w.Eventually("the pod is labelled", marked)
	before := w.enrolled(consumer)
	if before.Labels["security.istio.io/tlsMode"] != "istio" {
		t.Errorf("the proxy's view of labels: %v", before.Labels)
	}
	w.label("pods", "shop", "consumer", `"disabled"`)
	w.Eventually("the label is taken away", func() bool {
		d := w.get("shop", "consumer").Metadata
		return d.Labels["security.istio.io/tlsMode"] == "" && d.Annotations["dubway.io/tls-mode"] == ""
	})
	if s := w.workload(consumer); s == nil || !s.Enrolled {
		t.Error("the pod was withdrawn before neighbours could hear of it")
	}
	w.absent(consumer)
	w.label("pods", "shop", "consumer", "null")
	w.enrolled(consumer)
	w.Eventually("the pod is labelled again", marked)
}

// away: nothing changes while the API server is away, also not for an agent that is started
// meanwhile.
func (w *world) away(t *testing.T, pods ...*pod) {
	cookies := map[string]uint64{}
	for _, p := range pods {
		cookies[p.uid] = w.enrolled(p).NetnsCookie
	}
	w.server.KillAPI()
	w.problem("does not answer since")
	for range 2 {
		for _, p := range pods {
			if s := w.enrolled(p); s.NetnsCookie != cookies[p.uid] {
				t.Errorf("%s: netns cookie %d, before %d", p.Name, s.NetnsCookie, cookies[p.uid])
			}
		}
		w.Must(w.agent.Kill())
		w.start()
	}
	w.Eventually("the proxy has the agent", func() bool {
		s, err := w.ProxyStatus(w.Ctx)
		return err == nil && s.AgentConnected
	})
	w.server.StartAPI()
	w.Eventually("the agent knows all pods again", func() bool { s, err := w.AgentStatus(w.Ctx); return err == nil && s.Source.Synced })
	for _, p := range pods {
		if s := w.enrolled(p); s.NetnsCookie != cookies[p.uid] {
			t.Errorf("%s: netns cookie %d, before %d", p.Name, s.NetnsCookie, cookies[p.uid])
		}
	}
}

// events are those of a namespace, as the API has them.
func (w *world) events(namespace string) string {
	w.T.Helper()
	text, err := w.server.API.Read(w.Ctx, "/apis/events.k8s.io/v1/namespaces/"+namespace+"/events")
	w.Must(err)
	return string(text)
}
