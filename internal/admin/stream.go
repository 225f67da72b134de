package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/dubway/dubway/internal/peer"
)

const (
	// stuckAfter is how long a stream waits for a reader that takes nothing.
	stuckAfter = 30 * time.Second
	// maxLine is the longest line that a client reads.
	maxLine = 16 << 20
)

// Stream writes an answer line by line, for as long as both ends like. It is
// for one goroutine, the handler's.
type Stream struct {
	out     http.ResponseWriter
	control *http.ResponseController
	text    bytes.Buffer
}

// NewStream begins an answer of JSON lines, free of the server's time limits.
func NewStream(w http.ResponseWriter) (*Stream, error) {
	s := &Stream{out: w, control: http.NewResponseController(w)}
	if err := s.control.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("begin stream: %w", err)
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	return s, nil
}

// Send writes each document as a line, and waits until they are on their way.
// An error means that the reader is gone, or takes nothing.
func (s *Stream) Send(documents ...any) error {
	s.text.Reset()
	encoder := json.NewEncoder(&s.text)
	encoder.SetEscapeHTML(false)
	for _, d := range documents {
		if err := encoder.Encode(d); err != nil {
			return fmt.Errorf("encode line: %w", err)
		}
	}
	if err := s.control.SetWriteDeadline(time.Now().Add(stuckAfter)); err != nil {
		return fmt.Errorf("write stream: %w", err)
	}
	if _, err := s.out.Write(s.text.Bytes()); err != nil {
		return fmt.Errorf("write stream: %w", err)
	}
	if err := s.control.Flush(); err != nil {
		return fmt.Errorf("write stream: %w", err)
	}
	return nil
}

// Follow posts a document and hands every line of the answer to each, until the
// answer's end (nil), ctx's end, or an error of each, which it returns as it is.
// A line is valid until each returns.
func (c *Client) Follow(ctx context.Context, path string, request any, each func(line []byte) error) error {
	post, err := newPost(ctx, path, request)
	if err != nil {
		return err
	}
	response, err := c.http.Do(post)
	if err != nil {
		return c.explain(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return c.refused(path, response)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for lines.Scan() {
		if err := each(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read %s from %s: %w", path, c.socket, err)
	}
	return nil
}

// refused reads the reason of an answer that is none.
func (c *Client) refused(path string, response *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(response.Body, maxRequest))
	if err != nil {
		return fmt.Errorf("read %s from %s: %w", path, c.socket, err)
	}
	return c.told(path, response.Status, data)
}

// peerKey is the key of a connection's peer in the contexts of its requests.
type peerKey struct{}

// PeerUID returns the user that a request came from, as the kernel tells it;
// false if it does not.
func PeerUID(ctx context.Context) (uid int, known bool) {
	uid, known = ctx.Value(peerKey{}).(int)
	return uid, known
}

// withPeer notes who connected.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	uid, err := peerUID(conn)
	if err != nil {
		return ctx // unknown: what needs to know refuses
	}
	return context.WithValue(ctx, peerKey{}, uid)
}

func peerUID(conn net.Conn) (int, error) {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, errors.New("no unix socket")
	}
	credentials, err := peer.Of(unix)
	if err != nil {
		return 0, err
	}
	return int(credentials.Uid), nil
}
