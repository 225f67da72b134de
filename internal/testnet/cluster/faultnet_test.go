//go:build e2e

package cluster_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/dubway/dubway/internal/testnet/cluster"
)

// apiAway: while nobody reaches the API server, calls go on, and those of a node whose agent
// is killed meanwhile too; a pod whose container ends is part of the mesh when it is back.
func (r *rig) apiAway() {
	var provider cluster.Pod
	r.step("calls", func() {
		r.provider("provider", "n2")
		provider = r.enrolled(r.namespace, "app=provider", 1)[0]
		r.serve(provider, provider.Addresses[0])
		for _, n := range r.Nodes {
			r.consumer("consumer-"+n.Name, n.Name, provider.Addresses[0])
			r.reached(r.namespace, "consumer-"+n.Name, 100)
		}
		r.enrolled(r.namespace, "", 3)
	})
	agent := r.status("n1").Agent.PID
	n1 := r.Nodes[0]
	away := time.Now()
	r.step("API server out of reach, and the agent of n1 killed", func() {
		r.must(r.HideAPI(r.ctx, true))
		if _, err := n1.Run(r.ctx, "kill", "-9", strconv.Itoa(agent)); err != nil {
			r.Fatal(err)
		}
		// The whole minute: leases end, watches are given up, and the agent has no list.
		r.until("a minute", func() bool { return time.Since(away) > time.Minute })
		for _, n := range r.Nodes {
			r.reached(r.namespace, "consumer-"+n.Name, r.count(r.namespace, "consumer-"+n.Name, "answered")+100)
		}
		r.must(r.HideAPI(r.ctx, false))
	})
	r.step("API server back", func() {
		r.enrolled(r.namespace, "", 3)
		r.consumer("later", "n1", provider.Addresses[0])
		r.reached(r.namespace, "later", 100)
		if now := r.status("n1").Agent.PID; now == agent {
			r.Errorf("the agent of n1 was not killed: it is still %d", now)
		}
	})
	calls := r.tally(r.namespace, "consumer-n1", "consumer-n2", "later")
	if seen := r.seen(r.Nodes[0]) + r.seen(r.Nodes[1]); seen != calls {
		r.Errorf("of %d calls the mesh has seen %d", calls, seen)
	}
}

// forbidden: what forbids a pod to connect to another one of its node holds for their calls
// too, within half a minute, although the mesh has a shorter way; and no longer than it is there.
func (r *rig) forbidden() {
	n1 := r.Nodes[0]
	var provider, consumer cluster.Pod
	r.step("calls", func() {
		r.provider("provider", "n1")
		provider = r.enrolled(r.namespace, "app=provider", 1)[0]
		r.serve(provider, nowhere)
		r.consumer("consumer", "n1", nowhere)
		r.reached(r.namespace, "consumer", 100)
		consumer = r.enrolled(r.namespace, "app=consumer", 1)[0]
	})
	nft := func(rule string) {
		r.Helper()
		file := filepath.Join(r.TempDir(), "rule.nft")
		r.must(os.WriteFile(file, []byte(rule), 0o600))
		_, err := n1.Run(r.ctx, "nft", "-f", file)
		r.must(err)
	}
	r.step("forbidden", func() {
		nft(fmt.Sprintf(`table bridge faults {
	chain denied {
		type filter hook forward priority 0
		ip saddr %s ip daddr %s tcp flags & (syn | ack) == syn drop
	}
}
`, consumer.Addresses[0], provider.Addresses[0]))
		began := time.Now()
		for last := -1; ; time.Sleep(5 * time.Second) {
			now := r.count(r.namespace, "consumer", "answered")
			if now == last {
				break
			}
			if last = now; time.Since(began) > 45*time.Second { // of which 5 are ours, and 10 the machine's
				r.Fatalf("calls go on, %v after they were forbidden", time.Since(began))
			}
		}
	})
	r.step("allowed", func() {
		answered := r.count(r.namespace, "consumer", "answered")
		nft("delete table bridge faults\n")
		r.reached(r.namespace, "consumer", answered+100)
	})
	r.stopped("consumer")
	if answered, served := r.count(r.namespace, "consumer", "answered"), r.served(r.namespace); answered != served {
		r.Errorf("%d calls were answered, %d served", answered, served)
	}
}

// reused: the address of a Job that has finished, whose pod is still there, is that of a
// provider under load.
func (r *rig) reused() {
	n1 := r.Nodes[0]
	var address string
	r.step("a Job has finished", func() {
		r.apply(probed, r.namespace, cluster.PodImage)
		server := r.enrolled(r.namespace, "app=probed", 1)[0]
		r.apply(caller, r.namespace, "job", cluster.PodImage, "http://"+server.Addresses[0]+":8080", "false")
		address = r.world.pods(r.namespace, "app=job", cluster.Ended(1))[0].Addresses[0]
	})
	r.step("its address is a provider's", func() {
		leases := n1.Path("/var/lib/cni/networks/pods")
		r.until("the runtime to give the address back", func() bool {
			_, err := os.Stat(filepath.Join(leases, address))
			return errors.Is(err, os.ErrNotExist)
		})
		// The plugin goes on from the last one.
		before := netip.MustParseAddr(address).Prev().String()
		r.must(os.WriteFile(filepath.Join(leases, "last_reserved_ip.0"), []byte(before), 0o600))
		r.provider("provider", "n1")
		if provider := r.enrolled(r.namespace, "app=provider", 1)[0]; provider.Addresses[0] != address {
			r.Fatalf("the provider has %s, the Job had %s", provider.Addresses[0], address)
		} else {
			r.serve(provider, address)
		}
	})
	r.step("calls", func() {
		for _, n := range r.Nodes {
			r.consumer("consumer-"+n.Name, n.Name, address)
			r.reached(r.namespace, "consumer-"+n.Name, 200)
		}
		if job := r.world.pods(r.namespace, "app=job", cluster.Ended(1))[0]; job.Addresses[0] != address {
			r.Errorf("the Job's pod no longer says the address: %+v", job)
		}
	})
	calls := r.tally(r.namespace, "consumer-n1", "consumer-n2")
	of := `source_workload_namespace="` + r.namespace + `"`
	if recorded := r.sum("istio_requests_total{", `reporter="source"`, of); recorded != calls {
		r.Errorf("of %d calls the consumers' proxies have recorded %d", calls, recorded)
	}
	// Of files a proxy knows which workload an address is on its own node alone.
	near := r.sum("istio_requests_total{", `reporter="source"`, of, `source_workload="consumer-n1"`)
	for _, reporter := range []string{"source", "destination"} {
		recorded := r.sum("istio_requests_total{", `reporter="`+reporter+`"`, of, `source_workload="consumer-n1"`, `destination_workload="provider"`)
		if recorded != near || near == 0 {
			r.Errorf("of %d calls within the node its proxy has recorded %d to the provider as %s", near, recorded, reporter)
		}
	}
}
