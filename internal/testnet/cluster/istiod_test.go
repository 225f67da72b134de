//go:build e2e

package cluster_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dubway/dubway/deploy/image/archive"
	"github.com/dubway/dubway/internal/testnet/cluster"
	"github.com/dubway/dubway/internal/testnet/istiod"
)

// Where istiod is: its image, its namespace, and the address of its Service, since the cluster
// has no DNS.
const (
	istiodImage   = "dubway.test/istiod:1"
	istioSystem   = "istio-system"
	istiodAddress = "198.19.7.15"
)

// viaIstiod is the address of a Service whose port is called dubbo: without the mesh the kernel
// knows it too.
const viaIstiod = "198.19.7.11:20880"

// tlsMode is how the agent tells neighbours that a pod takes the mesh's TLS.
const tlsMode = "security.istio.io/tlsMode=istio"

// TestIstiod: Dubway below a real istiod in a pod, with real consumers and providers of both
// languages, and a real Prometheus that scrapes it. What consumers, providers,
// proxies and Prometheus count is the same.
func TestIstiod(t *testing.T) {
	w := begin(t, system, istioSystem, monitoring)
	w.step("images imported", func() {
		w.peers()
		w.imported()
		w.java()
	})
	w.step("istiod runs", w.istiod)
	w.step("chart installed", func() {
		w.install("xds.mode=istiod", "istiod.address="+istiodAddress+":15012")
	})
	w.step("Prometheus runs", w.prometheus)
	for _, part := range []struct {
		name string
		test func(*world)
	}{
		{"routes", (*world).istiodRoutes},
		{"java", (*world).javaInMesh},
		{"prometheus", (*world).scraped},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(begin(t)) })
	}
}

// namespace makes one of the mesh, for a part of a test.
func (w *world) namespace(name string) {
	w.Helper()
	w.apply("{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {dubway.io/mesh: enabled}}}", name)
	for _, n := range w.Nodes {
		w.must(os.RemoveAll(n.Path(filepath.Join(counts, name))))
	}
	w.Cleanup(func() { w.delete("namespace", name) })
	w.Cleanup(func() {
		if w.Failed() {
			var logs strings.Builder
			w.Logs(&logs, name, system, istioSystem, monitoring)
			w.Log(logs.String())
		}
	})
	w.must(w.Account(w.ctx, name))
}

// istiodRoutes: an Istio resource says where calls go, while they are made.
func (w *world) istiodRoutes() {
	consumers := []string{"consumer-n1", "consumer-n2", "registry"}
	w.namespace("shop")
	w.step("providers and consumers enrolled", func() {
		for _, n := range w.Nodes {
			w.provider(n.Name)
		}
		w.apply(`
{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: provider},
spec: {clusterIP: 198.19.7.11, selector: {serves: "true"}, ports: [{name: dubbo, port: 20880}]}}`)
		w.enrolled("shop", "serves=true,"+tlsMode, 2)
		w.generated()
		for _, n := range w.Nodes {
			w.caller("consumer-"+n.Name, n.Name, viaIstiod)
		}
		// It has its provider's own address, as of a registry.
		w.caller("registry", "n1", w.pods("shop", "app=provider-n2", cluster.Ready(1))[0].Addresses[0]+":20880")
		w.enrolled("shop", "", 5)
	})
	both := func() {
		for _, consumer := range consumers[:2] {
			for _, n := range w.Nodes {
				w.answeredBy("shop", consumer, n.Name, 10)
			}
		}
	}
	w.step("both nodes' providers answer", both)
	w.step("VirtualService followed", func() {
		w.apply(subsets)
		w.apply(virtualService, "provider-n1", "provider-n1")
		w.follow("n2", consumers[:2]...)
	})
	w.step("VirtualService changed, to choose by the method", func() {
		w.apply(virtualService, "provider-n2", "provider-n1")
		w.follow("n1", consumers[:2]...)
	})
	w.step("VirtualService deleted", func() {
		w.kubectl("delete", "virtualservice", "provider", "--namespace=shop")
		both()
	})
	w.step("only mutual TLS accepted", func() {
		w.apply("{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {namespace: shop, name: strict}, spec: {mtls: {mode: STRICT}}}")
		w.calling(consumers...)
		both()
	})
	w.step("calls counted", func() { w.everywhere("shop", consumers...) })
	if n, all := w.count("shop", "registry", "answered-n2"), w.count("shop", "registry", "answered"); n != all {
		w.Errorf("of %d calls to one provider %d were answered by it", all, n)
	}
	w.encrypted("shop")
}

// caller runs a consumer that makes each call once.
func (w *world) caller(name, node, target string) {
	w.Helper()
	w.run(peer{image: peerImage, namespace: "shop", name: name, node: node, args: []string{"load", "target=" + target, "pause=20", "timeout=20000"}})
}

// generated applies the headless Services by which istiod knows providers that a registry has:
// docs/adopt.md.
func (w *world) generated() {
	w.Helper()
	operator, err := w.Operator(w.checkout(), filepath.Join(w.checkout(), "bin/dubwayctl"))
	w.must(err)
	said, err := operator.Shell(w.ctx, "kubectl dubway generate services --from-pods serves=true -n shop")
	w.must(err)
	w.must(w.Apply(w.ctx, said))
}

// follow waits until a provider is called by none of the consumers.
func (w *world) follow(unlike string, consumers ...string) {
	w.Helper()
	for _, consumer := range consumers {
		w.follows(consumer, unlike)
	}
}

