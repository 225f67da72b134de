// Package kept holds duplicates of the sockets of open lanes, so that they outlive the
// proxy that opened them: consumers' connections stay open, lane calls go on, and the next
// proxy is given what it needs to go on with them. It knows lanes as messages, and looks at
// no byte of theirs.
//
// What a proxy gives is taken as coming from somebody who may have been taken over: it has
// to be connected TCP, and it is bounded, for each workload too.
package kept

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/internal/handoff"
)

// What a proxy may have kept: less than the descriptors of the agent, which has a lane's 9
// at most.
const (
	maxLanes       = 1024
	maxPerWorkload = 512
)

// Lane is one that was left, with duplicates of its sockets that are the caller's.
type Lane struct {
	*handoff.Lane

	Sockets []*netns.Socket // A first
}

// Lanes are those of the node. The zero value holds none. Its methods may be called
// concurrently. Owners are instances of proxies, never 0.
type Lanes struct {
	mu   sync.Mutex
	held map[uint32]*held
}

type held struct {
	owner   uint64 // 0: it was left
	lane    *handoff.Lane
	sockets []*netns.Socket
}

func (h *held) close() {
	for _, s := range h.sockets {
		_ = s.Close()
	}
}

// Put keeps a lane in the place of what had its number. The sockets are the Lanes' from
// then on, also on an error, after which nothing has the number.
func (k *Lanes) Put(owner uint64, l *handoff.Lane, sockets []*netns.Socket) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	fresh := &held{owner, l, sockets}
	k.drop(l.Number)
	if err := k.admit(fresh); err != nil {
		fresh.close()
		return fmt.Errorf("keep lane %d of %s: %w", l.Number, l.Workload, err)
	}
	if k.held == nil {
		k.held = make(map[uint32]*held)
	}
	k.held[l.Number] = fresh
	return nil
}

// admit tells whether a lane may be kept.
func (k *Lanes) admit(fresh *held) error {
	ofWorkload := 0
	for _, h := range k.held {
		if h.lane.Workload == fresh.lane.Workload {
			ofWorkload++
		}
	}
	switch {
	case len(k.held) >= maxLanes:
		return fmt.Errorf("%d are kept already", maxLanes)
	case ofWorkload >= maxPerWorkload:
		return fmt.Errorf("%d of that workload are kept already", maxPerWorkload)
	}
	for _, s := range fresh.sockets {
		if err := connected(s); err != nil {
			return err
		}
	}
	return nil
}

// connected tells whether a socket is TCP, and no listener.
func connected(s *netns.Socket) error {
	raw, err := s.SyscallConn()
	if err != nil {
		return fmt.Errorf("use socket: %w", err)
	}
	var protocol, listens int
	var inner error
	err = raw.Control(func(fd uintptr) {
		if protocol, inner = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL); inner == nil {
			listens, inner = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		}
	})
	switch err = errors.Join(err, inner); {
	case err != nil:
		return fmt.Errorf("ask socket: %w", err)
	case protocol != unix.IPPROTO_TCP || listens != 0:
		return errors.New("not a TCP connection")
	}
	return nil
}

// Drop lets go of an owner's lane.
func (k *Lanes) Drop(owner uint64, number uint32) {
	k.dropIf(func(h *held) bool { return h.owner == owner && h.lane.Number == number })
}

// Begin says that an owner connected. What it had before it tells of anew.
func (k *Lanes) Begin(owner uint64) {
	k.dropIf(func(h *held) bool { return h.owner == owner })
}

// Leave says that an owner has gone. Its lanes are the next one's, unless it lives, and
// goes on with them itself.
func (k *Lanes) Leave(owner uint64, lives bool) {
	if lives {
		k.Begin(owner)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range k.held {
		if h.owner == owner {
			h.owner = 0
		}
	}
}

// Inherit gives what was left to an owner, which refuses by Drop. What cannot be duplicated
// is let go of.
func (k *Lanes) Inherit(owner uint64) (all []Lane) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for number, h := range k.held {
		if h.owner != 0 {
			continue
		}
		l := Lane{Lane: h.lane}
		var err error
		for _, s := range h.sockets {
			var fd int
			if fd, err = s.Duplicate(); err != nil {
				break
			}
			l.Sockets = append(l.Sockets, netns.Keep(fd))
		}
		if err != nil {
			(&held{sockets: l.Sockets}).close()
			k.drop(number)
			continue
		}
		h.owner = owner
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b Lane) int { return int(a.Number) - int(b.Number) })
	return all
}

// Forget lets go of the lanes of workloads that are no more.
func (k *Lanes) Forget(known func(uid string) bool) {
	k.dropIf(func(h *held) bool { return !known(h.lane.Workload) })
}

// Count returns how many are kept, and how many of those nobody owns.
func (k *Lanes) Count() (all, left int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range k.held {
		if h.owner == 0 {
			left++
		}
	}
	return len(k.held), left
}

// Close lets go of all.
func (k *Lanes) Close() { k.dropIf(func(*held) bool { return true }) }

func (k *Lanes) dropIf(is func(h *held) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for number, h := range k.held {
		if is(h) {
			k.drop(number)
		}
	}
}

// drop closes what has a number. mu is held.
func (k *Lanes) drop(number uint32) {
	if h := k.held[number]; h != nil {
		h.close()
		delete(k.held, number)
	}
}
