package lanetest

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"net"
	"sync"
)

// Book is what a provider has served.
type Book struct {
	Calls, OneWays int
	Doubled        int            // served before, by this provider
	Beats          int            // heartbeats that it was sent
	Back           int            // its calls back that were answered as they should be
	Seen           map[uint32]Set // numbers of calls, by connection
	Errors         []string       // the first few
}

// Set is a set of small numbers, a bit for each.
type Set []byte

// Both is how many are in both.
func (s Set) Both(other Set) (n int) {
	for i := range min(len(s), len(other)) {
		n += bits.OnesCount8(s[i] & other[i])
	}
	return n
}

// with is a set with one more number, and whether it is new.
func (s Set) with(n uint32) (Set, bool) {
	for int(n/8) >= len(s) {
		s = append(s, make([]byte, max(len(s), 64))...)
	}
	bit := byte(1) << (n % 8)
	known := s[n/8]&bit != 0
	s[n/8] |= bit
	return s, !known
}

// books is a Book with its lock.
type books struct {
	mu   sync.Mutex
	book Book
}

func (b *books) served(c *Call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.book.Seen == nil {
		b.book.Seen = map[uint32]Set{}
	}
	if c.OneWay {
		b.book.OneWays++
	} else {
		b.book.Calls++
	}
	set, fresh := b.book.Seen[c.Conn].with(c.Seq)
	if !fresh {
		b.book.Doubled++
	}
	b.book.Seen[c.Conn] = set
}

func (b *books) change(f func(*Book)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.book)
}

func (b *books) wrong(err error) {
	b.change(func(k *Book) {
		if len(k.Errors) < 5 {
			k.Errors = append(k.Errors, err.Error())
		}
	})
}

// show writes the book to whoever connects.
func (b *books) show(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return fmt.Errorf("show the book: %w", err)
		}
		b.mu.Lock()
		text, err := json.Marshal(&b.book)
		b.mu.Unlock()
		if err == nil {
			_, err = c.Write(text)
		}
		_ = c.Close()
		if err != nil {
			b.wrong(err)
		}
	}
}
