package peers

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// kind is an implementation of Dubbo, by the name of its build.
type kind string

const (
	java33   kind = "java-3.3.6"
	java32   kind = "java-3.2.16"
	java26   kind = "java-2.6.12" // com.alibaba's
	dubboGo  kind = "dubbo-go"
	port          = 20880
	portName      = ":20880"
)

func (k kind) java() bool { return strings.HasPrefix(string(k), "java") }

// command is how a peer is started. A JVM is told to start fast, not to run fast.
func (k kind) command(role string, args ...string) (testnet.Command, error) {
	if !k.java() {
		return testnet.Command{Path: filepath.Join(built, string(k)), Args: append([]string{role}, args...)}, nil
	}
	java, err := exec.LookPath("java")
	if err != nil {
		return testnet.Command{}, fmt.Errorf("find java: %w", err)
	}
	dir := filepath.Join(built, string(k))
	flags := []string{
		"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m",
		"--add-opens", "java.base/java.lang=ALL-UNNAMED", "--add-opens", "java.base/java.math=ALL-UNNAMED",
		"--add-opens", "java.base/java.util=ALL-UNNAMED",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-Ddubbo.service.shutdown.wait=1000",
		"-cp", dir + "/classes:" + dir + "/lib/*",
	}
	for len(args) > 0 && strings.HasPrefix(args[0], "-D") {
		flags, args = append(flags, args[0]), args[1:]
	}
	main := map[string]string{"provider": "Provider", "consumer": "Consumer"}[role]
	if k == java26 {
		main = "old." + main
		flags = append(flags, "-Ddubbo.application.logger=jcl", "-Dorg.apache.commons.logging.Log=org.apache.commons.logging.impl.NoOpLog")
	}
	main = "org.dubway.test." + main
	return testnet.Command{Path: java, Args: append(append(flags, main), args...)}, nil
}

// provide starts a provider in a pod; the result waits until it listens, and until
// it has exported its services: Java listens before. More is flags of the JVM, and
// then a registry.
func provide(m *meshtest.Mesh, p *testnet.Pod, k kind, more ...string) (started *testnet.Process, ready func()) {
	m.T.Helper()
	flags := 0
	for flags < len(more) && strings.HasPrefix(more[flags], "-D") {
		flags++
	}
	c, err := k.command("provider", slices.Concat(more[:flags], []string{fmt.Sprint(port), p.Name}, more[flags:])...)
	m.Must(err)
	c.Name = p.Name + "-provider"
	started, err = p.Start(c)
	m.Must(err)
	return started, func() {
		m.T.Helper()
		m.Must(started.WaitFor(m.Ctx, "port "+fmt.Sprint(port), func() bool {
			return strings.Contains(started.Output(), "READY") && p.Listens(port)
		}))
	}
}

// sleeping waits until a provider has been asked to sleep so many times.
func sleeping(ctx context.Context, provider *testnet.Process, calls int) error {
	return provider.WaitFor(ctx, "calls in flight", func() bool {
		return strings.Count(provider.Output(), "sleeping\n") >= calls
	})
}

// consumer is a running consumer, which does one job after the other.
type consumer struct {
	kind kind
	pod  *testnet.Pod
	proc *testnet.Process
	in   *os.File
	jobs int
	read int // bytes of its output that are done with
}

// consume starts a consumer in a pod; it is ready when its first job is done.
func consume(m *meshtest.Mesh, p *testnet.Pod, k kind, flags ...string) *consumer {
	m.T.Helper()
	c, err := k.command("consumer", flags...)
	m.Must(err)
	out, in, err := os.Pipe()
	m.Must(err)
	c.Name, c.Stdin = p.Name+"-consumer", out
	proc, err := p.Start(c)
	m.Must(err)
	m.Must(out.Close())
	m.T.Cleanup(func() { _ = in.Close() })
	return &consumer{kind: k, pod: p, proc: proc, in: in}
}

// thrown is one exception of a chain, outermost first.
type thrown struct {
	Class   string
	Code    int // an RpcException's, else -1
	Message string
}

// report is what a consumer says of one check.
type report struct {
	Job, Check, Detail string
	OK                 bool
	MS                 int64
	Exception          []thrown
}

// text is what was thrown, on one line.
func (r report) text() string {
	var b strings.Builder
	for _, t := range r.Exception {
		fmt.Fprintf(&b, " <- %s(%d) %.160s", t.Class, t.Code, t.Message)
	}
	return strings.TrimPrefix(b.String(), " <- ")
}

// do gives the consumer a job and returns its reports by check.
func (c *consumer) do(ctx context.Context, t *testing.T, format string, args ...any) map[string]report {
	t.Helper()
	return c.begin(t, format, args...)(ctx)
}

// begin gives the consumer a job; the result waits for its reports.
func (c *consumer) begin(t *testing.T, format string, args ...any) func(context.Context) map[string]report {
	t.Helper()
	c.jobs++
	id := fmt.Sprint(c.jobs)
	if _, err := fmt.Fprintf(c.in, "id=%s "+format+"\n", append([]any{id}, args...)...); err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context) map[string]report {
		t.Helper()
		all := map[string]report{}
		err := c.proc.WaitFor(ctx, "the end of a job", func() bool { return c.next(id, all) })
		if err != nil {
			t.Fatalf("%s: %v; so far %v", c.kind, err, all)
		}
		return all
	}
}

// next reads what the consumer has said since, and tells whether a job has ended.
func (c *consumer) next(id string, all map[string]report) bool {
	output := c.proc.Output()[c.read:]
	for line := range strings.Lines(output) {
		if !strings.HasSuffix(line, "\n") {
			return false
		}
		c.read += len(line)
		var r report
		if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &r) != nil || r.Job != id {
			continue
		}
		if r.Check == "end" {
			return true
		}
		all[r.Check] = r
	}
	return false
}

// agree waits until log and metric both say want, and not more.
func agree(t *testing.T, what string, want int, counts func() (lines, samples int)) {
	t.Helper()
	var lines, samples int
	for range 1200 {
		if lines, samples = counts(); lines >= want && samples >= want {
			break
		}
		time.Sleep(25 * time.Millisecond)
	}
	if lines != want || samples != want {
		t.Errorf("%s: %d requests by the log, %d by the metric, want %d", what, lines, samples, want)
	}
}
