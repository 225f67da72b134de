package lane

import (
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/dubway/dubway/bpf"
)

// loadWaker loads the program that wakes writers, apart from the others: a kernel that
// allows no tracing refuses it, and is as good without it until memory is short.
func (l *Lane) loadWaker() {
	p, err := ebpf.NewProgram(l.spec.Programs[bpf.LaneProgWakeTcp].Copy())
	if err != nil {
		l.log.Info("who writes while the host has no memory for TCP may wait longer than that lasts", "error", err)
		return
	}
	l.waker = p
}

// Wake wakes who waits to write to a socket of TCP in the network namespace of this thread:
// while memory is short the kernel does not, of sockets that lanes may use.
func (l *Lane) Wake() error {
	if l.waker == nil {
		return nil
	}
	it, err := link.AttachIter(link.IterOptions{Program: l.waker})
	if err != nil {
		return fmt.Errorf("wake writers: %w", err)
	}
	defer it.Close()
	sockets, err := it.Open()
	if err != nil {
		return fmt.Errorf("wake writers: %w", err)
	}
	_, err = io.Copy(io.Discard, sockets)
	if err = errors.Join(err, sockets.Close()); err != nil {
		return fmt.Errorf("wake writers: %w", err)
	}
	return nil
}
