//go:build e2e

package cluster_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/dubway/dubway/internal/testnet/cluster"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// Addresses of Services in namespace shop: the guides' 10.96.0.20, and one behind which nobody is.
const (
	stock = "198.19.7.20"
	lost  = "198.19.7.21"
)

// patched is the guide's command that has istiod send routes for a port.
const patched = `kubectl -n shop patch service orders --type=json -p '[{"op":"add","path":"/spec/ports/0/appProtocol","value":"dubbo"}]'`

// fleet is a namespace before it knows of the mesh: orders, which is in a ZooKeeper and calls
// stock, and batch, which calls it too.
func (r *reader) fleet() {
	r.Helper()
	r.step("a namespace with a registry, outside of the mesh", func() {
		r.peers()
		r.java()
		for _, namespace := range []string{"shop", "infra", "monitoring"} {
			r.apply("{apiVersion: v1, kind: Namespace, metadata: {name: %s}}", namespace)
			r.must(r.Account(r.ctx, namespace))
		}
		for _, n := range r.Nodes {
			r.must(os.RemoveAll(n.Path(filepath.Join(counts, "shop"))))
		}
		r.apply(zookeeper, javaImage)
		registry := r.pods("infra", "app=zookeeper", cluster.Ready(1))[0].Addresses[0]
		r.apply(services, stock, lost)
		r.member("stock", "n2", container(peerImage, serves, "provider", "20880", "stock"))
		r.member("orders", "n1", container(javaImage, serves, "org.dubway.test.Provider", "20880", "orders", "zookeeper://"+registry+":2181"), consumes(stock))
		r.member("batch", "n2", consumes(stock))
		r.pods("shop", "", cluster.Ready(3))
		r.calling("orders-0", "batch-0")
		r.routed()
	})
}

// routed gives the mesh a configuration of the fleet in place of the example's.
func (r *reader) routed() {
	r.Helper()
	provider := netip.MustParseAddr(r.pods("shop", "app=stock", cluster.Ready(1))[0].Addresses[0])
	text := meshtest.Text(
		meshtest.Service{Name: "stock", Addresses: []string{stock}, Routes: meshtest.Split(map[string]int{"stock": 1}), Clusters: map[string][]netip.AddrPort{"stock": {netip.AddrPortFrom(provider, 20880)}}},
		meshtest.Service{Name: "lost", Addresses: []string{lost}, Routes: meshtest.Split(map[string]int{"lost": 1}), Clusters: map[string][]netip.AddrPort{"lost": {}}},
	)
	r.must(os.WriteFile(filepath.Join(r.shop, "shop.yaml"), []byte(text), 0o644))
	r.shell(r.written(`helm upgrade dubway deploy/chart -n dubway-system --reuse-values --set-file 'xds.files.shop\.yaml=deploy/quickstart/shop.yaml'`))
	r.brought()
	for _, n := range r.Nodes {
		r.until("the configuration on "+n.Name, func() bool {
			return strings.Contains(r.shell("kubectl dubway routes --node "+n.Name), stock)
		})
	}
}

