package handoff

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// holdings are duplicates of the listeners of every pod, kept to be given back
// to the next agent. Safe for concurrent use.
type holdings struct {
	mu     sync.Mutex
	pods   map[string]holding // by UID; nil after close
	closed bool
}

type holding struct {
	workload *Workload
	fds      []int
}

// put duplicates fds, which stay the caller's, and replaces what w's pod had.
func (h *holdings) put(w *Workload, fds []int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return errors.New("keep listeners: the client is closed")
	}
	dups := make([]int, 0, len(fds))
	for _, fd := range fds {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			closeFDs(dups)
			return fmt.Errorf("keep listeners: %w", err)
		}
		dups = append(dups, dup)
	}
	closeFDs(h.pods[w.UID].fds)
	if h.pods == nil {
		h.pods = make(map[string]holding)
	}
	h.pods[w.UID] = holding{workload: w, fds: dups}
	return nil
}

// each calls f for every pod that has listeners until it fails.
func (h *holdings) each(f func(*Workload, []int) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, pod := range h.pods {
		if len(pod.fds) == 0 {
			continue
		}
		if err := f(pod.workload, pod.fds); err != nil {
			return err
		}
	}
	return nil
}

func (h *holdings) uids() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.pods))
}

func (h *holdings) drop(uid string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	closeFDs(h.pods[uid].fds)
	delete(h.pods, uid)
}

// yield lets go of all listeners; the pods stay known.
func (h *holdings) yield() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for uid, pod := range h.pods {
		closeFDs(pod.fds)
		h.pods[uid] = holding{workload: pod.workload}
	}
}

func (h *holdings) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, pod := range h.pods {
		closeFDs(pod.fds)
	}
	h.pods, h.closed = nil, true
}
