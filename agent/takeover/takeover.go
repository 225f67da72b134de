// Package takeover is how one agent of a node takes over from another while both run:
// who is the active one, and what the one that was gives to the one that will be. It
// enrols nobody and knows nothing of the datapath.
//
// The active agent holds a lock on a file of the node's directory, which outlives pods,
// and serves a socket there that only root may use. An agent that starts connects to
// it, and is told of every enrolled pod with its listeners. When its own proxy is ready
// to accept it asks the active one to yield. That one writes nothing any more, lets go
// of the lock and says so; the asker takes the lock, and says when its proxy serves.
// The connection goes on as long as the new agent lives: its end, at whatever moment,
// gives the old one its turn back.
//
//	new                     old
//	 hello           ───▶
//	                 ◀───   hello
//	                 ◀───   workload (with listeners) ..., told, later changes
//	 yield           ───▶
//	                 ◀───   yielded: the lock is free
//	 serving         ───▶   its proxy stops accepting
//	 (end)                  it takes the lock again
//
// Old and new are of different releases more often than not. So a message holds what
// every release has, unknown fields and kinds are passed over, and what else there is to
// know of a pod each agent knows by itself.
package takeover

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/handoff"
)

// Version is the version of the messages. It is raised only if an older agent would
// understand them wrongly; then the two cannot follow each other without a gap.
const Version = 1

// ErrHeld says that another agent of this node is the active one.
var ErrHeld = errors.New("another agent of this node is the active one")

// Socket is the path of the socket in a node's directory.
func Socket(dir string) string { return filepath.Join(dir, "takeover.sock") }

// Lock is the right to be the node's active agent. It ends with the process at the
// latest, however that ends.
type Lock struct {
	file *os.File
}

// Claim takes the lock of a node's directory, or returns ErrHeld.
func Claim(dir string) (*Lock, error) {
	file, err := os.OpenFile(filepath.Join(dir, "active.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w; fix: mount a directory of the host at --node-dir", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrHeld
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return &Lock{file: file}, nil
}

// Release lets go of the lock.
func (l *Lock) Release() error {
	// Closing alone would not do if a child had the descriptor.
	if err := errors.Join(unix.Flock(int(l.file.Fd()), unix.LOCK_UN), l.file.Close()); err != nil {
		return fmt.Errorf("release lock: %w", err)
	}
	return nil
}

// kind names a message.
type kind string

// The kinds, and who sends them.
const (
	kindHello    kind = "hello"    // both
	kindRefused  kind = "refused"  // old: why not now
	kindWorkload kind = "workload" // old, with its listeners
	kindGone     kind = "gone"     // old
	kindTold     kind = "told"     // old: all that is enrolled was told
	kindYield    kind = "yield"    // new
	kindYielded  kind = "yielded"  // old
	kindServing  kind = "serving"  // new
)

// message is one packet.
type message struct {
	Kind     kind      `json:"kind"`
	Hello    *hello    `json:"hello,omitempty"`
	Workload *workload `json:"workload,omitempty"`
	UID      string    `json:"uid,omitempty"`    // of kindGone
	Reason   string    `json:"reason,omitempty"` // of kindRefused
}

// hello is who an agent is.
type hello struct {
	Version int    `json:"version"`
	Release string `json:"release"`
	ABI     int    `json:"abi"` // of the maps that it pins
}

// workload is an enrolled pod. Its listeners come as descriptors in their order.
type workload struct {
	UID       string             `json:"uid"`
	Cookie    uint64             `json:"netnsCookie"`
	Steered   bool               `json:"steered"` // it has destinations
	Listeners []handoff.Listener `json:"listeners"`
}

// conn speaks the messages.
type conn struct{ *handoff.Conn }

func (c conn) send(m *message, fds ...int) error {
	packet, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode %s: %w", m.Kind, err)
	}
	if err := c.SendPacket(packet, fds...); err != nil {
		return fmt.Errorf("send %s: %w", m.Kind, err)
	}
	return nil
}

// receive waits for the next message. The descriptors are the caller's; of a workload
// there are as many as it has listeners.
func (c conn) receive() (*message, []int, error) {
	packet, fds, err := c.ReceivePacket()
	if err != nil {
		return nil, nil, err
	}
	m := &message{}
	if err = json.Unmarshal(packet, m); err == nil {
		err = m.check(len(fds))
	}
	if err != nil {
		closeFDs(fds)
		return nil, nil, fmt.Errorf("read message: %w", err)
	}
	return m, fds, nil
}

// check refuses a message without what its kind needs.
func (m *message) check(fds int) error {
	switch m.Kind {
	case kindHello:
		if m.Hello == nil {
			return errors.New("hello says nothing")
		}
	case kindWorkload:
		if m.Workload == nil || m.Workload.UID == "" || len(m.Workload.Listeners) != fds {
			return fmt.Errorf("workload with %d descriptors is not whole", fds)
		}
	case kindRefused, kindGone, kindTold, kindYield, kindYielded, kindServing:
	}
	return nil
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
