package sock

import "errors"

// errInside: half a frame was written, and its rest will not come.
var errInside = errors.New("the connection ended inside a frame")

// Streamer takes one frame in pieces. A Conn is one.
type Streamer interface {
	// Acquire keeps others from writing until Done.
	Acquire() error
	Write(b []byte) error
	// Done ends the frame; with an error it leaves the peer with half of it, and
	// ends the connection.
	Done(err error) error
}

var (
	_ Streamer = (*Conn)(nil)
	_ Streamer = Nowhere{}
)

// Pump moves n bytes to a Streamer, the first of them buffered already. Lost says
// that it did not get them all; the error is c's own.
func (c *Conn) Pump(to Streamer, n int) (lost bool, err error) {
	lost = to.Acquire() != nil
	for n > 0 {
		b := c.Bytes()
		b = b[:min(n, len(b))]
		if !lost && len(b) > 0 {
			if err := to.Write(b); err != nil {
				lost = true
				_ = to.Done(err) // or everyone who writes to it waits for ever
			}
		}
		c.Discard(len(b))
		n -= len(b)
		if n == 0 {
			break
		}
		if err = c.Fill(); err != nil {
			if !lost {
				_ = to.Done(errInside)
			}
			return true, err
		}
	}
	if !lost {
		lost = to.Done(nil) != nil
	}
	return lost, nil
}

// Nowhere takes the frame that nobody waits for.
type Nowhere struct{}

// Acquire does nothing. Part of Streamer.
func (Nowhere) Acquire() error { return nil }

// Write does nothing. Part of Streamer.
func (Nowhere) Write([]byte) error { return nil }

// Done does nothing. Part of Streamer.
func (Nowhere) Done(error) error { return nil }
