// Package witness connects to endpoints, and takes the same-node short cut only
// while a witness lives: a real connection from the consumer's namespace to the
// provider's address and port, the way that the CNI gives it, which arrived at
// our own listener in the provider's namespace. So what NetworkPolicy or routing
// forbids stays forbidden. It chooses no endpoint.
package witness

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/upstream"
	"github.com/dubway/dubway/l7proxy/workload"
)

// connectLimit bounds one connect, retryEvery paces the wait for an agent.
const (
	connectLimit = 5 * time.Second
	retryEvery   = 50 * time.Millisecond
)

// Opener asks the agent for a socket in a pod's namespace.
type Opener interface {
	Dial(ctx context.Context, d handoff.Dial) (fd int, err error)
}

// Dialer implements upstream.Dialer.
type Dialer struct {
	opener    Opener
	workloads *workload.Registry
	changed   func(workload string, endpoint netip.AddrPort)
	guarded   func(provider *workload.Workload, key upstream.Key) bool
	ctx       context.Context //nolint:containedctx // the life of all witnesses, ended by Close
	cancel    context.CancelFunc
	arrival   time.Duration // arrivalLimit, but for tests

	mu        sync.Mutex
	witnesses map[pair]*witness
	attempts  map[route]*attempt
}

var _ upstream.Dialer = (*Dialer)(nil)

// pair is a consumer pod and a provider's address.
type pair struct {
	workload string
	endpoint netip.AddrPort
}

// New returns a Dialer. Changed is called when the way from a workload to an
// endpoint is another than before, so that connections can follow.
func New(o Opener, r *workload.Registry, changed func(workload string, endpoint netip.AddrPort)) *Dialer {
	ctx, cancel := context.WithCancel(context.Background())
	return &Dialer{
		opener: o, workloads: r, changed: changed, ctx: ctx, cancel: cancel, arrival: arrivalLimit,
		guarded:   func(*workload.Workload, upstream.Key) bool { return false },
		witnesses: make(map[pair]*witness), attempts: make(map[route]*attempt),
	}
}

// Guard sets the function that tells whether no neighbour may take the short cut to a
// provider, which judges at its own listener who comes in, or where the way is encrypted.
// Set it before the first Dial. Any goroutine calls it.
func (d *Dialer) Guard(f func(provider *workload.Workload, key upstream.Key) bool) { d.guarded = f }

// Close ends every witness.
func (d *Dialer) Close() { d.cancel() }

// Dial connects to key.Endpoint. Part of upstream.Dialer.
func (d *Dialer) Dial(ctx context.Context, key upstream.Key, client netip.AddrPort) (upstream.Way, error) {
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	ask := handoff.Dial{Workload: key.Workload, Destination: key.Endpoint}
	sameNode := false
	if key.Inbound {
		ask.Client = client
	} else if provider := d.neighbour(key); provider != nil && d.open(ctx, key, provider) {
		sameNode = true
		ask.Workload, ask.Client = provider.UID, client
	}
	c, err := d.connect(ctx, ask)
	if provider := d.neighbour(key); err == nil && sameNode && provider != nil && !d.open(ctx, key, provider) {
		_ = c.Close() // the short cut is forbidden since a moment ago
		sameNode = false
		c, err = d.connect(ctx, handoff.Dial{Workload: key.Workload, Destination: key.Endpoint})
	}
	if err != nil {
		return upstream.Way{}, err
	}
	return upstream.Way{TCP: c.TCP(), SameNode: sameNode}, nil
}

// errFar: a lane leads to pods of this node alone, by the short cut.
var errFar = errors.New("the endpoint is not reached by the short cut")

// Lane connects for a lane of a workload to an endpoint: by the short cut alone, and as
// long as that is open. Client is what the provider's application is to see.
func (d *Dialer) Lane(ctx context.Context, from string, endpoint, client netip.AddrPort) (*sock.Conn, error) {
	key := upstream.Key{Workload: from, Endpoint: endpoint}
	provider := d.neighbour(key)
	if provider == nil || !d.open(ctx, key, provider) {
		return nil, errFar
	}
	c, err := d.connect(ctx, handoff.Dial{Workload: provider.UID, Destination: endpoint, Client: client, Lane: true})
	if err != nil {
		return nil, err
	}
	if provider := d.neighbour(key); provider == nil || !d.open(ctx, key, provider) {
		_ = c.Close()
		return nil, errFar // since a moment ago
	}
	return c, nil
}

// Near tells whether a lane of a workload to an endpoint may be: the short cut is open.
func (d *Dialer) Near(ctx context.Context, from string, endpoint netip.AddrPort) bool {
	key := upstream.Key{Workload: from, Endpoint: endpoint}
	provider := d.neighbour(key)
	return provider != nil && d.open(ctx, key, provider)
}

// open tells whether the short cut to a neighbour may be taken. A pod's way to itself
// is always open.
func (d *Dialer) open(ctx context.Context, key upstream.Key, provider *workload.Workload) bool {
	return provider.UID == key.Workload || !d.guarded(provider, key) && d.allowed(ctx, key)
}

// neighbour returns the provider if it is an enrolled pod of this node that
// serves the endpoint. A pod is its own neighbour, without a witness.
func (d *Dialer) neighbour(key upstream.Key) *workload.Workload {
	w := d.workloads.ByAddress(key.Endpoint.Addr())
	if w == nil || !w.Serves(key.Endpoint) {
		return nil
	}
	return w
}

// connect opens a socket and waits until it is connected.
func (d *Dialer) connect(ctx context.Context, ask handoff.Dial) (*sock.Conn, error) {
	fd, err := d.opener.Dial(ctx, ask)
	for errors.Is(err, handoff.ErrNotConnected) && pause(ctx) {
		// The agent restarts: what needs a new connection waits for it.
		fd, err = d.opener.Dial(ctx, ask)
	}
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	if err := await(ctx, fd); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	tcp, err := sock.FromFD(fd)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	c, err := sock.New(tcp)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return c, nil
}

// pause waits a moment; false if ctx ended.
func pause(ctx context.Context) bool {
	t := time.NewTimer(retryEvery)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// await waits for a connecting socket. It closes fd on error.
func await(ctx context.Context, fd int) error {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("duplicate socket: %w", err)
	}
	f := os.NewFile(uintptr(dup), "connecting")
	defer func() { _ = f.Close() }()
	err = settle(ctx, f)
	if err != nil {
		_ = unix.Close(fd)
	}
	return err
}

// settle waits until the socket is connected or has failed.
func settle(ctx context.Context, f *os.File) error {
	if deadline, ok := ctx.Deadline(); ok {
		if err := f.SetWriteDeadline(deadline); err != nil {
			return fmt.Errorf("set deadline: %w", err)
		}
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("get raw socket: %w", err)
	}
	var result error
	err = raw.Write(func(fd uintptr) bool {
		n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			result = err
			return true
		case n != 0:
			result = syscall.Errno(n)
			return true
		}
		_, err = unix.Getpeername(int(fd))
		return err == nil
	})
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	return result
}
