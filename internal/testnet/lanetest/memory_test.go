package lanetest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/lanetest"
)

// memoryV1 is where version 1 of the memory controller is mounted, if it is.
const memoryV1 = "/sys/fs/cgroup/memory"

// limited makes a cgroup below a pod's whose sockets may hold so many bytes, and whose
// processes but 64 MiB; it returns its folder, which a process enters by writing "0" into its
// cgroup.procs. In version 2 sockets count as memory of the cgroup.
func (n *node) limited(p *testnet.Pod, sockets int) string {
	n.T.Helper()
	dir, limits := filepath.Join(memoryV1, n.Name()+"-"+p.Name), map[string]int{
		"memory.limit_in_bytes": 64 << 20, "memory.kmem.tcp.limit_in_bytes": sockets,
	}
	if _, err := os.Stat(memoryV1); err != nil {
		n.Must(os.WriteFile(filepath.Join(p.Cgroup, "cgroup.subtree_control"), []byte("+memory"), 0o600))
		dir, limits = filepath.Join(p.Cgroup, "limited"), map[string]int{"memory.max": 64<<20 + sockets}
	}
	n.Must(os.MkdirAll(dir, 0o755))
	n.T.Cleanup(func() {
		// What was in it has been killed, and takes a moment to be gone.
		for end := time.Now().Add(10 * time.Second); os.Remove(dir) != nil && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
		}
	})
	for file, limit := range limits {
		n.Must(os.WriteFile(filepath.Join(dir, file), fmt.Append(nil, limit), 0o600))
	}
	return dir
}

// enter moves this process into a cgroup; "" is none.
func enter(dir string) error {
	if dir == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o600)
}

// TestMemory: whoever has little memory for its sockets, the sender or the receiver of a
// call, is slower, and nothing is lost.
func TestMemory(t *testing.T) {
	for _, who := range []string{"consumer", "provider"} {
		t.Run(who, func(t *testing.T) {
			n := newNode(t, 2, 100<<10, 4*time.Minute)
			k := lanetest.Consumer{
				Target: vip4 + ":20880", Conns: 3, Calls: 1500, Depth: 64, Seed: 5, Size: 100 << 10, Lane: 100, Most: 100 << 10,
			}
			const sockets = 1 << 20
			if who == "consumer" {
				k.Cgroup = n.limited(n.consumer, sockets)
			} else {
				n.Must(n.processes[0].Kill())
				<-n.processes[0].Done()
				n.provide(0, k.Most, n.limited(n.providers[0], sockets))
			}
			r := n.consume(k)()
			n.judge(k, r)
			t.Logf("%d calls, %d in the lane, %v by provider", r.Answered, n.took(), r.By)
		})
	}
}
