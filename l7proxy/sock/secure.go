package sock

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"
)

// secured is TLS between a Conn and its socket.
type secured struct {
	tls  *tls.Conn
	wire *wire
}

// Secure makes c speak TLS, as tls.Client or tls.Server makes it, and returns when the
// handshake is over. It is for the reader, before anything was read or sent, and while
// nobody else uses c but to interrupt or close it. After an error c is of no use but to be
// closed. The caller's config says who the peer must be.
func (c *Conn) Secure(ctx context.Context, side func(net.Conn, *tls.Config) *tls.Conn, config *tls.Config) (tls.ConnectionState, error) {
	w := &wire{TCPConn: c.tcp}
	t := side(w, config)
	if err := t.HandshakeContext(ctx); err != nil {
		return tls.ConnectionState{}, fmt.Errorf("handshake: %w", err)
	}
	w.open = true
	s := &secured{tls: t, wire: w}
	c.Reader.secure, c.writer.secure = s, s
	c.secure.Store(s)
	return t.ConnectionState(), nil
}

// Open returns secured, which is tcp with TLS on it, or, where that is nil, tcp as New does.
func Open(tcp *net.TCPConn, secured *Conn) (*Conn, error) {
	if secured != nil {
		return secured, nil
	}
	return New(tcp)
}

// Secured tells whether the connection speaks TLS.
func (c *Conn) Secured() bool { return c.secure.Load() != nil }

// CloseWrite says that nothing more is sent.
func (c *Conn) CloseWrite() error {
	if s := c.secure.Load(); s != nil {
		_ = s.tls.CloseWrite() // who has gone needs no word
	}
	if err := c.tcp.CloseWrite(); err != nil {
		return fmt.Errorf("close write side: %w", err)
	}
	return nil
}

// farewell tells the peer that this is the end, and not an attacker's doing. It does not
// wait. Nobody writes any more.
func (s *secured) farewell() {
	s.wire.shut()
	_ = s.tls.CloseWrite()
}

// decrypt is read below TLS. It takes all that has come whole, so that frames of many
// records are seen together.
func (r *Reader) decrypt(fd uintptr) bool {
	s := r.secure
	s.wire.fd, s.wire.spare = int(fd), false
	room := (*r.buf)[r.end:]
	n := 0
	var err error
	for n < len(room) {
		var got int
		got, err = s.tls.Read(room[n:]) // the last bytes come with their end
		n += got
		if err != nil {
			break // which is told again, if it is not that there is no more
		}
		s.wire.spare = true
	}
	switch {
	case n > 0:
		r.n = n
	case err == errDry: //nolint:errorlint // TLS passes it on as it is
		r.nothing()
		return false
	case err == io.EOF: //nolint:errorlint // as of read
		r.n = 0
	default:
		r.err = fmt.Errorf("read: %w", err)
	}
	return true
}

// peek is Peek below TLS: what was seen waits in the buffer, for Fill.
func (c *Conn) peek(b []byte, seen int, wait time.Duration) (int, error) {
	if wait > 0 {
		c.Within(wait)
		defer c.Resume()
	}
	for len(c.Bytes()) <= seen {
		err := c.fill()
		if err == io.EOF && seen > 0 { //nolint:errorlint // as of fill
			break
		}
		if err == io.EOF { //nolint:errorlint // as of fill
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		c.ahead = true
	}
	return copy(b, c.Bytes()), nil
}

// write is writer.write below TLS: spans are gathered, so that records are as large as
// may be, and leave together.
func (s *secured) write(spans [][]byte) error {
	s.wire.begin()
	err := s.seal(spans)
	if flushed := s.wire.flush(); err == nil {
		err = flushed
	}
	return err
}

func (s *secured) seal(spans [][]byte) error {
	if len(spans) == 1 {
		return s.put(spans[0])
	}
	plain := take(small)
	defer give(plain)
	n := 0
	for _, b := range spans {
		for len(b) > 0 {
			copied := copy((*plain)[n:], b)
			b, n = b[copied:], n+copied
			if n < len(*plain) {
				continue
			}
			if err := s.put(*plain); err != nil {
				return err
			}
			n = 0
		}
	}
	if n == 0 {
		return nil
	}
	return s.put((*plain)[:n])
}

func (s *secured) put(b []byte) error {
	if _, err := s.tls.Write(b); err != nil {
		return fmt.Errorf("encrypt: %w", err)
	}
	return nil
}
