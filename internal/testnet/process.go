package testnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ProxyUID is the user that dubway-proxy runs as.
const ProxyUID = 65532

// Command is a process to be: what it runs and where it lives.
type Command struct {
	Name string // of its log
	Path string
	Args []string
	Env  []string // added to this process's
	// Stdin, if set, is the process's standard input.
	Stdin io.Reader
	// RealtimePriority above 0 runs it as chrt -r would.
	RealtimePriority int

	netns, cgroup string
	memory        string // a cgroup of version 1; "" for this process's
	unprivileged  bool
}

// Process is a running Command. Its output goes to a file, so that it outlives
// this process where a node is left standing.
type Process struct {
	Name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // valid after done

	mu     sync.Mutex
	output strings.Builder // what was read of log: tests look at it all the time
}

// Start runs a command as the pod: in its network namespace and its cgroup.
func (p *Pod) Start(command Command) (*Process, error) {
	command.netns, command.cgroup = p.Netns, p.Cgroup
	if command.Name == "" {
		command.Name = p.Name
	}
	return p.node.start(command)
}

// Run runs a command as the pod, with this process's standard streams, and waits
// for it.
func (p *Pod) Run(ctx context.Context, path string, args ...string) error {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	command := Command{netns: p.Netns, cgroup: p.Cgroup}
	if err := command.launch(cmd); err != nil {
		return fmt.Errorf("run %s as %s: %w", path, p.Name, err)
	}
	return cmd.Wait()
}

// start runs a command in its places and keeps its output in logs/NAME.log.
func (n *Node) start(command Command) (*Process, error) {
	process := &Process{
		Name: command.Name,
		log:  filepath.Join(n.path("logs"), command.Name+".log"),
		done: make(chan struct{}),
	}
	output, err := os.OpenFile(process.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", command.Name, err)
	}
	defer output.Close()
	process.cmd = exec.Command(command.Path, command.Args...)
	process.cmd.Stdin, process.cmd.Stdout, process.cmd.Stderr = command.Stdin, output, output
	process.cmd.Env = append(os.Environ(), command.Env...)
	if command.unprivileged {
		// Run by descriptor: the proxy's user need not be able to walk to a
		// binary in somebody's home directory.
		binary, err := os.Open(command.Path)
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", command.Name, err)
		}
		defer binary.Close()
		process.cmd.Path, process.cmd.ExtraFiles = "/proc/self/fd/3", []*os.File{binary}
	}
	if err := command.launch(process.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", command.Name, err)
	}
	go func() {
		process.err = process.cmd.Wait()
		close(process.done)
	}()
	return process, nil
}

// launch starts cmd from a thread that is already where the process is to be:
// a child inherits its network namespace, priority and bounding set from the
// thread that makes it. The kernel puts it into its cgroup as it is made.
func (c *Command) launch(cmd *exec.Cmd) error {
	cgroup, err := os.Open(c.cgroup)
	if err != nil {
		return fmt.Errorf("open cgroup: %w", err)
	}
	defer cgroup.Close()
	// A session of its own keeps the terminal's Ctrl-C away: ending is ours.
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd()), Setsid: cmd.Stdin != os.Stdin}
	if c.unprivileged {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: ProxyUID, Gid: ProxyUID, NoSetGroups: false}
	}
	return inNetns(c.netns, func() error {
		if c.RealtimePriority > 0 {
			if err := setRealtime(c.RealtimePriority); err != nil {
				return err
			}
		}
		if c.memory != "" {
			if err := enterMemory(c.memory); err != nil {
				return err
			}
		}
		if c.unprivileged {
			if err := dropBounding(); err != nil {
				return err
			}
		}
		return cmd.Start()
	})
}

// dropBounding takes every capability from the calling thread's bounding set and
// forbids new ones, as a container with "drop: ALL" has it.
func dropBounding() error {
	for capability := uintptr(0); ; capability++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) && capability > 0 {
			break // past the kernel's last one
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", capability, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid new privileges: %w", err)
	}
	return nil
}

// setRealtime gives the calling thread the round-robin policy.
func setRealtime(priority int) error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: uint32(priority)}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return fmt.Errorf("set realtime priority: %w", err)
	}
	return nil
}

// Pid returns the process's id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal.
func (p *Process) Signal(signal os.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	return nil
}

// Kill ends the process as kill -9 does and waits until it is gone.
func (p *Process) Kill() error {
	err := p.Signal(unix.SIGKILL)
	if err == nil {
		<-p.done
	}
	return err
}

// Stop asks the process to end and kills it when it has not within the grace.
func (p *Process) Stop(grace time.Duration) error {
	if err := p.Signal(unix.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(grace):
		return p.Kill()
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait returns how the process ended.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("%s: %w\n%s", p.Name, p.err, tail(p.Output()))
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", p.Name, ctx.Err())
	}
}

// Output returns all that the process, and earlier ones of its name, wrote.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if log, err := os.Open(p.log); err == nil {
		defer func() { _ = log.Close() }()
		if _, err := log.Seek(int64(p.output.Len()), io.SeekStart); err == nil {
			_, _ = io.Copy(&p.output, log)
		}
	}
	return p.output.String()
}

// LogPath returns the file of the process's output.
func (p *Process) LogPath() string { return p.log }

// WaitFor waits until ready says yes, at most until the context ends, and fails
// at once when the process ends.
func (p *Process) WaitFor(ctx context.Context, what string, ready func() bool) error {
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !ready() {
		select {
		case <-poll.C:
		case <-p.done:
			return fmt.Errorf("%s ended before %s: %w\n%s", p.Name, what, p.err, tail(p.Output()))
		case <-ctx.Done():
			return fmt.Errorf("wait for %s of %s: %w\n%s", what, p.Name, ctx.Err(), tail(p.Output()))
		}
	}
	return nil
}

// WaitText waits until the process has written a text.
func (p *Process) WaitText(ctx context.Context, text string) error {
	return p.WaitFor(ctx, fmt.Sprintf("%q", text), func() bool { return strings.Contains(p.Output(), text) })
}

// tail returns the last lines of an output.
func tail(output string) string {
	lines := bytes.Split([]byte(strings.TrimSpace(output)), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
}
