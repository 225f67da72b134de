package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Command is a process of a machine to be.
type Command struct {
	Name string // of its cgroup, system/NAME, and of its log, DIR/log/NAME.log
	Path string
	Args []string
	Env  []string // added to this process's
}

// Service is a running Command, with whatever it started and did not put elsewhere.
type Service struct {
	Name    string
	machine *Machine
	cmd     *exec.Cmd
	done    chan struct{} // closed when it has ended
	err     error         // valid after done
}

// Start starts a process of the machine, which goes on until it is killed or the machine
// halted.
func (m *Machine) Start(command Command) (*Service, error) {
	output, err := os.OpenFile(m.LogPath(command.Name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s of %s: %w", command.Name, m.options.Name, err)
	}
	defer output.Close()
	s := &Service{Name: command.Name, machine: m, cmd: exec.Command(command.Path, command.Args...), done: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = output, output
	s.cmd.Env = append(os.Environ(), command.Env...)
	if err := m.launch(s.cmd, command.Name); err != nil {
		return nil, fmt.Errorf("start %s of %s: %w", command.Name, m.options.Name, err)
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.done)
	}()
	return s, nil
}

// Run runs a process of the machine to its end and returns what it said. An error says it
// too.
func (m *Machine) Run(ctx context.Context, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := m.launch(cmd, "run")
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s%s", filepath.Base(path), strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String(), nil
}

// Do runs f on a thread in the machine's network namespace. Sockets that f makes stay in
// it; goroutines that f starts run elsewhere.
func (m *Machine) Do(f func() error) error {
	return disposable(func() error {
		space, err := os.Open(m.Netns())
		if err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		defer space.Close()
		if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

// DialContext connects from the machine's network namespace, to an address of numbers.
func (m *Machine) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = m.Do(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// LogPath is the file of a service's output.
func (m *Machine) LogPath(service string) string {
	return filepath.Join(m.options.Dir, "log", service+".log")
}

// Kill ends the service's own process alone, as kill -9 does: what it started goes on, as a
// container runtime's containers do.
func (s *Service) Kill() error {
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", s.Name, err)
	}
	<-s.done
	return nil
}

// Ended returns how the service ended, or nil while it runs.
func (s *Service) Ended() error {
	select {
	case <-s.done:
		return fmt.Errorf("%s of %s ended: %w\n%s", s.Name, s.machine.options.Name, errors.Join(s.err), Tail(s.machine.LogPath(s.Name), 15))
	default:
		return nil
	}
}

// Tail returns the last n lines of a file, or why there are none.
func Tail(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// launch starts a command within the machine's namespaces and a cgroup of its services.
func (m *Machine) launch(cmd *exec.Cmd, service string) error {
	cgroup, err := m.service(service)
	if err != nil {
		return err
	}
	defer cgroup.Close()
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd()), Setsid: true}
	return m.enter(cmd.Start)
}

// enter runs f on a thread within the machine's namespaces; its children are processes of
// the machine.
func (m *Machine) enter(f func() error) error {
	return disposable(func() error {
		first, err := unix.PidfdOpen(m.first.Process.Pid, 0)
		if err != nil {
			return fmt.Errorf("enter %s: %w", m.options.Name, err)
		}
		defer unix.Close(first)
		// A thread that shares its root directory with others may not change mounts.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("enter %s: %w", m.options.Name, err)
		}
		const all = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC
		if err := unix.Setns(first, all); err != nil {
			return fmt.Errorf("enter %s: %w", m.options.Name, err)
		}
		return f()
	})
}

// disposable runs f on a thread that nothing else uses and that ends with it. The
// process's first thread is never taken: /proc/self is it.
func disposable(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// While this goroutine holds the first thread, another gets another.
			done <- disposable(f)
			runtime.UnlockOSThread()
			return
		}
		done <- f() // never unlocked: the thread ends here
	}()
	return <-done
}
