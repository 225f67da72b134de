package dubboload

import (
	"fmt"
	"time"

	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// Priming are calls on each connection, one after the other, and a pause, before anything
// else: what is done to a connection once it is worth it is done then.
const (
	Priming    = 24
	primePause = 250 * time.Millisecond
)

// prime primes the connections of a load that wants it, and tells how many calls that took.
func (l Closed) prime(conns []*loaded) (calls int64, err error) {
	if !l.Prime {
		return 0, nil
	}
	for _, c := range conns {
		if err := c.prime(); err != nil {
			return calls, err
		}
		calls += Priming
	}
	time.Sleep(primePause)
	return calls, nil
}

// prime calls with ids that the load does not use. Part of prime.
func (c *loaded) prime() error {
	buffer := make([]byte, max(readBuffer, 2*len(c.frame)))
	for i := range uint64(Priming) {
		frame := append([]byte(nil), c.frame...)
		dubbotest.SetID(frame, primeID+i)
		if _, err := c.conn.Write(frame); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		_ = c.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		for have, whole := 0, false; !whole; {
			n, err := c.conn.Read(buffer[have:])
			if err != nil {
				return fmt.Errorf("read: %w", err)
			}
			have += n
			var a dubbotest.RawAnswer
			if a, _, whole, err = dubbotest.CutAnswer(buffer[:have]); err != nil {
				return err
			}
			if whole && (a.ID != primeID+i || a.Status != dubbotest.StatusOK) {
				return fmt.Errorf("answer %d: status %d, while %d is awaited", a.ID, a.Status, primeID+i)
			}
		}
	}
	return c.conn.SetReadDeadline(time.Time{})
}

// primeID is the first id of priming.
const primeID = 1 << 40
