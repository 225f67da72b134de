package life

import "github.com/dubway/dubway/internal/lane"

// Drawn returns, once, what the programs drew for a request that they left to the proxy; of a
// lane that has ended what nobody had asked for.
func (l *Lane) Drawn(id uint64) lane.Drawn {
	select {
	case <-l.done:
		return l.drawn[id]
	default:
		return l.Book.Memory.Drawn(l.Number, id)
	}
}