// answeredBy waits until a provider has answered a consumer so many times more.
func (w *world) answeredBy(namespace, consumer, provider string, calls int) {
	w.Helper()
	name := "answered-" + provider
	until := w.count(namespace, consumer, name) + calls
	w.until(fmt.Sprintf("%d calls of %s to %s", calls, consumer, provider), func() bool { return w.count(namespace, consumer, name) >= until })
}

// everywhere stops consumers: each call that was answered was served once, recorded once at
// either side, on whichever nodes, and Prometheus has as many. Who called from another node, its
// provider's proxy does not know by name.
func (w *world) everywhere(namespace string, consumers ...string) {
	w.Helper()
	answered := w.tally(namespace, consumers...)
	for _, side := range []string{
		fmt.Sprintf(`reporter="source",source_workload_namespace=%q`, namespace),
		fmt.Sprintf(`reporter="destination",destination_workload_namespace=%q`, namespace),
	} {
		if n := w.sum(append(strings.Split(side, ","), "istio_requests_total{")...); n != answered {
			w.Errorf("%d calls were answered, and the proxies recorded %d with %s", answered, n, side)
			continue
		}
		w.scrapes("sum(istio_requests_total{"+side+"})", answered)
	}
	w.Logf("%d calls", answered)
}

// encrypted fails the test if a call of a namespace went to another node in plaintext.
func (w *world) encrypted(namespace string) {
	w.Helper()
	tls := w.sum("istio_requests_total{", `connection_security_policy="mutual_tls"`, `destination_workload_namespace="`+namespace+`"`)
	plain := w.sum("istio_requests_total{", `connection_security_policy="none"`, `destination_workload_namespace="`+namespace+`"`)
	if tls == 0 || plain > 0 {
		w.Errorf("the proxies recorded %d calls by mutual TLS, and %d in plaintext between nodes", tls, plain)
	}
}

// istiod runs one on n1, as package istiod says, for the account of the agents. Its kinds stay
// in the cluster: nobody else asks for them.
func (w *world) istiod() {
	w.Helper()
	kinds, err := istiod.Kinds()
	w.must(err)
	defined := make(chan error, 1)
	go func() {
		_, err := w.Kubectl(w.ctx, "apply", "--server-side", "--force-conflicts", "--filename="+strings.Join(kinds, ","))
		defined <- err
	}()
	w.program(w.Nodes[0], istiodImage, map[string]string{"istiod": istiod.Binary()})
	w.must(<-defined)
	run := istiod.Discovery{MeshConfig: "/etc/istio/config/mesh", Agents: system + "/" + release}
	var env strings.Builder
	for _, variable := range run.Env() {
		name, value, _ := strings.Cut(variable, "=")
		fmt.Fprintf(&env, "{name: %s, value: %q}, ", name, value)
	}
	args, err := json.Marshal(run.Args())
	w.must(err)
	mesh, err := json.Marshal(istiod.MeshConfig)
	w.must(err)
	w.Cleanup(func() { w.delete("clusterrolebinding", istioSystem) })
	w.apply(istiodPod, istioSystem, istiodImage, args, env.String(), mesh, istiodAddress)
	w.pods(istioSystem, "app=istiod", cluster.Ready(1))
}

// program imports an image on one node, of a program by its name and what it needs.
func (w *world) program(n *cluster.Node, name string, files map[string]string) {
	w.Helper()
	_, base, _ := strings.Cut(strings.TrimSuffix(name, ":1"), "/")
	made := w.archive(&archive.Image{Name: name, Entrypoint: []string{"/" + base}}, files)
	w.must(n.ImportImage(w.ctx, made))
}

// istiodPod is that pod. Its account may what an administrator may: Istio's chart gives it less.
const istiodPod = `
apiVersion: v1
kind: ServiceAccount
metadata: {namespace: %[1]s, name: istiod}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, namespace: %[1]s, name: istiod}]
---
apiVersion: v1
kind: ConfigMap
metadata: {namespace: %[1]s, name: istio}
data: {mesh: %[5]s}
---
apiVersion: v1
kind: Service
metadata: {namespace: %[1]s, name: istiod}
spec: {clusterIP: %[6]s, selector: {app: istiod}, ports: [{name: grpc-xds, port: 15010}, {name: https-dns, port: 15012}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: %[1]s, name: istiod, labels: {app: istiod}}
spec:
  nodeName: n1
  serviceAccountName: istiod
  terminationGracePeriodSeconds: 1
  containers:
    - name: discovery
      image: %[2]s
      imagePullPolicy: Never
      args: %[3]s
      env: [%[4]s]
      readinessProbe: {httpGet: {port: 8080, path: /ready}, periodSeconds: 1}
      volumeMounts: [{name: mesh, mountPath: /etc/istio/config}]
  volumes: [{name: mesh, configMap: {name: istio}}]
`

// subsets are the providers, by their names.
const subsets = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {namespace: shop, name: provider}
spec:
  host: provider.shop.svc.cluster.local
  subsets: [{name: provider-n1, labels: {app: provider-n1}}, {name: provider-n2, labels: {app: provider-n2}}]
`

// virtualService is where the consumers' one method goes, and where any other does.
const virtualService = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {namespace: shop, name: provider}
spec:
  hosts: [provider.shop.svc.cluster.local]
  http:
  - match: [{headers: {method: {exact: who}}}]
    route: [{destination: {host: provider.shop.svc.cluster.local, subset: %s}}]
  - route: [{destination: {host: provider.shop.svc.cluster.local, subset: %s}}]
`
