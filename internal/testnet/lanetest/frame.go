// Package lanetest is a consumer and providers of Dubbo2 that write to their sockets in every
// way in which an application may, for tests of the lane: calls of both serializations, one-way
// calls, heartbeats, calls by generic names and calls back, mixed on the same connections. All
// that a frame holds follows from who sent it and its number, so that each end knows every
// byte, and each provider keeps a book of what it has served. It knows nothing of the mesh.
package lanetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/dubway/dubway/internal/lane"
)

// The methods. What the mesh makes of their names is its configuration's business.
const (
	Echo      = "echo"
	Held      = "held"      // what Echo does, by another name
	Subscribe = "subscribe" // what Echo does, and the provider calls back
	generic   = "$invoke"
)

// Interface is what is called, Listener what a provider calls of its consumer.
const (
	Interface = "org.dubway.test.Mixed"
	Listener  = "org.dubway.test.Listener"
)

const headerLen = 16

// The flags of a frame (Dubbo's ExchangeCodec).
const (
	flagRequest = 0x80
	flagTwoWay  = 0x40
	flagEvent   = 0x20
)

// Call is a request; all of its bytes follow from it.
type Call struct {
	Conn          uint32 // whose
	Seq           uint32 // its number there
	Serialization byte
	Method        string
	Generic       bool // Method is called by $invoke
	OneWay        bool
	Size          uint32 // of the argument, at least tokenLen

	sent int64 // when, in nanoseconds since 1970; the consumer's
}

// tokenLen is how many bytes at an argument's begin say whose it is.
const tokenLen = 12

func (c *Call) token(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, c.Conn)
	b = binary.BigEndian.AppendUint32(b, c.Seq)
	return binary.BigEndian.AppendUint32(b, c.Size)
}

// number tells a call from all others.
func (c *Call) number() uint64 { return uint64(c.Conn)<<32 | uint64(c.Seq) }

// Append appends the frame.
func (c *Call) Append(b []byte, id uint64) []byte {
	flags := byte(flagRequest | flagTwoWay)
	if c.OneWay {
		flags = flagRequest
	}
	start := len(b)
	b = appendHeader(b, flags|c.Serialization, 0, id)
	return seal(c.appendBody(b), start)
}

func (c *Call) appendBody(b []byte) []byte {
	b = append(b, c.head()...)
	b = fill(c.token(b), c.number(), int(c.Size)-tokenLen)
	if c.Serialization != lane.Hessian2 {
		return b
	}
	b = append(b, 'H')
	if c.Method == Subscribe {
		b = text(text(b, "sys_callback_arg-0"), "1")
	}
	return append(b, 'Z')
}

// head is what a body has before its argument's bytes.
func (c *Call) head() []byte {
	method := c.Method
	if c.Generic {
		method = generic
	}
	b := names(nil, c.Serialization, Interface, method)
	if c.Serialization != lane.Hessian2 {
		return b
	}
	if c.Generic {
		b = text(b, "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;")
		b = append(text(b, c.Method), 'N', 0x79)
	} else {
		b = text(b, "[B")
	}
	return long(b, int(c.Size))
}

// names are the strings that a request begins with.
func names(b []byte, serialization byte, path, method string) []byte {
	for _, s := range []string{"2.0.2", path, "0.0.0", method} {
		if serialization != lane.Hessian2 {
			b = binary.BigEndian.AppendUint32(b, uint32(len(s)+1))
			b = append(append(b, byte(0x49+len(s))), s...)
			continue
		}
		b = text(b, s)
	}
	return b
}

// long begins a byte array of hessian2 of n bytes: as the list of chunks would cost a copy of
// every 32 KiB, a mark of one chunk of 3 bytes stands for it, and n in a string behind.
func long(b []byte, n int) []byte {
	return text(append(b, 'B', 0, 3, 'a', 'n', 'd'), fmt.Sprintf("%08d", n))
}

// text appends a string of hessian2.
func text(b []byte, s string) []byte {
	if len(s) < 32 {
		return append(append(b, byte(len(s))), s...)
	}
	return append(append(b, 0x30+byte(len(s)>>8), byte(len(s))), s...)
}

func appendHeader(b []byte, flags, status byte, id uint64) []byte {
	b = binary.BigEndian.AppendUint64(append(b, 0xda, 0xbb, flags, status), id)
	return append(b, 0, 0, 0, 0)
}

func seal(b []byte, start int) []byte {
	binary.BigEndian.PutUint32(b[start+12:], uint32(len(b)-start-headerLen))
	return b
}

// fill appends n bytes that follow from a seed.
func fill(b []byte, seed uint64, n int) []byte {
	b = slices.Grow(b, max(n, 0))
	x := seed*0x9e3779b97f4a7c15 | 1
	for ; n >= 8; n -= 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	for ; n > 0; n-- {
		b = append(b, byte(n)^byte(seed>>8))
	}
	return b
}

var errStrange = errors.New("a frame that nobody here sent")

// read finds which call a request's frame is, of those of a method, and compares all of it.
func read(frame []byte, scratch *[]byte) (c Call, err error) {
	body := frame[headerLen:]
	for _, one := range calls {
		c = one
		c.Serialization, c.OneWay = frame[2]&0x1f, frame[2]&flagTwoWay == 0
		head := c.head()
		named := head[:max(len(head)-len("\x0800000000"), 0)]
		if c.Serialization != lane.Hessian2 {
			named = head
		}
		if len(body) < len(head)+tokenLen || !bytes.HasPrefix(body, named) {
			continue
		}
		token := body[len(head):]
		c.Conn, c.Seq, c.Size = binary.BigEndian.Uint32(token), binary.BigEndian.Uint32(token[4:]), binary.BigEndian.Uint32(token[8:])
		if int(c.Size) > len(body) || c.Size < tokenLen {
			return c, fmt.Errorf("%w: it says %d of %d bytes", errStrange, c.Size, len(body))
		}
		if *scratch = c.appendBody((*scratch)[:0]); !bytes.Equal(*scratch, body) {
			return c, fmt.Errorf("call %d of connection %d: its %d bytes are not those that were sent", c.Seq, c.Conn, len(body))
		}
		return c, nil
	}
	return c, fmt.Errorf("%w: it begins with %q", errStrange, body[:min(len(body), 80)])
}

// calls are those that there may be, without what differs from one to the next.
var calls = []Call{{Method: Echo}, {Method: Held}, {Method: Echo, Generic: true}, {Method: Subscribe}} //nolint:gochecknoglobals // a table
