// Package selftest tries on the kernel that runs what lanes depend on: small versions of
// every behaviour that is undocumented or has differed between kernels, by the very
// programs that lanes have, in maps and a network namespace that nobody else sees. It
// takes a fraction of a second, and says in words what does not work.
//
// It tries behaviours, not loads: that a lane works for weeks is the soak's to show
// (../builds.txt).
package selftest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	agent "github.com/dubway/dubway/agent/datapath/lane"
	"github.com/dubway/dubway/bpf"
	"github.com/dubway/dubway/internal/lane"
)

// How long all of it may take, and how long nothing may arrive: a kernel on which bytes do not
// arrive is not waited for, and a busy node, where each waits its turn, is no such kernel.
const (
	limit    = time.Minute
	patience = 15 * time.Second
)

// Run returns nil if lanes work on this kernel, and else what does not. The programs are
// attached to the cgroup for as long as it runs, and see no socket but the test's; the
// calling process must be below it.
func Run(ctx context.Context, cgroup string) error {
	spec, err := bpf.LoadLane()
	if err != nil {
		return fmt.Errorf("read programs: %w", err)
	}
	return try(ctx, spec, agent.Options{Cgroup: cgroup})
}

func try(ctx context.Context, spec *ebpf.CollectionSpec, opts agent.Options) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the namespace goes with the thread
		done <- run(ctx, spec, opts)
	}()
	return <-done
}

func run(ctx context.Context, spec *ebpf.CollectionSpec, opts agent.Options) error {
	if err := enter(); err != nil {
		return err
	}
	steer, err := bpf.LoadSteer()
	if err != nil {
		return fmt.Errorf("read programs: %w", err)
	}
	sockets, err := ebpf.NewMap(steer.Maps[bpf.SteerMapSockets])
	if err != nil {
		return fmt.Errorf("make map: %w", err)
	}
	defer sockets.Close()
	opts.Sockets, opts.Lanes, opts.Logger = sockets, len(families), slog.New(slog.DiscardHandler)
	programs, err := agent.Private(spec, opts)
	if err != nil {
		return err
	}
	defer programs.Close()
	memory, err := mapped(programs)
	if err != nil {
		return err
	}
	defer memory.Close()
	netns, err := cookie()
	if err != nil {
		return err
	}
	if err := programs.Workload(netns, true); err != nil {
		return err
	}
	for i, f := range families {
		w := &watch{over: ctx.Done(), moved: time.Now()}
		b := &bench{watch: w, programs: programs, sockets: sockets, memory: memory, number: uint32(i)}
		if err := b.run(f); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

func mapped(programs *agent.Lane) (*lane.Memory, error) {
	files, err := programs.Files()
	if err != nil {
		return nil, err
	}
	memory, err := lane.Open(files, programs.Sizes())
	for _, f := range files {
		err = errors.Join(err, f.Close())
	}
	return memory, err
}

// bench is one connection of a consumer and one to a provider, and the proxy's ends of both.
type bench struct {
	watch      *watch
	programs   *agent.Lane
	sockets    *ebpf.Map
	memory     *lane.Memory
	number     uint32 // of the lane, and of the connections
	id         uint64 // of the last frame
	c, a, p, b socket // as of bpf/lane_maps.h
}

// run tries all behaviours, one after the other on the same connections.
func (b *bench) run(f family) (err error) {
	defer func() {
		for _, s := range []socket{b.c, b.a, b.p, b.b} {
			s.close()
		}
	}()
	b.c, b.a, err = f.connect(b.watch, func(fd int) error {
		return b.sockets.Put(uint32(fd), &bpf.SteerSocket{Role: bpf.SteerSocketRoleConsumer, Flow: bpf.SteerFlow{Laned: 1}})
	})
	if err != nil {
		return err
	}
	if b.b, b.p, err = f.connect(b.watch, b.programs.Mark); err != nil {
		return err
	}
	for _, s := range steps {
		if err := s.try(b); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	return nil
}

// lane is what programs and proxy know of the lane.
func (b *bench) lane() *lane.Lane { return &b.memory.Lanes[b.number] }

// ask asks the programs of one of the proxy's sockets.
func ask(s socket, question, place int) (lane.State, error) {
	state, err := lane.Ask(s.fd, question, place)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return state, errors.New("the programs know nothing of the test's sockets: " +
			"is this process below the cgroup that they are attached to (--cgroup)?")
	}
	return state, err
}

// until waits for a state of the other end of one of the proxy's sockets.
func (b *bench) until(s socket, what string, is func(lane.State) bool) error {
	for {
		state, err := ask(s, lane.AskState, 0)
		if err != nil || is(state) {
			return err
		}
		if b.watch.late() {
			return fmt.Errorf("%s: never, but %+v", what, state)
		}
		time.Sleep(time.Millisecond)
	}
}
