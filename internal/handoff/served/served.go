// Package served is a node's note of whose proxy served last. An agent whose turn it is
// writes its name there when its proxy serves, and lends its proxy the note to read: so a
// proxy whose agent is gone learns that another one's accepts from the same listeners.
// Who has the turn it does not decide: the lock does (agent/takeover).
package served

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// size is that of a name, in bytes. All have the same, and are written in one piece.
const size = 32

// Path is that of the note in a node's directory.
func Path(dir string) string { return filepath.Join(dir, "served") }

// Note is an agent's. Only who has the turn writes.
type Note struct {
	name string
	path string
	file *os.File
}

// Open opens the note of a node's directory, or makes it, for the agent of a state
// directory. Its name is that directory's: agents that follow each other in one pod are one,
// those of two pods are two. The caller closes the Note.
func Open(dir, stateDir string) (*Note, error) {
	name, err := nameOf(stateDir)
	if err != nil {
		return nil, fmt.Errorf("open note of who serves: %w", err)
	}
	file, err := os.OpenFile(Path(dir), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open note of who serves: %w; fix: mount a directory of the host at --node-dir", err)
	}
	return &Note{name: name, path: Path(dir), file: file}, nil
}

func nameOf(dir string) (string, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return "", fmt.Errorf("name the agent: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", errors.New("name the agent: its state directory has no inode")
	}
	return fmt.Sprintf("%016x%016x", stat.Dev, stat.Ino), nil
}

// Name is that of the agent.
func (n *Note) Name() string { return n.name }

// Clear says that it is not known who serves: a turn begins.
func (n *Note) Clear() error { return n.write(make([]byte, size)) }

// Write says that the agent's proxy serves.
func (n *Note) Write() error { return n.write([]byte(n.name)) }

func (n *Note) write(b []byte) error {
	if _, err := n.file.WriteAt(b, 0); err != nil {
		return fmt.Errorf("note who serves: %w", err)
	}
	return nil
}

// Lend opens the note once more, to be read by the agent's proxy. The caller closes it.
func (n *Note) Lend() (*os.File, error) {
	file, err := os.Open(n.path)
	if err != nil {
		return nil, fmt.Errorf("lend note of who serves: %w", err)
	}
	return file, nil
}

// Close closes the note, which stays.
func (n *Note) Close() error {
	if err := n.file.Close(); err != nil {
		return fmt.Errorf("close note of who serves: %w", err)
	}
	return nil
}

// Lent is the note as a proxy has it; nothing, until an agent lends it. One goroutine uses it.
type Lent struct {
	name string
	file *os.File
}

// Borrow takes the note that an agent of a name lends, in place of what another one lent: the
// descriptor is the Lent's. None: this one lends nothing.
func (l *Lent) Borrow(name string, fds []int) {
	l.Close()
	for _, fd := range fds {
		l.Close()
		l.name, l.file = name, os.NewFile(uintptr(fd), "note")
	}
}

// Another tells whether another agent's proxy served last.
func (l *Lent) Another() bool {
	if l.file == nil {
		return false
	}
	var b [size]byte
	if n, err := l.file.ReadAt(b[:], 0); n < size || err != nil {
		return false
	}
	return b != [size]byte{} && string(b[:]) != l.name
}

// Close gives the note back.
func (l *Lent) Close() {
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
}
