package testnet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// netnsDir is where iproute2 keeps its named network namespaces.
const netnsDir = "/run/netns"

// disposable runs f on a thread that nothing else uses and that ends with it,
// so that f may change what belongs to a thread: its network namespace, its
// bounding set. The process's first thread is never taken: /proc/self is it.
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

// inNetns runs f on a disposable thread in the network namespace at path.
func inNetns(path string, f func() error) error {
	return disposable(func() error {
		file, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		defer file.Close()
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", path, err)
		}
		return f()
	})
}

// makeNetns makes a named network namespace and returns its path.
func makeNetns(name string) (string, error) {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return "", fmt.Errorf("make network namespace: %w", err)
	}
	path := filepath.Join(netnsDir, name)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return "", fmt.Errorf("make network namespace: %w", err)
	}
	_ = file.Close()
	err = disposable(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		// Off by default in a new namespace on some distributions, on in pods.
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("0"), 0o600)
		if err := unix.Mount("/proc/thread-self/ns/net", path, "none", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("name network namespace: %w", err)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return path, nil
}

func removeNetns(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil &&
		!errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unmount network namespace: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove network namespace: %w", err)
	}
	return nil
}
