package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dubway/dubway/internal/testnet"
)

// port is where the providers serve.
const port = 20880

// window is how long the calls are watched in each part.
const window = 2 * time.Second

// startTime bounds how long a process may take to be ready.
const startTime = 30 * time.Second

// populate makes the pods and starts the application in them. The addresses
// follow from the order; the xDS files name them.
func (s *stage) populate(ctx context.Context) error {
	var err error
	if s.consumer, err = s.node.AddPod("consumer", map[string]string{"app": "consumer", "version": "v1"}); err != nil {
		return err
	}
	if s.v1, err = s.node.AddPod("provider-v1", map[string]string{"app": "provider", "version": "v1"}, port); err != nil {
		return err
	}
	if s.v2, err = s.node.AddPod("provider-v2", map[string]string{"app": "provider", "version": "v2"}, port); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if _, err = s.provide(ctx, s.v1, "v1"); err != nil {
		return err
	}
	if s.provider2, err = s.provide(ctx, s.v2, "v2"); err != nil {
		return err
	}
	consumer, err := s.consumer.Start(testnet.Command{
		Path: s.peers, Args: []string{"consumer", s.v1.Addr(port).String(), "5ms", "1s"},
	})
	if err != nil {
		return err
	}
	s.calls.path = consumer.LogPath()
	return consumer.WaitText(ctx, "browse v1")
}

// provide starts a provider and waits until it listens.
func (s *stage) provide(ctx context.Context, pod *testnet.Pod, version string) (*testnet.Process, error) {
	process, err := pod.Start(testnet.Command{
		Path: s.peers, Args: []string{"provider", version, fmt.Sprint(port)},
	})
	if err != nil {
		return nil, err
	}
	return process, process.WaitFor(ctx, "its port is open", func() bool {
		conn, err := pod.DialContext(ctx, "tcp", pod.Addr(port).String())
		return err == nil && conn.Close() == nil
	})
}

func (s *stage) unmeshed(ctx context.Context) error {
	s.captionf("No mesh yet. The consumer (%s) calls the address of provider v1 (%s).",
		s.consumer.Addresses[0], s.v1.Addr(port))
	seen, err := s.watch(ctx, window)
	if err != nil {
		return err
	}
	return s.expect(seen, seen.version("", "v1") > 0 && seen.version("", "v2") == 0 && seen.failed == 0, "only v1 answers")
}

func (s *stage) switchOn(ctx context.Context) error {
	s.captionf("The mesh is switched on under the running calls: workload and xDS files, agent, proxy.")
	if _, err := s.calls.read(); err != nil {
		return err
	}
	if err := putXDS(s.node); err != nil {
		return err
	}
	pods := []*testnet.Pod{s.consumer, s.v1, s.v2}
	for _, pod := range pods {
		if err := pod.Enroll(); err != nil {
			return err
		}
	}
	starting, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	agent, err := s.node.StartAgent(starting)
	if err != nil {
		return fmt.Errorf("start the mesh: %w", err)
	}
	if s.proxy, err = s.node.StartProxy(starting, "--access-log", "stdout"); err != nil {
		return fmt.Errorf("start the mesh: %w", err)
	}
	if err := s.node.WaitEnrolled(starting, pods...); err != nil {
		return err
	}
	s.sayf("   dubway-agent is pid %d, root; dubway-proxy is pid %d, uid %d without capabilities",
		agent.Pid(), s.proxy.Pid(), testnet.ProxyUID)
	s.sayf("   Connections that are open stay as they are: the consumer opens new ones each second.")
	// Its next connections and one second more.
	if err := pause(ctx, window); err != nil {
		return err
	}
	during, err := s.calls.read()
	if err != nil {
		return err
	}
	if err := s.expect(during, during.failed == 0, "no call fails meanwhile"); err != nil {
		return err
	}
	s.sayf("   routes.yaml says 90 to v1, 10 to v2:")
	seen, err := s.watch(ctx, window)
	if err != nil {
		return err
	}
	return s.expect(seen, share(seen, "", 0.02, 0.25) && seen.failed == 0, "about a tenth goes to v2")
}

func (s *stage) half(ctx context.Context) error {
	s.captionf("One file edited, live: %s.", filepath.Join(s.node.XDSDir(), routesFile))
	if err := s.edit(ctx, "half.yaml"); err != nil {
		return err
	}
	seen, err := s.watch(ctx, window)
	if err != nil {
		return err
	}
	return s.expect(seen, share(seen, "", 0.35, 0.65) && seen.failed == 0, "half goes to v2")
}

