package lanetest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/lanetest"
)

// memoryV1 is where version 1 of the memory controller is mounted, if it is.
const memoryV1 = "/sys/fs/cgroup/memory"

// limit has the processes that a pod starts from here on in a cgroup that has so many bytes for
// sockets. In version 2 sockets are memory like any other, of which they have 48 MiB besides.
func (n *node) limit(p *testnet.Pod, sockets int) {
	n.T.Helper()
	dir, file := filepath.Join(memoryV1, n.Name()+"-"+p.Name), "memory.kmem.tcp.limit_in_bytes"
	if _, err := os.Stat(memoryV1); err != nil {
		n.Must(os.WriteFile(filepath.Join(p.Cgroup, "cgroup.subtree_control"), []byte("+memory"), 0o600))
		dir, file, sockets = filepath.Join(p.Cgroup, "limited"), "memory.max", sockets+48<<20
	}
	n.Must(os.MkdirAll(dir, 0o755))
	n.T.Cleanup(func() {
		for _, proc := range n.processes {
			_ = proc.Kill()
		}
		// What was in it takes a moment to be gone.
		for end := time.Now().Add(10 * time.Second); os.Remove(dir) != nil && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
		}
	})
	n.Must(os.WriteFile(filepath.Join(dir, file), fmt.Append(nil, sockets), 0o600))
	if n.within == nil {
		n.within = map[*testnet.Pod]string{}
	}
	n.within[p] = dir
}

// TestMemory: whoever has little memory for its sockets, the sender or the receiver of a
// call or both: no byte is wrong, and nothing is lost. Where the kernel would refuse memory, calls take the
// proxy, and the node says so.
func TestMemory(t *testing.T) {
	const sockets = 1 << 20
	for _, test := range []struct {
		name               string
		consumer, provider bool
	}{{"consumer", true, false}, {"provider", false, true}, {"both", true, true}} {
		t.Run(test.name, func(t *testing.T) {
			n := newNode(t, 2, 100<<10, 2*time.Minute)
			if test.consumer {
				n.limit(n.consumer, sockets)
			}
			if test.provider {
				n.Must(n.processes[0].Kill())
				<-n.processes[0].Done()
				n.limit(n.providers[0], sockets)
				n.provide(0, 100<<10)
			}
			k := lanetest.Consumer{
				Target: vip4 + ":20880", Conns: 2, Calls: 4000, Depth: 32, Seed: 5, Size: 100 << 10, Lane: 100, Most: 100 << 10,
			}
			start := time.Now()
			r := n.consume(k)()
			took, lanes := time.Since(start), n.choose(admin.LaneOn).Outcomes
			calls := k.Conns * k.Calls
			if len(r.Errors) > 0 || r.Answered != calls {
				t.Errorf("%d answers, want %d; errors %q", r.Answered, calls, r.Errors)
			}
			n.served(calls, r.OneWays)
			n.rested()
			n.recorded(calls + r.OneWays)
			t.Logf("%d calls in %v, %d in the lane, %v by provider; %v", r.Answered, took, n.took(), r.By, lanes)
			if _, err := os.Stat(memoryV1); err != nil {
				return // what there is of memory is not only for sockets
			}
			most := r.By[1] // a provider that is limited leaves the other one to the lane
			if test.consumer {
				most = 0
			}
			if n.took() > most || test.consumer && lanes["lane_consumer_limited"] < uint64(k.Conns) {
				t.Errorf("%d calls took the lane, of at most %d; %v", n.took(), most, lanes)
			}
		})
	}
}
