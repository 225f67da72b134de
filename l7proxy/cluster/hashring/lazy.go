package hashring

import (
	"sync"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Lazy is a table that is made by the first request that needs it: most clusters of a
// snapshot are used by no consumer of this node, and a table takes up to half a megabyte.
// Safe for concurrent use.
type Lazy struct {
	once    sync.Once
	maglev  bool
	config  snapshot.Hashing
	members []Member // nil once the table is made
	table   Table
}

var _ Table = (*Lazy)(nil)

// NewLazy returns a table of one member at least, maglev's or a ring.
func NewLazy(maglev bool, config snapshot.Hashing, members []Member) *Lazy {
	return &Lazy{maglev: maglev, config: config, members: members}
}

// At is part of Table.
func (l *Lazy) At(hash uint64, attempt int) int {
	l.once.Do(func() {
		if l.maglev {
			l.table = NewMaglev(l.members, l.config.TableSize)
		} else {
			l.table = NewRing(l.members, l.config.MinRing, l.config.MaxRing)
		}
		l.members = nil
	})
	return l.table.At(hash, attempt)
}
