package dubbotest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Answer is what a Call got.
type Answer struct {
	Status byte
	// Kind is the first byte of the body less 0x90: 3 and 0 exception, 4 and 1
	// value, 5 and 2 null.
	Kind  byte
	Value []byte // the echoed data
	Error string // the text of a status other than StatusOK, and of an exception
	// Provider and Peer are what the provider says of itself and of its consumer.
	Provider string
	Peer     string
	// Attachments are those of a value or a null.
	Attachments map[string]string
}

// Client is a consumer with one connection that calls one at a time or many at
// once. Safe for concurrent use.
type Client struct {
	conn net.Conn

	mu      sync.Mutex
	next    uint64
	pending map[uint64]chan Answer
	onCall  func(data []byte) []byte
	err     error
	// ReadOnly is closed when the provider sends the READONLY event.
	ReadOnly chan struct{}
	readOnly sync.Once
}

// NewClient makes a Client that owns the connection.
func NewClient(conn net.Conn) *Client {
	c := &Client{conn: conn, pending: map[uint64]chan Answer{}, ReadOnly: make(chan struct{})}
	go c.read()
	return c
}

// Dial connects to a provider.
func Dial(address string) (*Client, error) {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return nil, fmt.Errorf("dial provider: %w", err)
	}
	return NewClient(conn), nil
}

// Close closes the connection; calls in flight fail.
func (c *Client) Close() error { return c.conn.Close() }

// Ended tells whether the connection has ended.
func (c *Client) Ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err != nil
}

// Conn returns the connection, for its addresses.
func (c *Client) Conn() net.Conn { return c.conn }

// ErrTimeout says that no answer came in time.
var ErrTimeout = errors.New("call: no answer in time")

// Call calls and waits for the answer. A one-way call returns at once.
func (c *Client) Call(request Request, data []byte, timeout time.Duration) (Answer, error) {
	done, err := c.send(func(id uint64) []byte { return request.Append(nil, id, data) }, !request.OneWay)
	if err != nil || request.OneWay {
		return Answer{}, err
	}
	return c.wait(done, timeout)
}

// Heartbeat sends a heartbeat and waits for its answer.
func (c *Client) Heartbeat(timeout time.Duration) error {
	done, err := c.send(func(id uint64) []byte { return appendHeartbeat(nil, id, false) }, true)
	if err != nil {
		return err
	}
	_, err = c.wait(done, timeout)
	return err
}

// send writes the frame of a new id; the channel gets its answer, if one comes.
func (c *Client) send(frame func(id uint64) []byte, twoWay bool) (<-chan Answer, error) {
	done := make(chan Answer, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, fmt.Errorf("call: %w", c.err)
	}
	c.next++
	if twoWay {
		c.pending[c.next] = done
	}
	if _, err := c.conn.Write(frame(c.next)); err != nil {
		return nil, fmt.Errorf("call: %w", err)
	}
	return done, nil
}

func (c *Client) wait(done <-chan Answer, timeout time.Duration) (Answer, error) {
	select {
	case answer, ok := <-done:
		if !ok {
			return Answer{}, fmt.Errorf("call: %w", c.err)
		}
		return answer, nil
	case <-time.After(timeout):
		return Answer{}, fmt.Errorf("%w (%s)", ErrTimeout, timeout)
	}
}

// read hands answers to their calls until the connection ends.
func (c *Client) read() {
	err := c.frames(bufio.NewReader(c.conn))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	for _, done := range c.pending {
		close(done)
	}
	c.pending = nil
	_ = c.conn.Close()
}

func (c *Client) frames(reader *bufio.Reader) error {
	for {
		head := make([]byte, headerLen)
		if _, err := io.ReadFull(reader, head); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		h, err := parseHeader(head)
		if err != nil {
			return err
		}
		body := make([]byte, h.body)
		if _, err := io.ReadFull(reader, body); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		switch {
		case h.event() && h.request() && h.twoWay():
			_, _ = c.conn.Write(appendHeartbeat(nil, h.id, true))
		case h.event() && h.request():
			c.readOnly.Do(func() { close(c.ReadOnly) })
		case h.request():
			if err := c.called(h, body); err != nil {
				return err
			}
		default:
			if err := c.deliver(h, body); err != nil {
				return err
			}
		}
	}
}

func (c *Client) deliver(h header, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	done, ok := c.pending[h.id]
	if !ok {
		return fmt.Errorf("read answer: id %d is not awaited", h.id)
	}
	delete(c.pending, h.id)
	if h.event() {
		done <- Answer{Status: h.status}
		return nil
	}
	answer, err := parseAnswer(h, body)
	if err != nil {
		return err
	}
	done <- answer
	return nil
}

// parseAnswer reads the answers of a Provider, and local replies of a mesh.
func parseAnswer(h header, body []byte) (Answer, error) {
	answer := Answer{Status: h.status}
	if h.status != StatusOK {
		message, _, err := text(body)
		answer.Error = string(message)
		return answer, err
	}
	if len(body) == 0 || body[0] < 0x90 || body[0] > 0x95 {
		return answer, fmt.Errorf("%w: answer begins with % x", errBody, body[:min(4, len(body))])
	}
	answer.Kind = body[0] - 0x90
	rest := body[1:]
	switch answer.Kind {
	case 0, 3:
		answer.Error = string(rest)
		return answer, nil
	case 1, 4:
		after, err := skipValue(rest)
		if err != nil {
			return answer, err
		}
		answer.Value = data(rest[:len(rest)-len(after)])
		rest = after
	}
	if answer.Kind > 3 {
		answer.Attachments = attachments(rest)
		answer.Provider, answer.Peer = answer.Attachments["provider"], answer.Attachments["peer"]
	}
	return answer, nil
}

// data returns the content of an encoded byte array.
func data(b []byte) []byte {
	var content []byte
	for len(b) > 2 && (b[0] == 'A' || b[0] == 'B') {
		n := int(b[1])<<8 | int(b[2])
		content = append(content, b[3:3+n]...)
		b = b[3+n:]
	}
	return content
}

// attachments returns an encoded map of strings, as far as it can be read.
func attachments(b []byte) map[string]string {
	all := map[string]string{}
	for b = b[min(1, len(b)):]; len(b) > 0 && b[0] != 'Z'; {
		key, rest, err := text(b)
		if err != nil {
			return all
		}
		value, rest, err := text(rest)
		if err != nil {
			return all
		}
		all[string(key)], b = string(value), rest
	}
	return all
}
