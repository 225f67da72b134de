package witness

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/upstream"
	"github.com/dubway/dubway/l7proxy/workload"
)

// The two pods are two addresses of loopback.
const (
	consumerUID = "shop/consumer"
	providerUID = "shop/provider"
)

var (
	consumerAddr = netip.MustParseAddr("127.0.0.1")
	client       = netip.MustParseAddrPort("10.1.1.1:4000")
)

// agent opens sockets as the agent would: one for the consumer's own way comes
// from the consumer's address.
type agent struct {
	mu     sync.Mutex
	asked  []handoff.Dial
	absent bool  // nobody to ask
	denied error // a consumer's way is refused
}

func (a *agent) Dial(_ context.Context, d handoff.Dial) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, d)
	if a.absent {
		return 0, handoff.ErrNotConnected
	}
	if a.denied != nil && d.Workload == consumerUID {
		return 0, a.denied
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	to := &unix.SockaddrInet4{Addr: d.Destination.Addr().As4(), Port: int(d.Destination.Port())}
	if err = unix.Connect(fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

func (a *agent) dials() []handoff.Dial {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]handoff.Dial(nil), a.asked...)
}

// rig is a Dialer, its two pods and the listener at the provider's address.
type rig struct {
	*Dialer

	agent    *agent
	key      upstream.Key
	arrivals chan bool // what Arrived said
}

// newRig starts it. Every connection to the provider is shown to the Dialer if
// show is set, as the inbound listener does.
func newRig(t *testing.T, show bool) *rig {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := sock.AddrPort(l.Addr())
	pods := workload.NewRegistry()
	pods.Put(workload.New(handoff.Workload{UID: consumerUID, Addresses: []netip.Addr{consumerAddr}}))
	pods.Put(workload.New(handoff.Workload{
		UID: providerUID, Addresses: []netip.Addr{endpoint.Addr()}, Ports: []uint16{endpoint.Port()},
	}))
	r := &rig{agent: &agent{}, key: upstream.Key{Workload: consumerUID, Endpoint: endpoint}, arrivals: make(chan bool, 100)}
	r.Dialer = New(r.agent, pods, func(string, netip.AddrPort) {})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conn, err := sock.New(c.(*net.TCPConn))
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			if show {
				go func() { r.arrivals <- r.Arrived(conn, conn.Remote(), conn.Local()) }()
			}
		}
	}()
	t.Cleanup(func() {
		r.Close()
		_ = l.Close()
	})
	return r
}

func (r *rig) dial(t *testing.T, key upstream.Key) upstream.Way {
	t.Helper()
	way, err := r.Dial(t.Context(), key, client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = way.TCP.Close() })
	return way
}

