//go:build e2e

package cluster_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet/cluster"
)

// observes follows docs/observe.md, while calls are made, of which some are refused.
func (r *reader) observes() {
	r.Helper()
	r.member("lost", "n1", consumes(lost))
	r.enrolled("shop", "app=lost", 1)
	r.follow("observe.md", "Metrics", map[string]told{
		"kubectl -n dubway-system port-forward daemonset/dubway 15020": {says: []string{"dubway_agent_up 1", "istio_requests_total{"}},
	})
	r.exists("podmonitor", system, "release: prometheus")
	r.follow("observe.md", "Dashboards", nil)
	r.exists("configmap", "monitoring", "grafana_dashboard")
	r.follow("observe.md", "Access log", map[string]told{
		"kubectl -n dubway-system logs -l app.kubernetes.io/name=dubway -c proxy --tail 20 --prefix": {says: []string{`"dubbo_method":"who"`}},
		"kubectl dubway accesslog 0.1 --node NODE":                                                   {says: []string{"0.1"}},
	})
	r.follow("observe.md", "Live", map[string]told{
		"kubectl dubway tap --pod shop/orders-0":                                   {says: []string{"shop/orders-0", "who"}},
		"kubectl dubway tap --node NODE --result exception,error,local --limit 20": {says: []string{"shop/lost-0"}},
		"kubectl dubway top --node NODE":                                           {says: []string{"orders-0"}},
		"kubectl dubway top --pod shop/orders-0 --by method --reports 1 -o json":   {says: []string{`"who"`}},
	})
	r.step("nobody looks any more", func() {
		for _, n := range r.Nodes {
			r.until("taps of "+n.Name+" to end", func() bool {
				said, err := n.Run(r.ctx, "ps", "-eo", "args")
				r.must(err)
				return !strings.Contains(said, "dubwayctl tap") && !strings.Contains(said, "dubwayctl top")
			})
		}
	})
	r.follow("observe.md", "Why a call goes where it goes", map[string]told{
		"kubectl dubway explain --pod shop/orders-0 --from shop/orders-0 --to 10.96.0.20:20880 --call com.shop.StockService.reserve": {says: []string{"stock"}},
		"kubectl dubway routes --node NODE":      {says: []string{stock}},
		"kubectl dubway clusters --node NODE":    {says: []string{"stock", "lost"}},
		"kubectl dubway config-dump --node NODE": {says: []string{stock}},
	})
	r.follow("observe.md", "Nodes", map[string]told{
		"kubectl dubway status --all-nodes":    {says: []string{"n1 ", "n2 "}},
		"kubectl dubway status --node NODE":    {says: []string{"node n1"}},
		"kubectl dubway workloads --node NODE": {says: []string{"orders-0", "lost-0"}},
	})
	r.delete("statefulset", "lost", "-n=shop")
}

// exists wants a kind in a namespace to have an object that says something.
func (r *reader) exists(kind, namespace, says string) {
	r.Helper()
	if said := r.kubectl("get", kind, "-n="+namespace, "-o=yaml"); !strings.Contains(said, says) {
		r.Errorf("no %s in %s says %q:\n%s", kind, namespace, says, said)
	}
}

// mends follows docs/troubleshoot.md: pods that do not start, pods that are not enrolled, a release
// that is bad, and a node that does not leave.
func (r *reader) mends() {
	r.Helper()
	n2 := r.Nodes[1]
	r.step("the namespace is back", func() {
		r.kubectl("label", "namespace", "shop", "dubway.io/mesh=enabled")
		r.enrolled("shop", "", 3)
	})
	r.follow("troubleshoot.md", "", map[string]told{
		"kubectl describe pod -n shop orders-0": {says: []string{"dubway.io/enrolled"}},
	})
	r.doesNotStart(n2)
	r.apply(strings.Replace(pauses, "spec:\n", "spec:\n  hostNetwork: true\n", 1), "shop", "pinned", "n1")
	r.pods("shop", "app=pinned", func(pods []cluster.Pod) error {
		if len(pods) != 1 || !strings.HasPrefix(pods[0].Conditions["dubway.io/enrolled"], "False Excluded") {
			return fmt.Errorf("it is not said to be excluded: %+v", pods)
		}
		return nil
	})
	r.follow("troubleshoot.md", "A pod is not enrolled", map[string]told{
		enrolment: {says: []string{"pinned     False"}, then: r.trueOf(3)},
	})
	r.delete("pod", "pinned", "-n=shop", "--now")
	r.follow("troubleshoot.md", "Going back", map[string]told{
		"helm history dubway -n dubway-system":         {says: []string{"deployed"}},
		"helm rollback dubway -n dubway-system --wait": {then: func(string) { r.chained(`"closed"`) }},
	})
	r.follow("troubleshoot.md", "For a report", nil)
	for _, name := range []string{"doctor.json", "status.json", "dump.json"} {
		var document map[string]any
		if err := json.Unmarshal([]byte(r.file(name)), &document); err != nil || len(document) == 0 {
			r.Errorf("%s: %v", name, err)
		}
	}
	if !strings.Contains(r.file("logs.txt"), "/proxy]") {
		r.Error("logs.txt has no proxy's log")
	}
	r.doesNotLeave(n2)
}

