// Package usage tells what processes have used of processors and memory, and lets them go
// before others.
package usage

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dubway/dubway/internal/testnet"
)

// tickTime is the unit of /proc/PID/stat: USER_HZ is 100 on every Linux.
const tickTime = 10 * time.Millisecond

// CPU sums the CPU time of processes.
func CPU(processes []*testnet.Process) (sum time.Duration) {
	for _, p := range processes {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
		if err != nil {
			continue
		}
		// The second field may hold spaces; the 14th and 15th are the times.
		_, rest, _ := strings.Cut(string(b), ") ")
		fields := strings.Fields(rest)
		for _, f := range fields[11:13] {
			n, _ := strconv.ParseInt(f, 10, 64)
			sum += time.Duration(n) * tickTime
		}
	}
	return sum
}

// RSS returns the largest resident size of processes, in MiB.
func RSS(processes []*testnet.Process) (most float64) {
	for _, p := range processes {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				kib, _ := strconv.ParseFloat(strings.Fields(value)[0], 64)
				most = max(most, kib/1024)
			}
		}
	}
	return most
}
