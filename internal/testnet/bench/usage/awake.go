package usage

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Awake keeps one processor from halting until the process ends, at the least priority that
// there is (SCHED_IDLE): whatever else wants to run does so at once. A virtual processor that
// has halted takes tens of us to wake, in which nothing is measured but its hypervisor.
func Awake() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0); err != nil {
		return fmt.Errorf("set least priority: %w", err)
	}
	for n := uint64(0); ; n++ { //nolint:revive // that is all it does
	}
}
