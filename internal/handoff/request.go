package handoff

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// entriesPerPart keeps a part of Destinations well below MaxMessage: an entry
// takes at most 75 bytes.
const entriesPerPart = 500

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

// Destinations replaces what the agent steers, and returns when the generation
// is in force or refused.
func (c *Client) Destinations(ctx context.Context, generation uint64, entries []Destination) error {
	c.publish.Lock()
	defer c.publish.Unlock()
	a, err := c.request(ctx, func(conn *Conn, seq uint64) error {
		rest := entries
		for len(rest) > entriesPerPart {
			part := &Destinations{Generation: generation, Entries: rest[:entriesPerPart]}
			if err := conn.Send(&Message{Kind: KindDestinations, Destinations: part}); err != nil {
				return err
			}
			rest = rest[entriesPerPart:]
		}
		last := &Destinations{Generation: generation, Entries: rest, Last: true}
		return conn.Send(&Message{Kind: KindDestinations, Seq: seq, Destinations: last})
	})
	if err != nil {
		return fmt.Errorf("publish destinations %d: %w", generation, err)
	}
	if a.message.Ack != nil && a.message.Ack.Error != "" {
		return fmt.Errorf("publish destinations %d: agent: %s", generation, a.message.Ack.Error)
	}
	return nil
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
