package handoff

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"

	"github.com/dubway/dubway/internal/handoff/holding"
	"github.com/dubway/dubway/internal/handoff/rights"
	"github.com/dubway/dubway/internal/handoff/served"
	"github.com/dubway/dubway/internal/version"
)

// Errors of a Client.
var (
	// ErrNotConnected is returned while there is no agent to ask.
	ErrNotConnected = errors.New("not connected to the agent")
	// ErrReplaced ends Run when a newer proxy took over: drain, do not come back.
	ErrReplaced = errors.New("a newer proxy took over")
)

// Handler takes what the agent tells. The calls come from Run, one after
// another, and are acked when they return; an error goes to the agent, which
// reports it. A Handler must not wait for Client.Dial or Client.Destinations in
// them: their answers come the same way; nor for Client.Sign.
type Handler interface {
	// Workload is a new or changed pod. The files are its listening sockets in
	// the order of w.Listeners, duplicates that are the Handler's to close. After
	// a reconnect they may be the same sockets as before. There are none after Yield.
	Workload(w *Workload, files []*os.File) error
	// WorkloadGone is a pod that left.
	WorkloadGone(uid string) error
	// SnapshotEnd says that every pod has been told since the connection began;
	// those that have not are gone (Client has called WorkloadGone for them).
	SnapshotEnd() error
	// Yield says that another proxy accepts: the files of Workload are to be closed, and
	// what was accepted goes on. It holds until Run returns.
	Yield()
	// Lanes says whether same-node calls may take lanes, and again when that changes. The
	// files are those of their memory, in the order of package lane, and the Handler's to
	// close; there are none where l has no Sizes.
	Lanes(l *Lanes, files []*os.File) error
}

// Client is the proxy's end. It outlives its connections: what it holds of the
// agent's listeners it gives back to the next agent. All methods are safe for
// concurrent use, Run excepted, which one goroutine calls again and again.
type Client struct {
	path     string
	node     string
	instance uint64
	handler  Handler
	log      *slog.Logger

	publish sync.Mutex  // one generation of Destinations at a time
	yielded bool        // in this connection; Run's
	maps    uint64      // of lanes, that the handler took; Run's
	note    served.Lent // by the agent that was connected last; Run's

	mu      sync.Mutex
	conn    *Conn // nil while there is none that has said Hello
	seq     uint64
	pending map[uint64]chan answer

	held holding.Set[*Workload]
}

// answer is a DialResult, a SignResult or an Ack, with the descriptor of the former.
type answer struct {
	message *Message
	fd      int
}

// NewClient makes the client of the agent that listens at path.
func NewClient(path, node string, h Handler, log *slog.Logger) *Client {
	return &Client{path: path, node: node, handler: h, log: log, instance: max(rand.Uint64(), 1),
		pending: make(map[uint64]chan answer)}
}

// Close drops the listeners that the Client holds, and takes no more. It does not
// end Run, which its context does.
func (c *Client) Close() { c.held.Close() }

// Superseded tells whether another agent's proxy serves, as the note says that the last
// agent lent; then the Client lets go of the listeners. It is for who calls Run, between
// two calls: what an agent wants that is there, it says.
func (c *Client) Superseded() bool {
	if !c.note.Another() {
		return false
	}
	c.held.Yield()
	return true
}

// Run connects once and serves the connection until it ends or ctx does. It
// always returns an error that says why; when to come back is the caller's
// business, except after ErrReplaced.
func (c *Client) Run(ctx context.Context) error {
	conn, err := Connect(ctx, c.path)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		stop()
		_ = conn.Close()
		c.disconnect()
	}()
	if err := c.greet(conn); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	c.mu.Lock()
	c.conn = conn
	c.mu.Unlock()
	c.yielded = false
	told := make(map[string]bool)
	for {
		m, fds, err := conn.Receive()
		if err == nil {
			err = c.take(conn, m, fds, told)
		}
		if err != nil {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// greet says Hello and what is held, and waits for the agent's Hello.
func (c *Client) greet(conn *Conn) error {
	hello := &Hello{Version: Version, Release: version.Version, Node: c.node, Instance: c.instance, Maps: c.maps}
	if err := conn.Send(&Message{Kind: KindHello, Hello: hello}); err != nil {
		return err
	}
	if err := c.held.Each(func(w *Workload, fds []int) error {
		return conn.Send(&Message{Kind: KindWorkload, Workload: w}, fds...)
	}); err != nil {
		return err
	}
	if err := conn.Send(&Message{Kind: KindSnapshotEnd}); err != nil {
		return err
	}
	m, fds, err := conn.Receive()
	if err != nil {
		return err
	}
	if m.Kind != KindHello {
		rights.Close(fds)
		return fmt.Errorf("receive hello: got %s", m.Kind)
	}
	c.note.Borrow(m.Hello.Note, fds)
	if m.Hello.Version != Version {
		return fmt.Errorf("receive hello: agent %s speaks version %d, not %d",
			m.Hello.Release, m.Hello.Version, Version)
	}
	return nil
}

// take handles one message of the agent. It owns fds.
func (c *Client) take(conn *Conn, m *Message, fds []int, told map[string]bool) error {
	switch m.Kind {
	case KindWorkload:
		told[m.Workload.UID] = true
		return c.ack(conn, m, c.workload(m.Workload, fds))
	case KindWorkloadGone:
		return c.ack(conn, m, c.gone(m.WorkloadGone.UID))
	case KindSnapshotEnd:
		return c.ack(conn, m, c.snapshotEnd(told))
	case KindLanes:
		return c.ack(conn, m, c.lanes(m.Lanes, fds))
	case KindLane:
		return c.ack(conn, m, c.lane(m.Lane, fds))
	case KindDialResult:
		c.answer(m, append(fds, -1)[0]) // none comes with a refusal
		return nil
	case KindAck, KindSignResult:
		c.answer(m, -1)
		return nil
	case KindGoodbye:
		return ErrReplaced
	case KindYield:
		c.yielded = true
		c.held.Yield()
		c.handler.Yield()
		return nil
	case KindHello, KindDial, KindDestinations, KindSign, KindCertified, KindLaneGone:
	}
	rights.Close(fds)
	return fmt.Errorf("receive message: unexpected %s", m.Kind)
}

func (c *Client) workload(w *Workload, fds []int) error {
	if err := c.held.Put(w.UID, w, fds); err != nil {
		rights.Close(fds)
		return err
	}
	if c.yielded { // for the next connection
		rights.Close(fds)
		fds = nil
	}
	return c.handler.Workload(w, named(fds, "listener"))
}

func (c *Client) gone(uid string) error {
	c.held.Drop(uid)
	return c.handler.WorkloadGone(uid)
}

// snapshotEnd forgets the pods that left while no agent was connected.
func (c *Client) snapshotEnd(told map[string]bool) error {
	var errs []error
	for _, uid := range c.held.UIDs() {
		if !told[uid] {
			errs = append(errs, c.gone(uid))
		}
	}
	return errors.Join(append(errs, c.handler.SnapshotEnd())...)
}

// ack answers m, if it wants an answer, with the handler's error.
func (c *Client) ack(conn *Conn, m *Message, err error) error {
	if err != nil {
		c.log.Error("agent's message refused", "kind", m.Kind, "error", err)
	}
	if m.Seq == 0 {
		return nil
	}
	return conn.Send(NewAck(m.Seq, err))
}