// adopts follows docs/adopt.md until policies are enforced.
func (r *reader) adopts() {
	r.Helper()
	const plan = "kubectl dubway plan -n shop"
	r.follow("adopt.md", "1. Plan", map[string]told{
		plan: {says: []string{"shop/orders-0", "3 pod(s) would be steered, 0 cannot be", patched}, then: func(string) { r.istio() }},
		"dubwayctl plan -n shop --from shop.yaml,policies.yaml": {says: []string{"3 pod(s) would be steered, 0 cannot be", "VirtualService", "lost", patched}},
	})
	// By labels, where there is no registry: nothing has been written yet.
	const byLabels = "kubectl dubway generate services --from-pods app=orders -n shop > services.yaml"
	r.give(byLabels)
	if text := r.file("services.yaml"); !strings.Contains(text, "kind: Service") {
		r.Errorf("there is no Service in\n%s", text)
	}
	r.follow("adopt.md", "2. Services for what a registry knows", map[string]told{
		byLabels:                        {done: true},
		"kubectl diff -f services.yaml": {says: []string{"+kind: Service", "+    dubway.io/interfaces: org.dubway.test.Probe"}},
	})
	r.follow("adopt.md", "3. Ports", map[string]told{plan: {says: []string{"honoured"}, then: func(said string) {
		if strings.Contains(said, patched) {
			r.Errorf("what was mended is still to be mended:\n%s", said)
		}
	}}})
	r.follow("adopt.md", "4. Observe", map[string]told{
		"kubectl label namespace shop dubway.io/mesh=enabled": {then: func(string) {
			r.enrolled("shop", "", 3)
			r.joined("shop")
		}},
		"kubectl dubway status --all-nodes":                         {says: []string{"n1 ", "n2 "}},
		"kubectl -n shop label pod batch-0 dubway.io/mesh=disabled": {then: func(string) { r.outside("app=batch", 1) }},
		enrolment: {says: []string{"orders-0 ", "stock-0 ", "batch-0 "}, then: r.trueOf(2)},
		"kubectl dubway workloads --pod shop/orders-0":                   {says: []string{"orders-0"}, then: func(string) { r.paused("orders-0") }},
		"kubectl -n shop rollout status statefulset orders --timeout=5m": {then: func(string) { r.enrolled("shop", "app=orders", 1) }},
	})
	r.calling("orders-0", "batch-0")
	r.follow("adopt.md", "5. Check", map[string]told{
		"kubectl dubway tap --pod shop/orders-0 --limit 20":                                                                          {says: []string{"shop/orders-0", "who"}},
		"kubectl dubway top --pod shop/orders-0 --reports 3":                                                                         {says: []string{"orders-0"}},
		"kubectl dubway explain --pod shop/orders-0 --from shop/orders-0 --to 10.96.0.20:20880 --call com.shop.StockService.reserve": {says: []string{"stock"}},
		"kubectl dubway mode --pod shop/orders-0":                                                                                    {says: []string{"observe"}},
	})
	r.follow("adopt.md", "6. Enforce", map[string]told{"kubectl dubway mode --pod shop/orders-0": {then: func(said string) {
		if strings.Contains(said, "observe") {
			r.Errorf("it observes yet:\n%s", said)
		}
	}}})
}

// paused has a consumer make no more calls, and the next process of its name go on to count.
func (r *reader) paused(consumer string) {
	r.Helper()
	for _, n := range r.Nodes {
		dir := n.Path(filepath.Join(counts, "shop", consumer))
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		stop, stopped := filepath.Join(dir, "stop"), filepath.Join(dir, "stopped")
		r.must(os.WriteFile(stop, nil, 0o600))
		r.until(consumer+" to stop", func() bool { _, err := os.Stat(stopped); return err == nil })
		r.must(errors.Join(os.Remove(stop), os.Remove(stopped)))
	}
}

// goesBack follows the rest of docs/adopt.md. From the first call to the last none was lost.
func (r *reader) goesBack() {
	r.Helper()
	r.kept("shop")
	r.follow("adopt.md", "7. Go back", map[string]told{
		"kubectl dubway mode 'shop/*' off --node worker-1":                          {then: func(string) { r.calling("orders-0") }},
		"kubectl -n shop delete services -l app.kubernetes.io/managed-by=dubwayctl": {says: []string{"deleted"}},
	})
	r.outside("", 3)
	r.calling("orders-0", "batch-0")
	r.step("calls counted", func() { r.tallyAgain("shop", "orders-0", "batch-0") })
}

// outside waits until n pods of the shop are not said to be part of the mesh.
func (r *reader) outside(selector string, n int) {
	r.Helper()
	r.pods("shop", selector, func(pods []cluster.Pod) error {
		for _, pod := range pods {
			if said := pod.Conditions["dubway.io/enrolled"]; strings.HasPrefix(said, "True") {
				return fmt.Errorf("of %s it is said: %s", pod.Name, said)
			}
		}
		return cluster.Ready(n)(pods)
	})
}