// doesNotStart: of a node whose agent is stuck.
func (r *reader) doesNotStart(n *cluster.Node) {
	r.Helper()
	agent := r.agent(n.Name).Name
	goOn := r.stuck(n)
	r.apply(pauses, "shop", "waiting", n.Name)
	r.step("a pod does not start", func() {
		r.until("its reason", func() bool {
			return strings.Contains(r.shell("kubectl describe pod -n shop waiting"), "is kept from running outside the mesh")
		})
	})
	r.shaped["kubectl -n dubway-system exec daemonset/dubway -c agent -- dubway-agent ready"] =
		"timeout 20 kubectl -n dubway-system exec " + agent + " -c agent -- dubway-agent ready 2>&1 || test $? != 0"
	open := "helm upgrade dubway deploy/chart -n dubway-system --reuse-values --set cni.mode=open"
	r.follow("troubleshoot.md", "A pod does not start", map[string]told{
		"kubectl -n dubway-system get pods -o wide": {says: []string{n.Name}},
		"kubectl -n dubway-system exec daemonset/dubway -c agent -- dubway-agent ready": {says: []string{"is dubway-agent stuck?"}, then: func(string) {
			goOn()
			r.enrolled("shop", "", 4)
		}},
		open: {then: func(string) { r.chained(`"open"`) }},
	})
	r.delete("pod", "waiting", "-n=shop", "--now")
}

// chained waits until the plugin of every node is told a mode.
func (r *reader) chained(mode string) {
	r.Helper()
	for _, n := range r.Nodes {
		r.until("the plugin of "+n.Name+" to be "+mode, func() bool { return strings.Contains(r.world.read(n, conflist), mode) })
	}
	r.world.pods(system, agents, cluster.Ready(len(r.Nodes)))
}

// stuck stops a node's agent, and returns what lets it go on.
func (r *reader) stuck(n *cluster.Node) (goOn func()) {
	r.Helper()
	var status struct{ Agent admin.AgentStatus }
	r.must(json.Unmarshal([]byte(r.shell("kubectl dubway status -o json --node "+n.Name)), &status))
	signal := func(name string) {
		_, err := n.Run(r.ctx, "kill", "-"+name, strconv.Itoa(status.Agent.PID))
		r.must(err)
	}
	signal("STOP")
	return func() { signal("CONT") }
}

// doesNotLeave: a node whose agent is stuck is named, and nothing goes before somebody decides.
func (r *reader) doesNotLeave(n *cluster.Node) {
	r.Helper()
	r.shell(r.written("helm upgrade dubway deploy/chart -n dubway-system --reuse-values --set leave.timeout=10s"))
	r.mended = r.agent(n.Name).Name
	r.stuck(n)
	r.step("uninstalling fails", func() {
		if said, err := r.operator.Shell(r.ctx, "helm uninstall dubway -n dubway-system"); err == nil {
			r.Errorf("a node does not answer, and it is uninstalled: %s", said)
		}
	})
	if said := r.give("kubectl -n dubway-system logs job/dubway-leave"); !strings.Contains(said, n.Name) {
		r.Errorf("the log does not name %s:\n%s", n.Name, said)
	}
	r.give("kubectl -n dubway-system get pods -o wide")
	r.give("kubectl -n dubway-system delete pod POD --force --grace-period=0")
	// The guide's last command of these, and the only one that comes after it, is that of uninstalls.
	r.give("kubectl -n dubway-system annotate daemonset dubway dubway.io/leave-")
	r.step("all are enrolled anew", func() { r.enrolled("shop", "", 3) })
	rows := strings.Split(strings.TrimSpace(r.give("helm history dubway -n dubway-system")), "\n")
	r.revision = strings.Fields(rows[len(rows)-1])[0]
	r.give("helm rollback dubway REVISION -n dubway-system --wait")
	r.shell(r.written("helm upgrade dubway deploy/chart -n dubway-system --reuse-values --set leave.timeout=4m"))
}
