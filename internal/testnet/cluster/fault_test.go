//go:build e2e

package cluster_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dubway/dubway/internal/testnet/cluster"
)

// nowhere is an address that exists in the mesh alone: who is answered there came by it.
const nowhere = "240.0.208.81"

// agentAway: while a node has no agent, pods of the mesh wait, and say why; those that the
// mesh never touches do not.
func (r *rig) agentAway() {
	ds := "--namespace=" + system
	r.step("a provider that the mesh knows", func() {
		// What it does not know passes, which a capture cannot tell from an escape.
		r.provider("known", "n2")
		r.serve(r.enrolled(r.namespace, "app=known", 1)[0], nowhere)
	})
	r.step("agents gone", func() {
		r.kubectl("patch", "daemonset", "dubway", ds, `--patch={"spec":{"template":{"spec":{"nodeSelector":{"test/nowhere":"yes"}}}}}`)
		r.world.pods(system, agents, cluster.Ready(0))
	})
	r.step("pods wait", func() {
		r.provider("provider", "n2")
		r.consumer("consumer", "n1", nowhere)
		r.apply(pauses, "kube-system", "exempt", "n1")
		r.Cleanup(func() { r.delete("pod", "exempt", "--namespace=kube-system", "--now") })
		r.must(r.Account(r.ctx, "kube-system"))
		r.world.pods("kube-system", "app=exempt", cluster.Ready(1))
		for _, pod := range []string{"provider", "consumer"} {
			r.until("the reason of "+pod, func() bool {
				said := r.kubectl("get", "events", "--namespace="+r.namespace, "--field-selector=involvedObject.name="+pod, "--output=jsonpath={.items[*].message}")
				return strings.Contains(said, "is kept from running outside the mesh: no agent serves /run/dubway/cni.sock")
			})
		}
		for _, pod := range r.world.pods(r.namespace, "", func([]cluster.Pod) error { return nil }) {
			if pod.Name != "known" && (pod.Phase != "Pending" || len(pod.Addresses) > 0) {
				r.Errorf("%s did not wait: %+v", pod.Name, pod)
			}
		}
	})
	r.step("agents back, and pods started", func() {
		r.kubectl("patch", "daemonset", "dubway", ds, "--type=json", `--patch=[{"op":"remove","path":"/spec/template/spec/nodeSelector/test~1nowhere"}]`)
		r.world.pods(system, agents, cluster.Ready(2))
		r.enrolled(r.namespace, "", 3)
		r.reached(r.namespace, "consumer", 100)
		r.serve(r.enrolled(r.namespace, "app=provider", 1)[0], nowhere)
		r.reached(r.namespace, "consumer", r.count(r.namespace, "consumer", "answered")+100)
	})
	calls := r.tally(r.namespace, "consumer")
	if recorded := r.seen(r.Nodes[0]); recorded != calls {
		r.Errorf("of %d calls the mesh has seen %d", calls, recorded)
	}
}

// reboot: of a node that boots, no pod of the mesh says a word before it is part of it, and
// that is when its agent runs.
func (r *rig) reboot() {
	n2 := r.Nodes[1]
	var provider cluster.Pod
	r.step("calls", func() {
		r.provider("provider", "n1")
		provider = r.enrolled(r.namespace, "app=provider", 1)[0]
		r.serve(provider, provider.Addresses[0])
		r.consumer("consumer", "n2", provider.Addresses[0])
		r.reached(r.namespace, "consumer", 100)
	})
	var sent, answered int
	r.step("node n2 rebooted under load", func() {
		r.must(n2.Reboot(r.ctx))
		// Its containers are not there yet: the agent's own is not, without which none starts.
		sent, answered = r.onDisk(n2, "consumer", "sent"), r.onDisk(n2, "consumer", "answered")
		if lost := sent - answered; lost < 0 || lost > 1 {
			r.Errorf("before, %d calls were sent and %d answered", sent, answered)
		}
	})
	r.step("calls again", func() {
		r.world.pods(r.namespace, "app=consumer", func(pods []cluster.Pod) error {
			if err := cluster.Ready(1)(pods); err != nil || pods[0].Restarts > 0 {
				return err
			}
			return fmt.Errorf("it is not back: %+v", pods[0])
		})
		r.reached(r.namespace, "consumer", answered+100)
		r.enrolled(r.namespace, "app=consumer", 1)
	})
	r.stopped("consumer")
	after := r.count(r.namespace, "consumer", "answered") - answered
	if all := r.count(r.namespace, "consumer", "sent") - sent; all != after {
		r.Errorf("after the boot, %d calls were sent and %d answered", all, after)
	}
	if recorded := r.seen(n2); recorded != after {
		r.Errorf("of %d calls after the boot the mesh has seen %d", after, recorded)
	}
}

