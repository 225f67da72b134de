package lane

import "errors"

// Why an application's socket is written to by TCP alone.
var (
	ErrScarce  = errors.New("there may be no memory for more at the application's socket: its pod is near its limit, or TCP near net.ipv4.tcp_mem")
	ErrLimited = errors.New("the pod's cgroup limits the memory of sockets (memory.kmem.tcp.limit_in_bytes)")
)

// Room returns nil if the peer may be written to by redirect, which the kernel refuses in the
// middle of a message when its memory runs out: else ErrScarce, or ErrLimited, which is so for
// the life of the socket.
func (s *State) Room() error {
	switch {
	case s.Flags&Limited != 0:
		return ErrLimited
	case s.Flags&Scarce != 0:
		return ErrScarce
	}
	return nil
}
