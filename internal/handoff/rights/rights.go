// Package rights is file descriptors on their way through a unix socket (SCM_RIGHTS).
package rights

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Parse collects the descriptors of all control messages.
func Parse(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	controls, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse control messages: %w", err)
	}
	var fds []int
	for i := range controls {
		got, err := unix.ParseUnixRights(&controls[i])
		if err != nil {
			continue // credentials and the like: not descriptors, nothing to close
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

// Close closes descriptors that nobody took.
func Close(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
