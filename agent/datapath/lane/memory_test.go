package lane_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath/host"
	"github.com/dubway/dubway/agent/datapath/lane/lanetest"
	"github.com/dubway/dubway/internal/lane"
)

// memoryV1 is where version 1 of the memory controller is mounted, where it is.
const memoryV1 = "/sys/fs/cgroup/memory"

// pod is a cgroup with memory of its own. The test's process enters it to make sockets, and leaves
// it: nobody is there whom the kernel could kill to make room.
type pod struct {
	t    *testing.T
	dir  string
	out  string // where the process is otherwise
	v1   bool
	held []byte
}

func newPod(t *testing.T, r *lanetest.Rig) *pod {
	t.Helper()
	p := &pod{t: t, dir: filepath.Join(memoryV1, filepath.Base(r.Options.Cgroup)), v1: true}
	if _, err := os.Stat(filepath.Join(memoryV1, "memory.kmem.tcp.limit_in_bytes")); err == nil {
		p.out = filepath.Join(memoryV1, cgroupOf(t, ":memory:"))
	} else {
		// A cgroup that shares its memory out has no processes of its own.
		root, err := host.FindCgroupRoot()
		lanetest.Must(t, err)
		p.dir, p.out, p.v1 = filepath.Join(r.Options.Cgroup, "pod"), filepath.Join(r.Options.Cgroup, "out"), false
		lanetest.Must(t, os.Mkdir(p.out, 0o755))
		p.enter(p.out)
		t.Cleanup(func() {
			p.enter(root)
			lanetest.Must(t, os.Remove(p.out))
		})
		for _, dir := range []string{root, r.Options.Cgroup} {
			lanetest.Must(t, os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+memory"), 0o600))
		}
	}
	lanetest.Must(t, os.Mkdir(p.dir, 0o755))
	t.Cleanup(func() {
		if p.held != nil {
			lanetest.Must(t, unix.Munmap(p.held))
		}
		lanetest.Eventually(t, "the cgroup can be removed", func() bool { return os.Remove(p.dir) == nil })
	})
	return p
}

// cgroupOf is this process's in a hierarchy.
func cgroupOf(t *testing.T, hierarchy string) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	lanetest.Must(t, err)
	for line := range strings.Lines(string(text)) {
		if _, path, ok := strings.Cut(strings.TrimSpace(line), hierarchy); ok {
			return path
		}
	}
	t.Fatalf("no hierarchy %q in %q", hierarchy, text)
	return ""
}

func (p *pod) enter(dir string) {
	p.t.Helper()
	lanetest.Must(p.t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, os.Getpid()), 0o600))
}

func (p *pod) set(file string, value any) {
	p.t.Helper()
	lanetest.Must(p.t, os.WriteFile(filepath.Join(p.dir, file), fmt.Append(nil, value), 0o600))
}

// within does something inside.
func (p *pod) within(f func()) {
	p.t.Helper()
	p.enter(p.dir)
	defer p.enter(p.out)
	f()
}

// fill leaves the cgroup 512 KiB, of which no reclaim makes more.
func (p *pod) fill() {
	p.t.Helper()
	p.within(func() {
		var err error
		p.held, err = unix.Mmap(-1, 0, 16<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		lanetest.Must(p.t, err)
		for i := 0; i < len(p.held); i += os.Getpagesize() {
			p.held[i] = 1
		}
	})
	text, err := os.ReadFile(filepath.Join(p.dir, "memory.current"))
	lanetest.Must(p.t, err)
	used, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	lanetest.Must(p.t, err)
	p.set("memory.max", used+512<<10)
}

// answers are of 20 to 80 KB, of which some are more than the cgroup has.
func answers(p *lanetest.Provider) {
	p.Size = func(id uint64) int { return 20_000 + answerSize(id)*30 }
}

// burst makes calls that together want more memory than there is.
func (w *world) burst() (requests, back uint64) {
	w.t.Helper()
	l := w.proxy.Lane()
	requests, back = atomic.LoadUint64(&l.Requested), atomic.LoadUint64(&l.Answered)
	for range 4 {
		w.send(w.calls(32, lane.Hessian2, "echo", 100_000), lanetest.Named("one write each"))
	}
	w.settle()
	return atomic.LoadUint64(&l.Requested) - requests, atomic.LoadUint64(&l.Answered) - back
}

// TestMemoryOfPods: who would be sent more than its cgroup has memory for gets it by TCP, every
// byte of it.
func TestMemoryOfPods(t *testing.T) {
	for _, provider := range []bool{true, false} {
		t.Run(fmt.Sprintf("provider=%t", provider), func(t *testing.T) {
			r := lanetest.New(t, 8)
			p := newPod(t, r)
			side := r.Consumer
			if provider {
				side = r.Provider
			}
			side.Within = p.within
			if p.v1 {
				p.set("memory.kmem.tcp.limit_in_bytes", 1<<20)
			}
			if p.v1 && !provider {
				consumerIsLimited(t, r)
				return
			}
			w := newWorld(t, r, lanetest.Families[0], 1, 32, answers)
			lanetest.Must(t, w.proxy.Open(0))
			if p.v1 {
				if requests, _ := w.burst(); requests > 0 || w.proxy.Lane().Scarce == 0 {
					t.Errorf("%d requests took the lane; %s", requests, w)
				}
				return
			}
			if requests, back := w.burst(); requests == 0 || back == 0 || w.proxy.Lane().Scarce > 0 {
				t.Errorf("before: %s", w)
			}
			p.fill()
			requests, back := w.burst()
			if w.proxy.Lane().Scarce == 0 || provider && requests > 0 || back > 0 {
				t.Errorf("with no memory: %d requests and %d answers took the lane; %s", requests, back, w)
			}
			p.set("memory.max", "max")
			lanetest.Must(t, w.proxy.Close())
			lanetest.Must(t, w.proxy.Open(0))
			if requests, back := w.burst(); requests == 0 || back == 0 {
				t.Errorf("with memory again: %d requests and %d answers took the lane; %s", requests, back, w)
			}
		})
	}
}

// consumerIsLimited: its socket is in no map.
func consumerIsLimited(t *testing.T, r *lanetest.Rig) {
	t.Helper()
	before, err := r.Lane.Counts()
	lanetest.Must(t, err)
	c := r.DialConsumer(lanetest.Families[0])
	if s := lanetest.Ask(t, c.Proxy, lane.AskState, 0); s.Peer != 0 {
		t.Errorf("the consumer's socket joined the lanes: %+v", s)
	}
	after, err := r.Lane.Counts()
	lanetest.Must(t, err)
	if n := after["lane_consumer_limited"] - before["lane_consumer_limited"]; n != 1 {
		t.Errorf("%d consumers were limited, not one", n)
	}
}
