// Package demo shows the mesh on three pods of this machine: a real dubbo-go
// consumer and two versions of a real dubbo-go provider (module peers), real
// eBPF, dubway-agent, and dubway-proxy without privileges. It tells what it does
// and shows what comes of it; it fails if that is not what it told.
//
// Its pods are network namespaces of package testnet. Whatever ends it, nothing
// of it stays; after a kill -9 the next run removes the rest first.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dubway/dubway/internal/testnet"
)

// tag names the demo's nodes.
const tag = "demo"

// Options say where the demo finds what it runs.
type Options struct {
	Out io.Writer
	// Bin is the directory of dubway-agent and dubway-proxy.
	Bin string
	// Peers is the source directory of module peers; it is built into Bin.
	Peers string
}

// ErrUnable says that this machine cannot run the demo; what it would have shown
// has been told.
var ErrUnable = errors.New("the demo needs root and a Linux kernel with cgroup2 and eBPF")

// Run shows everything and cleans up, also when the context ends.
func Run(ctx context.Context, options Options) (err error) {
	s, err := build(ctx, options)
	if err != nil {
		return err
	}
	defer func() {
		s.sayf("\nCleaning up.")
		err = errors.Join(err, s.node.Close())
	}()
	if err := s.show(ctx, []step{
		(*stage).unmeshed, (*stage).switchOn, (*stage).half, (*stage).checkout, (*stage).kill, (*stage).evidence,
	}); err != nil {
		return err
	}
	s.sayf("\nThat was the demo. `dubwayctl demo up` leaves it standing for exploring.")
	return nil
}

// Up shows the mesh being switched on and leaves it standing.
func Up(ctx context.Context, options Options) error {
	s, err := build(ctx, options)
	if err != nil {
		return err
	}
	if err := s.show(ctx, []step{(*stage).unmeshed, (*stage).switchOn}); err != nil {
		return errors.Join(err, s.node.Close())
	}
	ctl := filepath.Join(options.Bin, "dubwayctl")
	s.sayf(`
It stays up; the consumer goes on calling. Try
  %[1]s --state-dir %[2]s status          also: workloads, routes, explain
  $EDITOR %[2]s/xds/routes.yaml           the proxy follows
  tail -f %[2]s/logs/consumer.log         who answers
  tail -f %[2]s/logs/proxy.log            the access log
  %[1]s demo exec consumer -- COMMAND     any command as a pod: consumer, provider-v1, provider-v2
  %[1]s demo down                         remove it all`, ctl, s.node.StateDir())
	s.node.Leave()
	return nil
}

// Down removes what Up, or a killed Run, left.
func Down(_ context.Context, options Options) error {
	if live := testnet.Live(tag); len(live) > 0 {
		return fmt.Errorf("remove demo: %s is being shown by a running process: stop that", live[0])
	}
	removed, err := testnet.CleanStale(tag)
	if err != nil {
		return err
	}
	if len(removed) == 0 {
		_, _ = fmt.Fprintln(options.Out, "no demo is up")
	}
	for _, name := range removed {
		_, _ = fmt.Fprintln(options.Out, "removed", name)
	}
	return nil
}

// Exec runs a command as one of the pods of a demo that is up: in its network
// namespace and its cgroup, so that the mesh takes it for the pod.
func Exec(ctx context.Context, pod string, command []string) error {
	left := testnet.Left(tag)
	if len(left) == 0 {
		return errors.New("run as pod: no demo is up (dubwayctl demo up)")
	}
	node, err := testnet.Open(left[0])
	if err != nil {
		return err
	}
	p := node.Pod(pod)
	if p == nil {
		names := slices.DeleteFunc(node.PodNames(), func(name string) bool { return name == "dubway" })
		slices.Sort(names)
		return fmt.Errorf("run as pod: no pod %q, there are %s", pod, strings.Join(names, ", "))
	}
	return p.Run(ctx, command[0], command[1:]...)
}

// build makes pods and binaries, or tells why it cannot.
func build(ctx context.Context, options Options) (*stage, error) {
	s := &stage{out: options.Out, options: options}
	if err := s.allowed(os.Geteuid()); err != nil {
		return nil, err
	}
	if live := testnet.Live(tag); len(live) > 0 {
		return nil, fmt.Errorf("a demo is being shown already (%s)", live[0])
	}
	removed, err := testnet.CleanStale(tag)
	if err != nil {
		return nil, err
	}
	for _, name := range removed {
		s.sayf("Removed what an earlier demo left: %s", name)
	}
	if options.Bin, err = filepath.Abs(options.Bin); err != nil {
		return nil, fmt.Errorf("find the binaries: %w", err)
	}
	peers := filepath.Join(options.Bin, "demo-peers")
	s.sayf("Building the demo's application with real dubbo-go (the first time takes a minute or two).")
	if err := testnet.Build(ctx, options.Peers, peers); err != nil {
		return nil, err
	}
	s.peers = peers
	s.node, err = testnet.New(testnet.Options{
		Tag:   tag,
		Agent: filepath.Join(options.Bin, "dubway-agent"), Proxy: filepath.Join(options.Bin, "dubway-proxy"),
	})
	if err != nil {
		s.sayf("%s", explanation)
		return nil, fmt.Errorf("%w: %w", ErrUnable, err)
	}
	if err := s.populate(ctx); err != nil {
		return nil, errors.Join(err, s.node.Close())
	}
	return s, nil
}

// allowed refuses whoever cannot make namespaces, and tells what they miss.
func (s *stage) allowed(uid int) error {
	if uid == 0 {
		return nil
	}
	s.sayf("%s", explanation)
	return fmt.Errorf("%w: this is uid %d", ErrUnable, uid)
}

// explanation is what is told where the demo cannot run.
const explanation = `The demo makes three network namespaces as pods: a dubbo-go consumer and two
versions of a dubbo-go provider. It would show
  1. calls flowing without a mesh, consumer to provider v1;
  2. the mesh switched on under them: dubway-agent loads eBPF programs that steer
     the consumer's connections into dubway-proxy, an unprivileged process, which
     decodes each Dubbo call and routes it: 90 % to v1, 10 % to v2;
  3. one file edited, and the calls split 50/50, live;
  4. one method, checkout, routed to v2 alone;
  5. a provider killed, and the calls going on;
  6. the metrics and the access log of all that.
For that it needs root (network namespaces, cgroups, eBPF) and changes nothing of
this machine's own network.
`

// step is one part of the show.
type step func(*stage, context.Context) error

// stage is a demo that is being shown.
type stage struct {
	out     io.Writer
	options Options
	peers   string // the binary
	node    *testnet.Node
	number  int

	consumer, v1, v2 *testnet.Pod
	provider2        *testnet.Process
	proxy            *testnet.Process
	calls            reader
}

func (s *stage) sayf(format string, args ...any) {
	_, _ = fmt.Fprintf(s.out, format+"\n", args...)
}

// caption begins a part.
func (s *stage) captionf(format string, args ...any) {
	s.number++
	s.sayf("\n%d. "+format, append([]any{s.number}, args...)...)
}

func (s *stage) show(ctx context.Context, steps []step) error {
	for _, show := range steps {
		if err := show(s, ctx); err != nil {
			return err
		}
	}
	return nil
}

// watch lets the consumer call for a while and tells who answered.
func (s *stage) watch(ctx context.Context, time time.Duration) (*tally, error) {
	if _, err := s.calls.read(); err != nil {
		return nil, err
	}
	if err := pause(ctx, time); err != nil {
		return nil, err
	}
	return s.calls.read()
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("show demo: %w", ctx.Err())
	}
}
