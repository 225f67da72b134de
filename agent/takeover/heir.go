package takeover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/version"
)

// Inheritance is an enrolled pod of the active agent. Immutable; its sockets are the
// Heir's, who closes them.
type Inheritance struct {
	UID       string
	Cookie    uint64
	Steered   bool // it has destinations
	Listeners []handoff.Listener
	Sockets   []*netns.Socket // in the order of Listeners
}

// Offers are listeners that an agent's next turn begins with, by UID.
type Offers map[string][]*netns.Socket

// Close closes them: the turn does not come.
func (o Offers) Close() {
	for _, sockets := range o {
		closeAll(sockets)
	}
}

// Heir is the end of an agent that takes over. Its methods may be called concurrently.
type Heir struct {
	conn    conn
	release string // of the active agent
	abi     int
	gone    chan struct{} // closed when the active agent is
	yielded chan struct{} // closed when it has yielded

	mu      sync.Mutex
	pods    map[string]*Inheritance // nil after Take
	told    bool
	changed chan struct{}
}

// Meet connects to the active agent of a node's directory, as an agent whose maps are
// of an ABI, and hears who it is. The caller closes the Heir, at the end of its life.
func Meet(ctx context.Context, dir string, abi int) (*Heir, error) {
	raw, err := handoff.Connect(ctx, Socket(dir))
	if err != nil {
		return nil, err
	}
	h := &Heir{
		conn: conn{raw}, gone: make(chan struct{}), yielded: make(chan struct{}),
		pods: make(map[string]*Inheritance), changed: make(chan struct{}),
	}
	if err := h.greet(ctx, abi); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("take over from the active agent: %w", err)
	}
	go h.read()
	return h, nil
}

func (h *Heir) greet(ctx context.Context, abi int) error {
	stop := context.AfterFunc(ctx, func() { _ = h.conn.Close() })
	defer stop()
	watchdog := time.AfterFunc(helloTimeout, func() { _ = h.conn.Close() })
	defer watchdog.Stop()
	if uid := h.conn.PeerUID(); uid != os.Getuid() {
		return fmt.Errorf("its socket is that of user %d, not of %d", uid, os.Getuid())
	}
	ours := &hello{Version: Version, Release: version.Version, ABI: abi}
	if err := h.conn.send(&message{Kind: kindHello, Hello: ours}); err != nil {
		return err
	}
	m, fds, err := h.conn.receive()
	if err != nil {
		return err
	}
	closeFDs(fds)
	switch m.Kind {
	case kindHello:
		h.release, h.abi = m.Hello.Release, m.Hello.ABI
		return nil
	case kindRefused:
		return errors.New(m.Reason)
	default:
		return fmt.Errorf("it says %s before hello", m.Kind)
	}
}

// Release and ABI say who the active agent is.
func (h *Heir) Release() string { return h.release }

// ABI is that of the maps which the active agent pinned.
func (h *Heir) ABI() int { return h.abi }

// Gone is closed when the active agent is gone.
func (h *Heir) Gone() <-chan struct{} { return h.gone }

// Pods returns what the active agent has enrolled, by UID, whether that is all, and a
// channel that is closed when it changes.
func (h *Heir) Pods() (all map[string]*Inheritance, told bool, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.pods), h.told, h.changed
}

// Yield asks the active agent to yield, and returns when it has.
func (h *Heir) Yield(ctx context.Context) error {
	if err := h.conn.send(&message{Kind: kindYield}); err != nil {
		return err
	}
	select {
	case <-h.yielded:
		return nil
	case <-h.gone:
		return errors.New("wait for the active agent to yield: it is gone")
	case <-ctx.Done():
		return fmt.Errorf("wait for the active agent to yield: %w", ctx.Err())
	}
}

// Take returns the listeners that were handed over, by UID; they are the caller's then.
func (h *Heir) Take() Offers {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make(Offers, len(h.pods))
	for uid, pod := range h.pods {
		all[uid] = pod.Sockets
	}
	h.pods = nil
	return all
}

// Serving says that our proxy serves.
func (h *Heir) Serving() error { return h.conn.send(&message{Kind: kindServing}) }

// Close ends the connection: who has yielded takes its turn back, if it still runs.
func (h *Heir) Close() {
	_ = h.conn.Close()
	<-h.gone
	h.Take().Close()
}

// read hears the active agent until it is gone.
func (h *Heir) read() {
	defer close(h.gone)
	for {
		m, fds, err := h.conn.receive()
		if err != nil {
			return
		}
		switch m.Kind {
		case kindWorkload:
			h.put(inherit(m.Workload, fds))
		case kindGone:
			h.drop(m.UID)
		case kindTold:
			h.change(func() { h.told = true })
		case kindYielded:
			close(h.yielded)
			h.wait()
			return
		default:
			closeFDs(fds)
		}
	}
}

// wait waits for the end of who has yielded, and hears nothing more of pods.
func (h *Heir) wait() {
	for {
		_, fds, err := h.conn.receive()
		if err != nil {
			return
		}
		closeFDs(fds)
	}
}

func inherit(w *workload, fds []int) *Inheritance {
	pod := &Inheritance{UID: w.UID, Cookie: w.Cookie, Steered: w.Steered, Listeners: w.Listeners}
	for _, fd := range fds {
		pod.Sockets = append(pod.Sockets, netns.Keep(fd))
	}
	return pod
}

func (h *Heir) put(pod *Inheritance) {
	h.change(func() {
		if h.pods == nil {
			closeAll(pod.Sockets)
			return
		}
		if old := h.pods[pod.UID]; old != nil {
			closeAll(old.Sockets)
		}
		h.pods[pod.UID] = pod
	})
}

func (h *Heir) drop(uid string) {
	h.change(func() {
		if old := h.pods[uid]; old != nil {
			closeAll(old.Sockets)
			delete(h.pods, uid)
		}
	})
}

func (h *Heir) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	close(h.changed)
	h.changed = make(chan struct{})
}

func closeAll(sockets []*netns.Socket) {
	for _, s := range sockets {
		_ = s.Close()
	}
}
