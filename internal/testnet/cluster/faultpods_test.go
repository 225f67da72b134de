//go:build e2e

package cluster_test

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/dubway/dubway/internal/testnet/cluster"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// relabelled: a namespace leaves the mesh and comes back under load, and no call fails; who
// starts meanwhile calls past the mesh, and who starts afterwards does not.
func (r *rig) relabelled() {
	var provider cluster.Pod
	r.step("calls", func() {
		r.provider("provider", "n2")
		provider = r.enrolled(r.namespace, "app=provider", 1)[0]
		r.serve(provider, provider.Addresses[0])
		for _, n := range r.Nodes {
			r.consumer("always-"+n.Name, n.Name, provider.Addresses[0])
		}
		r.reached(r.namespace, "always-n1", 100)
		r.reached(r.namespace, "always-n2", 100)
	})
	r.step("namespace left the mesh", func() {
		r.kubectl("label", "namespace", r.namespace, "dubway.io/mesh-")
		r.world.pods(r.namespace, "", func(pods []cluster.Pod) error {
			for _, pod := range pods {
				if said := pod.Conditions["dubway.io/enrolled"]; said != "" {
					return fmt.Errorf("of %s it is said: %s", pod.Name, said)
				}
			}
			return nil
		})
		r.consumer("outside", "n1", provider.Addresses[0])
		r.reached(r.namespace, "outside", 100)
		if seen := r.workload(r.Nodes[0], "outside"); seen > 0 {
			r.Errorf("of calls of a pod that started outside the mesh, it has seen %d", seen)
		}
	})
	r.step("namespace came back", func() {
		r.kubectl("label", "namespace", r.namespace, "dubway.io/mesh=enabled")
		r.enrolled(r.namespace, "", 4)
		r.joined(r.namespace)
		r.consumer("inside", "n1", provider.Addresses[0])
		r.reached(r.namespace, "inside", 100)
	})
	if calls := r.tally(r.namespace, "always-n1", "always-n2", "outside", "inside"); calls < 400 {
		r.Errorf("%d calls were made", calls)
	}
	inside := r.count(r.namespace, "inside", "answered")
	if seen := r.workload(r.Nodes[0], "inside"); seen != inside {
		r.Errorf("of %d calls of the pod that started afterwards, the mesh has seen %d", inside, seen)
	}
}

// workload is seen of one pod alone.
func (r *rig) workload(n *cluster.Node, name string) int {
	r.Helper()
	return meshtest.SumOf(r.metrics(n), "istio_requests_total{", `reporter="source"`,
		`source_workload_namespace="`+r.namespace+`"`, `source_workload="`+name+`"`)
}

// probed: kubelet's probes reach a port at which nobody else may be answered, also nobody
// else of the node.
func (r *rig) probed() {
	r.step("a pod that nobody may call", func() {
		r.configure(fmt.Sprintf(closed, r.namespace))
		r.apply(probed, r.namespace, cluster.PodImage)
		r.enrolled(r.namespace, "app=probed", 1)
	})
	address := r.world.pods(r.namespace, "app=probed", cluster.Ready(1))[0].Addresses[0]
	r.step("nobody is answered", func() {
		for i, host := range []string{"true", "false"} {
			r.apply(caller, r.namespace, fmt.Sprint("caller-", i), cluster.PodImage, "http://"+address+":8080", host)
		}
		r.world.pods(r.namespace, "role=caller", func(pods []cluster.Pod) error {
			if len(pods) != 2 {
				return fmt.Errorf("there are %d", len(pods))
			}
			for _, pod := range pods {
				if pod.Phase != "Failed" {
					return fmt.Errorf("it has not failed: %+v", pod)
				}
			}
			return nil
		})
	})
	pod := r.world.pods(r.namespace, "app=probed", cluster.Ready(1))[0]
	if pod.Restarts > 0 {
		r.Errorf("kubelet has restarted it: %+v", pod)
	}
	if passed := r.status("n1").Agent.Counters["lookup_probe"]; passed < 30 {
		r.Errorf("kubelet's probes passed %d times in half a minute", passed)
	}
	r.step("who may is answered", func() { // that it is the policy which refuses
		r.configure("resources: []\n")
		r.apply(caller, r.namespace, "allowed", cluster.PodImage, "http://"+address+":8080", "true")
		r.world.pods(r.namespace, "app=allowed", cluster.Ended(1))
	})
}