func TestShortCut(t *testing.T) {
	r := newRig(t, true)
	r.arrival = 30 * time.Second // the machine may be busy
	for range 2 {
		if way := r.dial(t, r.key); !way.SameNode {
			t.Error("a witness arrived, and the short cut is not taken")
		}
	}
	near := handoff.Dial{Workload: consumerUID, Destination: r.key.Endpoint}
	short := handoff.Dial{Workload: providerUID, Destination: r.key.Endpoint, Client: client}
	want := []handoff.Dial{near, short, short} // one witness is enough
	got := r.agent.dials()
	if len(got) != len(want) {
		t.Fatalf("%d sockets were opened, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("socket %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	witnesses := 0
	for range want {
		if <-r.arrivals {
			witnesses++
		}
	}
	if witnesses != 1 {
		t.Errorf("%d connections were taken for witnesses, want 1", witnesses)
	}
}

func TestNoShortCut(t *testing.T) {
	tests := []struct {
		name string
		show bool
		set  func(r *rig)
	}{
		{"the witness does not arrive", false, func(*rig) {}},
		{"the endpoint is no enrolled pod", true, func(r *rig) { r.workloads.Remove(providerUID) }},
		{"the consumer is no enrolled pod", true, func(r *rig) { r.workloads.Remove(consumerUID) }},
		{"the port is not enrolled", true, func(r *rig) {
			r.workloads.Put(workload.New(handoff.Workload{UID: providerUID, Addresses: []netip.Addr{r.key.Endpoint.Addr()}, Ports: []uint16{1}}))
		}},
		{"the provider has policies", true, func(r *rig) {
			r.Guard(func(w *workload.Workload, k upstream.Key) bool {
				return w.UID == providerUID && k == r.key
			})
		}},
		{"the provider gets policies meanwhile", true, func(r *rig) {
			asked := false
			r.Guard(func(*workload.Workload, upstream.Key) (now bool) { now, asked = asked, true; return now })
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, test.show)
			test.set(r)
			if way := r.dial(t, r.key); way.SameNode {
				t.Error("the short cut was taken")
			}
			asked := r.agent.dials()
			if last := asked[len(asked)-1]; last != (handoff.Dial{Workload: consumerUID, Destination: r.key.Endpoint}) {
				t.Errorf("the connection is %+v, want the consumer's own", last)
			}
		})
	}
}

// TestOwn: a pod needs no witness for itself.
func TestOwn(t *testing.T) {
	r := newRig(t, true)
	key := r.key
	key.Workload = providerUID
	if way := r.dial(t, key); !way.SameNode {
		t.Error("a pod that calls itself goes the long way")
	}
	if n := len(r.agent.dials()); n != 1 {
		t.Errorf("%d sockets were opened, want 1", n)
	}
}

// TestInbound: the application sees its consumer; nothing is witnessed.
func TestInbound(t *testing.T) {
	r := newRig(t, true)
	if way := r.dial(t, upstream.Key{Workload: providerUID, Endpoint: r.key.Endpoint, Inbound: true, Client: client.Addr()}); way.SameNode {
		t.Error("an inbound connection counts as the short cut")
	}
	want := handoff.Dial{Workload: providerUID, Destination: r.key.Endpoint, Client: client}
	if got := r.agent.dials(); len(got) != 1 || got[0] != want {
		t.Errorf("opened %+v, want %+v", got, want)
	}
}

// TestDenied: a consumer that may not reach the endpoint does not reach it.
func TestDenied(t *testing.T) {
	r := newRig(t, true)
	r.agent.denied = errors.New("denied")
	if _, err := r.Dial(t.Context(), r.key, client); !errors.Is(err, r.agent.denied) {
		t.Errorf("Dial = %v, want the agent's refusal", err)
	}
	for _, d := range r.agent.dials() {
		if d.Workload == providerUID {
			t.Error("the short cut was taken by a consumer without a way")
		}
	}
}

// TestTriedAgain: a first witness in vain is soon tried again, long before a living one
// would be renewed.
func TestTriedAgain(t *testing.T) {
	r := newRig(t, true)
	r.arrival = renewEvery // the machine may be busy
	changed := make(chan struct{}, 1)
	r.changed = func(string, netip.AddrPort) { changed <- struct{}{} }
	r.agent.denied = errors.New("denied")
	if _, err := r.Dial(t.Context(), r.key, client); err == nil {
		t.Fatal("a consumer without a way reached the endpoint")
	}
	r.agent.mu.Lock()
	r.agent.denied = nil
	r.agent.mu.Unlock()
	select {
	case <-changed:
	case <-time.After(renewEvery - firstRetry):
		t.Fatal("no witness was sent again")
	}
	if way := r.dial(t, r.key); !way.SameNode {
		t.Error("the second witness arrived, and the short cut is not taken")
	}
}

// TestNoAgent: nothing is learnt without an agent, and a new connection waits.
func TestNoAgent(t *testing.T) {
	r := newRig(t, true)
	r.agent.absent = true
	near, far, asked := r.try(r.key)
	if near != nil || far != nil || asked {
		t.Errorf("try = %v, %v, %v; want that nothing was learnt", near, far, asked)
	}
	if len(r.attempts) != 0 {
		t.Error("the attempt is kept")
	}
	way := make(chan error, 1)
	go func() {
		key := r.key
		key.Workload = providerUID
		w, err := r.Dial(context.Background(), key, client)
		if err == nil {
			_ = w.TCP.Close()
		}
		way <- err
	}()
	time.Sleep(retryEvery)
	r.agent.mu.Lock()
	r.agent.absent = false
	r.agent.mu.Unlock()
	if err := <-way; err != nil {
		t.Errorf("Dial = %v, want that it waits for the agent", err)
	}
}

// TestArrivedForeign: what the Dialer did not send is not its own.
func TestArrivedForeign(t *testing.T) {
	r := newRig(t, false)
	c := r.dial(t, upstream.Key{Workload: providerUID, Endpoint: r.key.Endpoint}).TCP
	conn, err := sock.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if r.Arrived(conn, conn.Remote(), conn.Local()) {
		t.Error("a connection without an attempt was taken")
	}
	// Another connection of the pod, while a witness is on its way.
	a := &attempt{known: make(chan struct{}), arrived: make(chan *sock.Conn, 1)}
	r.mu.Lock()
	r.attempts[route{from: consumerAddr, to: r.key.Endpoint}] = a
	r.mu.Unlock()
	r.arrival = 30 * time.Second
	said := make(chan bool)
	go func() {
		said <- r.Arrived(conn, netip.AddrPortFrom(consumerAddr, 1), r.key.Endpoint)
		said <- r.Arrived(conn, netip.AddrPortFrom(consumerAddr, 2), r.key.Endpoint)
	}()
	a.local = netip.AddrPortFrom(consumerAddr, 2)
	close(a.known)
	if <-said {
		t.Error("the pod's other connection was taken for the witness")
	}
	if !<-said || <-a.arrived != conn {
		t.Error("the witness was not taken")
	}
}

// TestDialFails returns the kernel's error, and soon.
func TestDialFails(t *testing.T) {
	r := newRig(t, true)
	// A port that is taken and not listened on: nobody else gets it.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: consumerAddr.As4()}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	nobody := netip.AddrPortFrom(consumerAddr, uint16(name.(*unix.SockaddrInet4).Port))
	if _, err = r.Dial(t.Context(), upstream.Key{Workload: consumerUID, Endpoint: nobody}, client); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("Dial = %v, want a refusal", err)
	}
	before := descriptors(t)
	for range 5 {
		_, _ = r.Dial(t.Context(), upstream.Key{Workload: consumerUID, Endpoint: nobody}, client)
	}
	if after := descriptors(t); after > before {
		t.Errorf("failed dials left %d descriptors", after-before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