func (s *stage) checkout(ctx context.Context) error {
	s.captionf("One method is routed to v2 alone.")
	if err := s.edit(ctx, "checkout.yaml"); err != nil {
		return err
	}
	seen, err := s.watch(ctx, window)
	if err != nil {
		return err
	}
	for _, method := range []string{"browse", "checkout"} {
		s.sayf("   %-9s %s", method+":", seen.shares(method))
	}
	return s.expect(seen, seen.version("checkout", "v1") == 0 && seen.version("checkout", "v2") > 0 &&
		share(seen, "browse", 0.35, 0.65) && seen.failed == 0, "checkout is answered by v2 alone")
}

func (s *stage) kill(ctx context.Context) error {
	s.captionf("Both versions are put into one cluster; then provider v2 is killed (kill -9).")
	if err := s.edit(ctx, "both.yaml"); err != nil {
		return err
	}
	before, err := s.watch(ctx, window/2)
	if err != nil {
		return err
	}
	if err := s.expect(before, share(before, "", 0.3, 0.7) && before.failed == 0, "both answer"); err != nil {
		return err
	}
	if err := s.provider2.Kill(); err != nil {
		return err
	}
	s.sayf("   killed pid %d", s.provider2.Pid())
	if err := pause(ctx, window); err != nil {
		return err
	}
	seen, err := s.calls.read() // from before the kill on
	if err != nil {
		return err
	}
	for _, text := range seen.errors {
		s.sayf("   in flight at the dead provider, and answered at once: %s", text)
	}
	// What was in flight at the provider is lost, and said so; not more.
	return s.expect(seen, seen.version("", "v1") > seen.total()*9/10 && seen.failed <= 16, "the calls go on, to v1")
}

// evidence shows what the node's metrics and access log say of all that.
func (s *stage) evidence(ctx context.Context) error {
	s.captionf("What was counted (http://%s/metrics), as the consumer's side saw it:", s.node.System().Addr(testnet.MetricsPort))
	text, err := s.node.Metrics(ctx)
	if err != nil {
		return err
	}
	found := 0
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "istio_requests_total{") && strings.Contains(line, `reporter="source"`) {
			found++
			s.sayf("   istio_requests_total %s", shorten(line))
		}
	}
	s.sayf("\n   The last five lines of the access log:")
	lines := accessLog(s.proxy.Output())
	for _, line := range lines[max(0, len(lines)-5):] {
		s.sayf("   %s", line)
	}
	if found == 0 || len(lines) < 5 {
		return errors.New("show demo: metrics or access log are missing")
	}
	return nil
}

// edit replaces routes.yaml, shows how and waits until the proxy has it.
func (s *stage) edit(ctx context.Context, name string) error {
	next, err := files.ReadFile(path.Join("steps", name))
	if err != nil {
		return fmt.Errorf("read xds files: %w", err)
	}
	old, err := os.ReadFile(filepath.Join(s.node.XDSDir(), routesFile))
	if err != nil {
		return fmt.Errorf("read xds files: %w", err)
	}
	for _, line := range changes(string(old), string(next)) {
		s.sayf("   %s", line)
	}
	before, err := s.node.ProxyStatus(ctx)
	if err != nil {
		return err
	}
	if err := s.node.PutXDS(routesFile, next); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	return s.proxy.WaitFor(ctx, "taking the file", func() bool {
		status, err := s.node.ProxyStatus(ctx)
		return err == nil && status.Generation > before.Generation
	})
}

// expect shows a tally and fails unless it is as told.
func (s *stage) expect(seen *tally, ok bool, told string) error {
	s.sayf("   %s", seen)
	if ok {
		return nil
	}
	return fmt.Errorf("show demo: %s, but: %s %s", told, seen, strings.Join(seen.errors, "; "))
}

// share tells whether v2's part of a method's calls is between two bounds.
func share(seen *tally, method string, low, high float64) bool {
	v1, v2 := seen.version(method, "v1"), seen.version(method, "v2")
	part := float64(v2) / float64(max(1, v1+v2))
	return part >= low && part <= high
}

// shown are the labels that tell the calls of the demo apart.
var shown = []string{"destination_version", "dubbo_method", "dubbo_result", "response_flags"}

// shorten leaves those labels of a sample, and its value.
func shorten(sample string) string {
	open, end := strings.IndexByte(sample, '{'), strings.LastIndexByte(sample, '}')
	var kept []string
	for label := range strings.SplitSeq(sample[open+1:end], ",") {
		if name, _, _ := strings.Cut(label, "="); slices.Contains(shown, name) {
			kept = append(kept, label)
		}
	}
	return "{" + strings.Join(kept, ",") + "}" + strings.TrimRight(sample[end+1:], "\n")
}

// accessLog returns the lines of the proxy's output that tell of calls.
func accessLog(output string) []string {
	var lines []string
	for line := range strings.Lines(output) {
		if strings.Contains(line, `"dubbo_method"`) {
			lines = append(lines, strings.TrimRight(line, "\n"))
		}
	}
	return lines
}