// closed is the policy of probed: of the pod's namespace.
const closed = `resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: inbound-probed
  traffic_direction: INBOUND
  metadata: {filter_metadata: {dubway.io: {workload: %s/probed}}}
  address: {socket_address: {address: 0.0.0.0, port_value: 15006}}
  filter_chains:
  - filter_chain_match: {destination_port: 8080, transport_protocol: raw_buffer}
    filters:
    - name: envoy.filters.network.rbac
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC
        stat_prefix: inbound
        rules: {action: DENY, policies: {all: {permissions: [{any: true}], principals: [{any: true}]}}}
    - name: envoy.filters.network.tcp_proxy
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
        stat_prefix: inbound
        cluster: inbound|8080||
`

// probed is a pod that kubelet asks every second, in two ways: its namespace, image.
const probed = `
apiVersion: v1
kind: Pod
metadata: {namespace: %[1]s, name: probed, labels: {app: probed}}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 1
  containers:
  - name: server
    image: "%[2]s"
    imagePullPolicy: Never
    args: [serve, "8080", probed]
    ports: [{containerPort: 8080}]
    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1, failureThreshold: 2}
    livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 2}
`

// caller is a pod of the probed one's node: its namespace, name, image, URL, whether it is in
// the host's network.
const caller = `
apiVersion: v1
kind: Pod
metadata: {namespace: %[1]s, name: %[2]s, labels: {app: %[2]s, role: caller}}
spec:
  nodeName: n1
  hostNetwork: %[5]s
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers: [{name: client, image: "%[3]s", imagePullPolicy: Never, args: [get, %[4]q]}]
`

// burst: a hundred pods that come at once are all part of the mesh, and nothing is left of
// them when they are gone.
func (r *rig) burst() {
	const n = 50 // on each node
	for name := range strings.FieldsSeq(r.kubectl("get", "namespaces", "--output=jsonpath={.items[*].metadata.name}")) {
		if strings.HasPrefix(name, "faults-") && name != r.namespace {
			r.delete("namespace", name, "--ignore-not-found")
		}
	}
	before := map[string]map[string]int{}
	for _, node := range r.Nodes {
		before[node.Name] = r.entries(node.Name)
	}
	r.step("a hundred pods", func() {
		var all strings.Builder
		for i := range n {
			for _, node := range r.Nodes {
				all.WriteString("---" + fmt.Sprintf(pauses, r.namespace, fmt.Sprintf("%s-%d", node.Name, i), node.Name))
			}
		}
		r.must(r.Apply(r.ctx, all.String()))
		r.enrolled(r.namespace, "", 2*n)
	})
	for _, node := range r.Nodes {
		if s := r.status(node.Name).Agent.Workloads; s.Enrolled < n || s.NotEnrolled > 0 {
			r.Errorf("%s: %+v", node.Name, s)
		}
	}
	r.step("deleted", func() {
		r.kubectl("delete", "pods", "--all", "--namespace="+r.namespace, "--timeout=240s")
	})
	r.step("forgotten", func() {
		for _, node := range r.Nodes {
			var after map[string]int
			r.Cleanup(func() {
				if r.Failed() {
					r.Logf("%s: entries of maps %v, before %v", node.Name, after, before[node.Name])
				}
			})
			r.until("the maps of "+node.Name, func() bool {
				after = r.entries(node.Name)
				for name, n := range after {
					if n > before[node.Name][name] { // who was about to go then may have gone
						return false
					}
				}
				return true
			})
			if strings.Contains(r.ctl(node.Name, "workloads"), r.namespace) {
				r.Errorf("the agent of %s still knows pods", node.Name)
			}
		}
	})
}

// entries are how many each map of a node has.
func (r *rig) entries(node string) map[string]int {
	r.Helper()
	all := map[string]int{}
	for _, m := range r.status(node).Agent.Maps {
		all[m.Name] = m.Entries
	}
	return all
}

// serve configures calls to addresses, which are the provider's.
func (r *rig) serve(provider cluster.Pod, addresses ...string) {
	r.Helper()
	r.configure(meshtest.Text(meshtest.Service{
		Name: r.namespace, Addresses: addresses, Routes: meshtest.Split(map[string]int{r.namespace: 1}),
		Clusters: map[string][]netip.AddrPort{r.namespace: {netip.AddrPortFrom(netip.MustParseAddr(provider.Addresses[0]), 20880)}},
	}))
}
