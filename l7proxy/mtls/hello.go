package mtls

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/dubway/dubway/l7proxy/sock"
)

// maxHello is the longest ClientHello that is read: one record, as everybody sends it.
const maxHello = 5 + 16<<10

// Offers tells, without consuming a byte, which protocols the TLS that begins on c offers.
// False: it is no TLS that anybody could end, or its beginning does not come.
func Offers(c *sock.Conn) ([]string, bool) {
	end := time.Now().Add(handshakeLimit)
	b := make([]byte, maxHello)
	for seen := 0; seen < len(b); {
		left := time.Until(end)
		if left <= 0 {
			return nil, false
		}
		n, err := c.Peek(b, seen, left)
		if err != nil || n <= seen {
			return nil, false
		}
		seen = n
		if offers, whole, err := parse(b[:n]); whole || err != nil {
			return offers, err == nil
		}
	}
	return nil, false
}

// errSeen ends a handshake that is not to be.
var errSeen = errors.New("seen")

// parse reads a ClientHello. Whole is false while more of it is to come.
func parse(b []byte) (offers []string, whole bool, err error) {
	t := tls.Server(&recorded{Reader: bytes.NewReader(b)}, &tls.Config{
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			offers, whole = h.SupportedProtos, true
			return nil, errSeen
		},
	})
	err = t.HandshakeContext(context.Background())
	if whole || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return offers, whole, nil
	}
	return nil, false, fmt.Errorf("read ClientHello: %w", err)
}

// recorded is a connection on which nothing comes but what has come.
type recorded struct {
	io.Reader
	net.Conn // nil: of the rest nothing is used
}

func (r *recorded) Read(b []byte) (int, error) { return r.Reader.Read(b) } //nolint:wrapcheck // TLS asks for io.EOF

// Write takes the alert.
func (r *recorded) Write(b []byte) (int, error) { return len(b), nil }

// Close does nothing.
func (r *recorded) Close() error { return nil }
