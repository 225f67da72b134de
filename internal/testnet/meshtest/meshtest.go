// Package meshtest is a node of package testnet as a test sees it: with its
// agent and proxy built once for all tests, its clean-up, its time limit, and
// the logs of every process when the test fails. What a test says to its peers is
// the test's own.
package meshtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
)

// Binaries is where Main puts the programs under test: dubway-agent, dubway-proxy
// and dubwayctl. It is written once, before the tests.
var Binaries string //nolint:gochecknoglobals // built once for all tests

// builtBinaries names the variable by which make says where it has just built the programs.
const builtBinaries = "DUBWAY_BINARIES"

// Main removes what a killed run left of the nodes with these tags, builds the
// programs under test, unless make has, and runs the tests. It returns the process's exit status.
func Main(m *testing.M, tags ...string) int {
	for _, tag := range tags {
		if _, err := testnet.CleanStale(tag); err != nil && os.Getuid() == 0 {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	dir, err := os.MkdirTemp("", "dubway-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// The proxy runs as another user.
	_ = os.Chmod(dir, 0o755)
	if err := programs(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	Binaries = dir
	return m.Run()
}

// programs puts the programs under test into dir.
func programs(dir string) error {
	if built := os.Getenv(builtBinaries); built != "" {
		// Copies: the folder may be one that the proxy's user may not enter.
		if err := os.CopyFS(dir, os.DirFS(built)); err != nil {
			return fmt.Errorf("copy what %s names: %w", builtBinaries, err)
		}
		return nil
	}
	build := exec.Command("go", "build", "-o", dir+"/",
		"github.com/dubway/dubway/cmd/dubway-agent", "github.com/dubway/dubway/cmd/dubway-proxy",
		"github.com/dubway/dubway/cmd/dubwayctl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

// Mesh is one node with its processes, and the test that it belongs to. Its
// methods fail the test; they are for the test's own goroutine.
type Mesh struct {
	*testnet.Node

	T   *testing.T
	Ctx context.Context //nolint:containedctx // the time limit of the whole test
}

// New makes a node whose agent and proxy are not started yet. It ends with the
// test, which has limit for all of it.
func New(t *testing.T, tag string, number int, limit time.Duration) *Mesh {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: network namespaces and BPF")
	}
	n, err := testnet.New(testnet.Options{
		Tag: tag, Number: number,
		Agent: filepath.Join(Binaries, "dubway-agent"), Proxy: filepath.Join(Binaries, "dubway-proxy"),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	m := &Mesh{Node: n, T: t, Ctx: ctx}
	t.Cleanup(func() {
		cancel()
		if t.Failed() {
			m.logs()
		}
		if err := n.Close(); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return m
}

// logs shows the end of each process's log, of lines of the access log but few: what
// went wrong would be lost among them.
func (m *Mesh) logs() {
	files, _ := filepath.Glob(filepath.Join(m.StateDir(), "*", "*.log"))
	more, _ := filepath.Glob(filepath.Join(m.StateDir(), "*.log"))
	for _, f := range append(files, more...) {
		b, _ := os.ReadFile(f)
		var own, calls []string
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, `{"start_time"`) {
				calls = append(calls, line)
			} else {
				own = append(own, line)
			}
		}
		calls = calls[max(len(calls)-2, 0):]
		own = own[max(len(own)-20, 0):]
		m.T.Logf("%s:\n%s%s", filepath.Base(f), strings.Join(calls, ""), strings.Join(own, ""))
	}
}

// Must fails the test at an error.
func (m *Mesh) Must(err error) {
	m.T.Helper()
	if err != nil {
		m.T.Fatal(err)
	}
}

// Pod adds a pod that is enrolled when the agent runs. Its label app is its name
// without a number.
func (m *Mesh) Pod(name string, ports ...uint16) *testnet.Pod {
	m.T.Helper()
	p, err := m.AddPod(name, map[string]string{"app": strings.TrimRight(name, "-0123456789")}, ports...)
	m.Must(err)
	m.Must(p.Enroll())
	return p
}

// Start starts agent and proxy, with more arguments for the proxy, and waits
// until the pods are enrolled.
func (m *Mesh) Start(pods []*testnet.Pod, args ...string) (agent, proxy *testnet.Process) {
	m.T.Helper()
	agent, err := m.StartAgent(m.Ctx)
	m.Must(err)
	proxy, err = m.StartProxy(m.Ctx, append([]string{"--access-log", "stdout"}, args...)...)
	m.Must(err)
	m.Must(m.WaitEnrolled(m.Ctx, pods...))
	m.Eventually("steering in force", func() bool {
		s, err := m.AgentStatus(m.Ctx)
		return err == nil && s.Generation > 0
	})
	return agent, proxy
}

// Eventually waits for a condition, a minute at most: the machine may be busy.
func (m *Mesh) Eventually(what string, ok func() bool) {
	m.T.Helper()
	for range 1200 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	m.T.Fatalf("waited in vain: %s", what)
}

// Counted waits until the samples whose lines begin with prefix and hold all the
// parts sum to want.
func (m *Mesh) Counted(prefix string, want int, parts ...string) {
	m.T.Helper()
	var got int
	for range 1200 {
		if got = m.Sum(prefix, parts...); got == want {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	m.T.Errorf("%s%v sums to %d, want %d", prefix, parts, got, want)
}

// Sum adds up the samples whose lines begin with prefix and hold all the parts.
func (m *Mesh) Sum(prefix string, parts ...string) int {
	m.T.Helper()
	text, err := m.Metrics(m.Ctx)
	m.Must(err)
	return SumOf(text, prefix, parts...)
}

// SumOf is Sum of an exposition that was read before.
func SumOf(text, prefix string, parts ...string) int {
	total := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, prefix) || !holds(line, parts) {
			continue
		}
		fields := strings.Fields(line)
		if v, err := strconv.ParseFloat(fields[len(fields)-1], 64); err == nil {
			total += int(v)
		}
	}
	return total
}

// CountLines counts the lines of a text that hold all the parts.
func CountLines(text string, parts ...string) (n int) {
	for line := range strings.Lines(text) {
		if holds(line, parts) {
			n++
		}
	}
	return n
}

func holds(line string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(line, p) {
			return false
		}
	}
	return true
}
