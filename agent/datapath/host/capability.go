package host

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Capabilities names the effective capabilities of this process that the agent
// has a use for; others by their number.
func Capabilities() []string {
	names := map[int]string{
		12: "CAP_NET_ADMIN", 21: "CAP_SYS_ADMIN", 24: "CAP_SYS_RESOURCE", 38: "CAP_PERFMON", 39: "CAP_BPF",
	}
	result := []string{}
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return result
	}
	for line := range strings.Lines(string(text)) {
		hex, ok := strings.CutPrefix(line, "CapEff:")
		if !ok {
			continue
		}
		set, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		if err != nil {
			return result
		}
		for bit := range 64 {
			if set&(1<<bit) == 0 {
				continue
			}
			name := names[bit]
			if name == "" {
				name = fmt.Sprintf("%d", bit)
			}
			result = append(result, name)
		}
	}
	return result
}
