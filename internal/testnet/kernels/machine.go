package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// machine is one run of a kernel.
type machine struct {
	kernel linux
	dir    string // of its logs
	limit  time.Duration
	out    io.Writer // how it goes
}

func (m *machine) initramfs() string { return filepath.Join(m.dir, "initramfs") }
func (m *machine) console() string   { return filepath.Join(m.dir, "console.log") }
func (m *machine) report() string    { return filepath.Join(m.dir, "report.log") }

// run boots the kernel and returns when it is off. The processor is emulated, because
// there is none to share where this runs; its clock follows its instructions and jumps over
// idle time (icount), so that nothing in the machine is late because the host is busy. That
// wants one processor, and one that is not said to be fast at copying byte by byte (erms,
// fsrm), as the kernel and Go would then: here each byte is an instruction, and eight are
// one as well. What happened is in the report alone: the exit status says nothing.
func (m *machine) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-accel", "tcg,thread=single", "-icount", "shift=1,sleep=off", "-cpu", "max,erms=off,fsrm=off", "-smp", "1", "-m", "1024", "-M", "q35",
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-serial", "file:"+m.console(), "-serial", "file:"+m.report(),
		"-kernel", m.kernel.image, "-initrd", m.initramfs(),
		"-append", "console=ttyS0 loglevel=3 panic=-1 mitigations=off nokaslr no_timer_check rcupdate.rcu_expedited=1")
	log, err := os.Create(filepath.Join(m.dir, "qemu.log"))
	if err != nil {
		return fmt.Errorf("make log: %w", err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	// Not to outlive us, whatever ends us: the caller has a thread of its own.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("the machine was not done after %s; the end of %s says where it was", m.limit, m.report())
	}
	if err != nil {
		return fmt.Errorf("run machine: %w (see %s)", err, log.Name())
	}
	return nil
}
