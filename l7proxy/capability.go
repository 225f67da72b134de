package l7proxy

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// capabilityNames are the kernel's capabilities in their order.
var capabilityNames = [...]string{ //nolint:gochecknoglobals // a table
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
}

// Capabilities returns the process's effective capabilities, "CAP_BPF"; empty
// for a proxy as it should be.
func Capabilities() []string {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return []string{"unknown: " + err.Error()}
	}
	effective := uint64(data[0].Effective) | uint64(data[1].Effective)<<32
	names := []string{}
	for i := range 64 {
		switch {
		case effective&(1<<i) == 0:
		case i < len(capabilityNames):
			names = append(names, "CAP_"+capabilityNames[i])
		default:
			names = append(names, fmt.Sprintf("CAP_%d", i))
		}
	}
	return names
}
