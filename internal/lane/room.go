package lane

import "errors"

// Why an application's socket is written to by TCP alone.
var (
	ErrUnknown = errors.New("the kernel does not know the application's socket")
	ErrScarce  = errors.New("there may be no memory for the application's socket: its pod is near its limit, or TCP near net.ipv4.tcp_mem")
	ErrLimited = errors.New("the pod's cgroup limits the memory of sockets (memory.kmem.tcp.limit_in_bytes)")
)

// Room returns nil if the peer may be written to by redirect, which the kernel refuses in the
// middle of a message when its memory runs out: else ErrScarce, or, for the life of the socket,
// ErrUnknown or ErrLimited.
func (s *State) Room() error {
	switch {
	case s.Peer == 0:
		return ErrUnknown
	case s.Flags&MemoryLimited != 0:
		return ErrLimited
	case s.Flags&Scarce != 0:
		return ErrScarce
	}
	return nil
}
