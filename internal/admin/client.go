package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"syscall"
	"time"
)

// What bounds a call whose context has no nearer end. What is posted may be work that a busy
// node takes its time for: a self-test of lanes may take a minute.
const (
	getTimeout  = 10 * time.Second
	postTimeout = 90 * time.Second
)

// origin is what HTTP wants before a path; the socket is the address.
const origin = "http://admin"

// maxAnswer is the largest answer that a Client reads.
const maxAnswer = 64 << 20

// ErrUnreachable says that no process answers on the socket.
var ErrUnreachable = errors.New("nobody answers")

// Client asks one process. Safe for concurrent use.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a Client of the process behind a unix socket. It connects
// when it is first used.
func NewClient(socket string) *Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", socket)
		},
		MaxIdleConns:    1,
		IdleConnTimeout: time.Minute,
	}
	return &Client{socket: socket, http: &http.Client{Transport: transport}}
}

// Socket returns the path that the Client connects to.
func (c *Client) Socket() string { return c.socket }

// Get reads a document.
func (c *Client) Get(ctx context.Context, path string, answer any) error {
	data, err := c.Text(ctx, path, maxAnswer)
	if err != nil {
		return err
	}
	return c.decode(path, data, answer)
}

// Post sends a document and reads the one that comes back.
func (c *Client) Post(ctx context.Context, path string, request, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	post, err := newPost(ctx, path, request)
	if err != nil {
		return err
	}
	data, err := c.do(post, maxAnswer)
	if err != nil {
		return err
	}
	return c.decode(path, data, answer)
}

// newPost makes the request that sends a document.
func newPost(ctx context.Context, path string, document any) (*http.Request, error) {
	body, err := json.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("encode request for %s: %w", path, err)
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, origin+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request for %s: %w", path, err)
	}
	post.Header.Set("Content-Type", "application/json")
	return post, nil
}

// Text reads an answer that is no document, such as /metrics, of at most limit
// bytes.
func (c *Client) Text(ctx context.Context, path string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	get, err := http.NewRequestWithContext(ctx, http.MethodGet, origin+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("make request for %s: %w", path, err)
	}
	return c.do(get, limit)
}

// Close gives the idle connection back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) decode(path string, data []byte, answer any) error {
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("read %s from %s: %w", path, c.socket, err)
	}
	return nil
}

func (c *Client) do(request *http.Request, limit int64) ([]byte, error) {
	path := request.URL.Path
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.explain(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s from %s: %w", path, c.socket, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s from %s: answer is over %d bytes", path, c.socket, limit)
	}
	if response.StatusCode != http.StatusOK {
		return nil, c.told(path, response.Status, data)
	}
	return data, nil
}

// told is what an answer says whose status is not 200.
func (c *Client) told(path, status string, data []byte) error {
	var told Error
	if json.Unmarshal(data, &told) != nil || told.Error == "" {
		told.Error = status
	}
	return fmt.Errorf("%s at %s: %s", path, c.socket, told.Error)
}

// explain says what to do about a socket that does not answer.
func (c *Client) explain(err error) error {
	process := "dubway-" + filepath.Base(filepath.Dir(c.socket))
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("connect to %s: permission denied: run as root, or in the group of the socket: %w", c.socket, fs.ErrPermission)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("connect to %s: %w: is %s running? (--state-dir names its directory)", c.socket, ErrUnreachable, process)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("ask %s: no answer in time: is %s stuck?: %w", c.socket, process, context.DeadlineExceeded)
	}
	return fmt.Errorf("ask %s: %w", c.socket, err)
}
