package host

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestSecurityModules(t *testing.T) {
	dir := t.TempDir()
	want := func(c Check, ok bool, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if c.OK != ok || !strings.Contains(c.Detail+" "+c.Fix, text) {
				t.Errorf("%+v, want OK %t and %q", c, ok, text)
			}
		}
	}
	want(probeModules(dir), true, "none is told of")
	for name, text := range map[string]string{"lsm": "lockdown,capability,selinux,bpf", "lockdown": "none [integrity] confidentiality\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want(probeModules(dir), true, "lockdown,capability,selinux,bpf; lockdown: integrity")

	// A filter of system calls denies as a module does.
	var refused Check
	var missing error
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends, and its filter
		err := forbidBPF()
		refused, missing = probeModules(dir), Missing(Probe("", "/sys/fs/bpf/dubway"))
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want(refused, false, "load program: operation not permitted", "spc_t", "allow bpf in the profile")
	if strings.Contains(refused.Fix, "AppArmor") {
		t.Errorf("%+v suspects a module that is not there", refused)
	}
	if missing == nil || !strings.Contains(missing.Error(), "security modules: bpf() is refused") {
		t.Errorf("what is missing: %v", missing)
	}
	want(probeModules(dir), true, "integrity")
}

// forbidBPF refuses bpf() to this thread.
func forbidBPF() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number of the system call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_BPF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}
