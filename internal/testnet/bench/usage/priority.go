package usage

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Realtime gives every thread of a process the round-robin policy, and with them those that
// they will make.
func Realtime(pid, priority int) error {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return fmt.Errorf("list threads: %w", err)
	}
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: uint32(priority)}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err == nil {
			err = unix.SchedSetAttr(id, &attr, 0)
		}
		if err != nil {
			return fmt.Errorf("set real-time priority of thread %s: %w", t.Name(), err)
		}
	}
	return nil
}