// file is a file that a guide's command has written.
func (r *reader) file(name string) string {
	r.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, name))
	r.must(err)
	return string(text)
}

// istio has the API server know the kinds of Istio that the guides name, and of the Prometheus
// operator, with any content, and has a route for orders.
func (r *reader) istio() {
	r.Helper()
	for kind, group := range map[string]string{
		"VirtualService": "networking.istio.io", "DestinationRule": "networking.istio.io", "ServiceEntry": "networking.istio.io",
		"AuthorizationPolicy": "security.istio.io", "PeerAuthentication": "security.istio.io", "PodMonitor": "monitoring.coreos.com",
	} {
		singular := strings.ToLower(kind)
		plural := singular + "s"
		if before, ok := strings.CutSuffix(singular, "y"); ok {
			plural = before + "ies"
		}
		r.apply(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[2]s.%[4]s}
spec:
  group: %[4]s
  scope: Namespaced
  names: {kind: %[3]s, singular: %[1]s, plural: %[2]s}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`, singular, plural, kind, group)
		name := plural + "." + group
		r.Cleanup(func() { r.delete("customresourcedefinition", name) })
		r.kubectl("wait", "--for=condition=Established", "customresourcedefinition/"+name, "--timeout=1m")
	}
	r.apply(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders, namespace: shop}
spec:
  hosts: [orders]
  http: [{match: [{port: 20880}], route: [{destination: {host: orders}}]}]
`)
}

// zookeeper is a registry: image.
const zookeeper = `
apiVersion: v1
kind: Pod
metadata: {namespace: infra, name: zookeeper, labels: {app: zookeeper}}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 1
  containers:
  - name: server
    image: %s
    imagePullPolicy: Never
    args: [org.apache.zookeeper.server.ZooKeeperServerMain, "2181", /tmp/zookeeper]
    env: [{name: JDK_JAVA_OPTIONS, value: -Dzookeeper.admin.enableServer=false}]
    readinessProbe: {tcpSocket: {port: 2181}, periodSeconds: 1}
`

// member applies a StatefulSet of one pod: the name, the node, the containers.
func (r *reader) member(name, node string, containers ...string) {
	r.Helper()
	r.apply(`
apiVersion: apps/v1
kind: StatefulSet
metadata: {namespace: shop, name: %[1]s}
spec:
  serviceName: %[1]s
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      nodeName: %[2]s
      terminationGracePeriodSeconds: 2
      containers: [%[3]s]
      volumes: [{name: counts, hostPath: {path: %[4]s, type: DirectoryOrCreate}}]
`, name, node, strings.Join(containers, ", "), counts)
}

// serves is what a provider's container has beside others.
const serves = "name: provider, ports: [{containerPort: 20880}], readinessProbe: {tcpSocket: {port: 20880}, periodSeconds: 1}"

// consumes is a container that calls an address, and a call that was not answered again, as
// Dubbo's consumers do.
func consumes(address string) string {
	return container(peerImage, "name: consumer", "load", "target="+address+":20880 pause=50 retries=2")
}

func container(image, more string, args ...string) string {
	return fmt.Sprintf(`{%s, image: %q, imagePullPolicy: Never, args: ["%s"],
        volumeMounts: [{name: counts, mountPath: /counts, subPathExpr: shop/$(POD_NAME)}],
        env: [{name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: PROBE_COUNTS, value: /counts},
          {name: JDK_JAVA_OPTIONS, value: "-Dzookeeper.sasl.client=false -Duser.home=/tmp"}]}`, more, image, strings.Join(args, `", "`))
}

// services of the fleet: stock's address, which many have written down, and orders' port, which
// is declared so that istiod sends no routes for it.
const services = `
{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: stock},
spec: {clusterIP: %s, selector: {app: stock}, ports: [{name: tcp, port: 20880}]}}
---
{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: lost},
spec: {clusterIP: %s, selector: {app: lost}, ports: [{name: tcp, port: 20880}]}}
---
{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: orders},
spec: {selector: {app: orders}, ports: [{name: tcp, port: 20880}]}}
`