// proxyKilled: connections wait for a proxy that is killed under load, and no call is lost but
// what was in flight.
func (r *rig) proxyKilled() {
	n1 := r.Nodes[0]
	var provider cluster.Pod
	r.step("calls", func() {
		r.provider("provider", "n2")
		provider = r.enrolled(r.namespace, "app=provider", 1)[0]
		r.serve(provider, provider.Addresses[0], nowhere)
		for i, address := range []string{provider.Addresses[0], nowhere} {
			name := fmt.Sprint("consumer-", i)
			r.consumer(name, "n1", address)
			r.reached(r.namespace, name, 100)
		}
	})
	r.step("proxy of n1 killed, and calls go on", func() {
		agent := r.status("n1").Agent
		if _, err := n1.Run(r.ctx, "kill", "-9", strconv.Itoa(agent.ProxyPID)); err != nil {
			r.Fatal(err)
		}
		r.consumer("later", "n1", nowhere) // it may start while there is no proxy
		for i := range 2 {
			name := fmt.Sprint("consumer-", i)
			r.reached(r.namespace, name, r.count(r.namespace, name, "answered")+100)
		}
		r.reached(r.namespace, "later", 100)
		if now := r.status("n1").Agent; now.ProxyPID == agent.ProxyPID || now.PID != agent.PID {
			r.Errorf("agent and proxy are %d and %d, before %d and %d", now.PID, now.ProxyPID, agent.PID, agent.ProxyPID)
		}
	})
	consumers := []string{"consumer-0", "consumer-1", "later"}
	r.stopped(consumers...)
	answered := 0
	for _, c := range consumers {
		sent, got, failed := r.count(r.namespace, c, "sent"), r.count(r.namespace, c, "answered"), r.count(r.namespace, c, "failed")
		answered += got
		if sent != got+failed || failed > 1 {
			r.Errorf("%s: %d calls were sent, %d answered, %d failed", c, sent, got, failed)
		}
	}
	if served := r.served(r.namespace); served < answered || served > answered+2 {
		r.Errorf("%d calls were answered, %d served", answered, served)
	}
}

// onDisk is what a pod's file on a node counts.
func (r *rig) onDisk(n *cluster.Node, pod, name string) int {
	r.Helper()
	text, err := os.ReadFile(n.Path(filepath.Join(counts, r.namespace, pod, name)))
	r.must(err)
	number, err := strconv.Atoi(strings.TrimSpace(string(text)))
	r.must(err)
	return number
}

// stopped stops consumers, whatever they have counted. None of it went past the mesh.
func (r *rig) stopped(consumers ...string) {
	r.Helper()
	for _, consumer := range consumers {
		for _, n := range r.Nodes {
			dir := n.Path(filepath.Join(counts, r.namespace, consumer))
			if _, err := os.Stat(dir); err == nil {
				r.must(os.WriteFile(filepath.Join(dir, "stop"), nil, 0o600))
				r.until(consumer+" to stop", func() bool { _, err := os.Stat(filepath.Join(dir, "stopped")); return err == nil })
			}
		}
	}
	r.kept(r.namespace)
}

// pauses is a pod that does nothing: namespace, name, node.
const pauses = `
apiVersion: v1
kind: Pod
metadata: {namespace: %[1]s, name: %[2]s, labels: {app: %[2]s}}
spec:
  nodeName: %[3]s
  terminationGracePeriodSeconds: 1
  containers: [{name: pause, image: "` + cluster.PodImage + `", imagePullPolicy: Never, args: [pause]}]
`
