package lanetest_test

import (
	"cmp"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/lanetest"
)

// laneC builds the application in C (test/lane-c), once.
var laneC = sync.OnceValues(func() (string, error) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	if text, err := exec.Command("make", "-C", root, "build/peers/lane-c").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the application in C: %w\n%s", err, text)
	}
	return filepath.Join(root, "build", "peers", "lane-c"), nil
})

// inC is what a consumer or provider in C is told beside what all are.
type inC struct {
	shape   string // "": any
	threads int    // that write to each socket; 0: one
	free    bool   // they write at the same time, each frame by one call
	pure    bool   // calls alone
	buffer  int    // bytes of sockets' send buffers; 0: as the kernel has them
}

// consumeC is consume of consumers in C.
func (n *node) consumeC(k lanetest.Consumer, c inC) func() lanetest.Result {
	n.T.Helper()
	path, err := laneC()
	n.Must(err)
	n.tags++
	tag := fmt.Sprintf("%d:", n.tags)
	args := []string{"consume", tag, "target=" + k.Target}
	locked, pure := 1, 0
	if c.free {
		locked = 0
	}
	if c.pure {
		pure = 1
	}
	if k.Silence == 0 {
		k.Silence = time.Minute
	}
	for name, value := range map[string]int{
		"first": int(k.First), "conns": k.Conns, "calls": k.Calls, "depth": k.Depth, "seed": int(uint32(k.Seed)), "size": k.Size,
		"huge": k.Huge, "lane": k.Lane, "most": k.Most, "providers": len(n.providers), "silence": int(k.Silence.Seconds()),
		"threads": max(c.threads, 1), "locked": locked, "pure": pure, "buffer": c.buffer,
	} {
		args = append(args, name+"="+strconv.Itoa(value))
	}
	if c.shape != "" {
		args = append(args, "shape="+c.shape)
	}
	proc, err := n.consumer.Start(testnet.Command{Path: path, Args: args, Name: "consumer-c"})
	n.Must(err)
	return n.result(proc, tag)
}

// provideC has a program in C serve in the place of a provider's.
func (n *node) provideC(i, most int) {
	n.T.Helper()
	path, err := laneC()
	n.Must(err)
	n.Must(n.processes[i].Kill())
	<-n.processes[i].Done()
	p := n.providers[i]
	n.processes[i], err = p.Start(testnet.Command{
		Path: path, Args: []string{"provide", strconv.Itoa(i), strconv.Itoa(most), strconv.Itoa(port), strconv.Itoa(bookPort)}, Name: p.Name + "-c",
	})
	n.Must(err)
	n.Eventually("a provider in C listens", func() bool { return p.Listens(bookPort) && p.Listens(port) })
}

// laned is how many requests have taken the lane, however they were answered.
func (n *node) laned() int {
	n.T.Helper()
	return n.Sum("dubway_lane_requests_total")
}

// shapesOfC has, of each shape, how many percent of the requests are in the lane at least, and at
// most: those that are written whole are, but for the first few and what is behind a large one.
var shapesOfC = map[string]struct{ least, most int }{
	"write":                 {60, 100},
	"one write":             {60, 100},
	"writev":                {60, 100},
	"writev of 1024":        {60, 100},
	"sendmmsg":              {60, 100},
	"MSG_MORE":              {60, 100},
	"MSG_DONTWAIT":          {60, 100},
	"TCP_CORK":              {60, 100},
	"no TCP_NODELAY":        {60, 100},
	"sendfile":              {60, 100}, // from 6.5 on
	"splice":                {0, 100},  // where a pipe is full a frame is in two
	"header, then sendfile": {0, 30},
	"header alone":          {0, 30},
	"header split":          {0, 30},
	"names split":           {0, 30},
	"body split":            {0, 30},
	"random chunks":         {0, 50},
	"bytes":                 {0, 30},
	"MSG_ZEROCOPY":          {60, 100},
	"io_uring":              {60, 100},
	"MSG_OOB":               {0, 60}, // an urgent byte has no place: behind it the proxy has all,
}

// paged tells of a kernel that gives a program what sendfile sends page by page: before 6.5.
func paged(t *testing.T) bool {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return cmp.Or(major-6, minor-5) < 0
}

// TestShapesOfC: however a program in C writes, every byte is right at both ends and each call is
// counted once; and what is written whole takes the lane.
func TestShapesOfC(t *testing.T) {
	n := newNode(t, 2, 4<<10, 6*time.Minute*time.Duration(*soak))
	path, err := laneC()
	n.Must(err)
	list, err := exec.Command(path, "shapes").Output()
	n.Must(err)
	all := strings.Split(strings.TrimSpace(string(list)), "\n")
	if len(all) != len(shapesOfC) {
		t.Errorf("%d shapes, of which %d are known", len(all), len(shapesOfC))
	}
	calls := 0
	for i, shape := range all {
		want, known := shapesOfC[shape]
		if !known {
			t.Errorf("%s: nobody knows what to want of it", shape)
		}
		if shape == "sendfile" && paged(t) {
			want.least = 0
		}
		k := lanetest.Consumer{
			Target: vip4 + ":20880", First: uint32(10 * i), Conns: 2, Calls: 4000 * *soak, Depth: 24, Seed: uint64(i + 1), Size: 4 << 10, Huge: 1, Lane: 100, Most: 4 << 10,
		}
		if i%2 == 1 {
			k.Target = "[" + vip6 + "]:20880"
		}
		before := n.laned()
		r := n.consumeC(k, inC{shape: shape, pure: true})()
		calls += r.Answered
		share := 100 * (n.laned() - before) / (k.Conns * k.Calls)
		t.Logf("%s: %d %% of %d requests took the lane; %d reads were woken by nothing", shape, share, r.Answered, r.Woken)
		if len(r.Errors) > 0 || r.Answered != k.Conns*k.Calls {
			t.Errorf("%s: %d answers of %d; errors %q", shape, r.Answered, k.Conns*k.Calls, r.Errors)
		}
		if share < want.least || share > want.most {
			t.Errorf("%s: %d %% took the lane, want %d to %d", shape, share, want.least, want.most)
		}
	}
	n.served(calls, 0)
	n.rested()
	n.recorded(calls)
}

// TestThreadsOfC: two threads of a program in C write to each socket, frames or batches one behind
// the other, or whole frames at the same time.
func TestThreadsOfC(t *testing.T) {
	n := newNode(t, 2, 2<<10, 4*time.Minute*time.Duration(*soak))
	calls, oneWays := 0, 0
	for i, c := range []inC{{threads: 2}, {threads: 2, free: true, shape: "write", buffer: 4 << 20}, {threads: 2, free: true, shape: "sendmmsg", buffer: 4 << 20}} {
		k := lanetest.Consumer{
			Target: vip4 + ":20880", First: uint32(100 * i), Conns: 4, Calls: 10_000 * *soak, Depth: 16, Seed: uint64(i + 1), Size: 8 << 10, Lane: 80, Most: 2 << 10,
		}
		before := n.took()
		r := n.consumeC(k, c)()
		calls, oneWays = calls+r.Answered, oneWays+r.OneWays
		took := n.took() - before
		t.Logf("%+v: %d calls, %d in the lane", c, r.Answered, took)
		if len(r.Errors) > 0 || r.Answered != k.Conns*k.Calls || took < r.Answered/50 {
			t.Errorf("%+v: %d answers of %d, %d in the lane; errors %q", c, r.Answered, k.Conns*k.Calls, took, r.Errors)
		}
	}
	n.served(calls, oneWays)
	n.rested()
	n.recorded(calls + oneWays)
}
