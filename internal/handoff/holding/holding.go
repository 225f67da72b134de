// Package holding keeps duplicates of the listeners of every pod, to be given back to the
// next agent. What a pod is it does not know.
package holding

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/handoff/rights"
)

// Set is what is held, with what a pod was described by. The zero value is empty. Its
// methods may be called concurrently.
type Set[Pod any] struct {
	mu     sync.Mutex
	pods   map[string]holding[Pod] // by UID; nil after Close
	closed bool
}

type holding[Pod any] struct {
	pod Pod
	fds []int
}

// Put duplicates fds, which stay the caller's, and replaces what the pod had.
func (h *Set[Pod]) Put(uid string, pod Pod, fds []int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return errors.New("keep listeners: the client is closed")
	}
	dups := make([]int, 0, len(fds))
	for _, fd := range fds {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			rights.Close(dups)
			return fmt.Errorf("keep listeners: %w", err)
		}
		dups = append(dups, dup)
	}
	rights.Close(h.pods[uid].fds)
	if h.pods == nil {
		h.pods = make(map[string]holding[Pod])
	}
	h.pods[uid] = holding[Pod]{pod, dups}
	return nil
}

// Each calls f for every pod that has listeners until it fails.
func (h *Set[Pod]) Each(f func(Pod, []int) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, pod := range h.pods {
		if len(pod.fds) == 0 {
			continue
		}
		if err := f(pod.pod, pod.fds); err != nil {
			return err
		}
	}
	return nil
}

// UIDs are those of the pods that are known, in no order.
func (h *Set[Pod]) UIDs() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.pods))
}

// Drop forgets a pod.
func (h *Set[Pod]) Drop(uid string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	rights.Close(h.pods[uid].fds)
	delete(h.pods, uid)
}

// Yield lets go of all listeners; the pods stay known.
func (h *Set[Pod]) Yield() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for uid, pod := range h.pods {
		rights.Close(pod.fds)
		h.pods[uid] = holding[Pod]{pod: pod.pod}
	}
}

// Close lets go of everything, and nothing is taken any more.
func (h *Set[Pod]) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, pod := range h.pods {
		rights.Close(pod.fds)
	}
	h.pods, h.closed = nil, true
}
