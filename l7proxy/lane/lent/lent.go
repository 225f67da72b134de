// Package lent keeps the memory of lanes that the agent lends the proxy: mapped once,
// whatever connection it came by, and what the agent says of it. What lanes are made of it
// is its user's business.
package lent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
)

// User makes lanes. It is told of each change, one after another.
type User interface {
	// Use says what is there: the memory, nil where there are no lanes, and whether calls
	// may take them. Another memory than before has none of its lanes. All stay mapped
	// until Close of the Memory.
	Use(m *lane.Memory, mode handoff.LaneMode)
}

// Said is what the agent said last; the zero value before it said anything.
type Said struct {
	Mode handoff.LaneMode
	Why  string
	Maps uint64 // which memory; as of handoff.Lanes
}

// Memory is what was lent. Its methods may be called concurrently.
type Memory struct {
	user User // nil: nobody
	log  *slog.Logger

	mu     sync.Mutex
	said   Said
	now    *lane.Memory
	mapped []*lane.Memory // all: who used an earlier one may still read it
	closed bool
}

// New makes a Memory in which nothing is. User may be nil.
func New(user User, log *slog.Logger) *Memory { return &Memory{user: user, log: log} }

// Say takes what the agent says, and closes the files.
func (m *Memory) Say(l *handoff.Lanes, files []*os.File) error {
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errors.New("use lanes: the proxy ends")
	}
	memory, err := m.of(l, files)
	if err != nil {
		// Lanes that are there go on; no call begins in them.
		l = &handoff.Lanes{Mode: handoff.LaneOff, Why: err.Error(), Maps: m.said.Maps}
		memory = m.now
	}
	if next := (Said{l.Mode, l.Why, l.Maps}); next != m.said {
		m.log.Info("lanes", "mode", l.Mode, "why", l.Why)
		m.said = next
	}
	m.now = memory
	if m.user != nil {
		m.user.Use(memory, l.Mode)
	}
	return err
}

// of returns the memory that a message is about.
func (m *Memory) of(l *handoff.Lanes, files []*os.File) (*lane.Memory, error) {
	switch {
	case l.Maps == 0:
		return nil, nil
	case m.now != nil && l.Maps == m.said.Maps:
		return m.now, nil
	case len(files) == 0:
		return nil, fmt.Errorf("use lanes: maps %d came without files", l.Maps)
	}
	memory, err := lane.Open(files, l.Sizes)
	if err != nil {
		return nil, fmt.Errorf("use lanes: %w", err)
	}
	m.mapped = append(m.mapped, memory)
	return memory, nil
}

// Said returns what the agent said last.
func (m *Memory) Said() Said {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.said
}

// Close unmaps everything. Nobody uses it any more.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, one := range m.mapped {
		errs = append(errs, one.Close())
	}
	m.mapped, m.now, m.closed = nil, nil, true
	return errors.Join(errs...)
}
