package sock

// Outlet writes in the place of a Conn, one call after the other.
type Outlet interface {
	// Write writes what senders gave, in order: spans of a Send, or a piece of what was
	// begun with Acquire. It waits while the peer reads too slowly. An error ends the
	// connection's write side.
	Write(spans [][]byte) error
}

// Divert makes what is written from now on go by an Outlet; nil: by the socket itself
// again. Its caller has the write side by Acquire, and the connection is plaintext.
func (w *writer) Divert(o Outlet) { w.outlet = o }

// Taken is how many bytes were read from the socket, whether discarded or not, modulo
// 1<<32 as TCP counts them. It is the reading goroutine's.
func (r *Reader) Taken() uint32 { return r.taken }

// Control calls f with the descriptor, which is open meanwhile. It is an error if the
// connection is closed.
func (c *Conn) Control(f func(fd uintptr)) error { return c.raw.Control(f) }
