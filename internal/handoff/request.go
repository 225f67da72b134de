package handoff

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// What keeps a part of Destinations well below MaxMessage: an entry takes at most
// 87 bytes, and a byte of a UID at most 6, as an escape. Parts have one of them only.
const (
	entriesPerPart  = 500
	uidBytesPerPart = 8 << 10
)

// DestinationTable is what one generation of a table of Destinations says. Table 0
// has no Workloads.
type DestinationTable struct {
	Table     uint32
	Workloads []string // UIDs
	Entries   []Destination
	Unknown   Unknown
}

// Dial asks the agent for a socket. It returns a non-blocking, close-on-exec
// descriptor that is the caller's and may still be connecting; a *DialError if
// the agent refused; ErrNotConnected if there is no agent.
func (c *Client) Dial(ctx context.Context, d Dial) (int, error) {
	a, err := c.request(ctx, func(conn *Conn, seq uint64) error {
		return conn.Send(&Message{Kind: KindDial, Seq: seq, Dial: &d})
	})
	if err != nil {
		return -1, fmt.Errorf("dial %s: %w", d.Destination, err)
	}
	r := a.message.DialResult
	switch {
	case r == nil:
		return -1, fmt.Errorf("dial %s: answered with %s", d.Destination, a.message.Kind)
	case r.Code != "":
		return -1, &DialError{Code: r.Code, Text: r.Error}
	}
	return a.fd, nil
}

// Destinations replaces one table of what the agent steers, and returns when the
// generation is in force or refused. See the message of that name for the order of
// several.
func (c *Client) Destinations(ctx context.Context, generation uint64, t DestinationTable) error {
	c.publish.Lock()
	defer c.publish.Unlock()
	a, err := c.request(ctx, func(conn *Conn, seq uint64) error {
		parts := t.parts(generation)
		for i := range parts {
			m := &Message{Kind: KindDestinations, Destinations: &parts[i]}
			if parts[i].Last {
				m.Seq = seq
			}
			if err := conn.Send(m); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("publish destinations %d of table %d: %w", generation, t.Table, err)
	}
	if a.message.Ack != nil && a.message.Ack.Error != "" {
		return fmt.Errorf("publish destinations %d of table %d: agent: %s", generation, t.Table, a.message.Ack.Error)
	}
	return nil
}

// parts cuts a generation: workloads first, then entries.
func (t *DestinationTable) parts(generation uint64) []Destinations {
	var parts []Destinations
	add := func(workloads []string, entries []Destination) {
		parts = append(parts, Destinations{Table: t.Table, Generation: generation, Workloads: workloads, Entries: entries})
	}
	begin, size := 0, 0
	for i, uid := range t.Workloads {
		if size += len(uid); size > uidBytesPerPart {
			add(t.Workloads[begin:i], nil)
			begin, size = i, len(uid)
		}
	}
	if rest := t.Workloads[begin:]; len(rest) > 0 {
		add(rest, nil)
	}
	rest := t.Entries
	for ; len(rest) > entriesPerPart; rest = rest[entriesPerPart:] {
		add(nil, rest[:entriesPerPart])
	}
	add(nil, rest)
	last := &parts[len(parts)-1]
	last.Last, last.Unknown = true, t.Unknown
	return parts
}

// request sends and waits for the answer of the same Seq.
func (c *Client) request(ctx context.Context, send func(*Conn, uint64) error) (answer, error) {
	c.mu.Lock()
	conn := c.conn
	if conn == nil {
		c.mu.Unlock()
		return answer{}, ErrNotConnected
	}
	c.seq++
	seq, done := c.seq, make(chan answer, 1)
	c.pending[seq] = done
	c.mu.Unlock()

	err := send(conn, seq)
	if err == nil {
		select {
		case a, ok := <-done:
			if !ok {
				return answer{}, ErrNotConnected
			}
			return a, nil
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	c.abandon(seq, done)
	return answer{}, err
}

// abandon forgets a request. Its answer may have come at the same moment: then
// its descriptor is nobody's.
func (c *Client) abandon(seq uint64, done chan answer) {
	c.mu.Lock()
	delete(c.pending, seq)
	c.mu.Unlock()
	select {
	case a, ok := <-done:
		if ok {
			a.drop()
		}
	default:
	}
}

// answer gives m to the request that waits for it.
func (c *Client) answer(m *Message, fd int) {
	a := answer{message: m, fd: fd}
	c.mu.Lock()
	defer c.mu.Unlock()
	done, ok := c.pending[m.Seq]
	if !ok {
		a.drop()
		return
	}
	delete(c.pending, m.Seq)
	done <- a // never blocks: one answer for each channel of one
}

// disconnect fails every request of the connection that ended.
func (c *Client) disconnect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = nil
	for seq, done := range c.pending {
		delete(c.pending, seq)
		close(done)
	}
}

func (a answer) drop() {
	if a.fd >= 0 {
		_ = unix.Close(a.fd)
	}
}
