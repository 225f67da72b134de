package netns

import (
	"fmt"
	"os"
)

// Hold makes a Namespace of an open file of one, which it owns from then on, also if it
// is none: then it is closed.
func Hold(file *os.File) (*Namespace, error) {
	n := &Namespace{file: file}
	if err := n.identify(); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("hold network namespace: %w", err)
	}
	return n, nil
}

// Path is a path of the namespace that holds while it is open, whatever becomes of its
// processes. On the node nsenter takes it too.
func (n *Namespace) Path() string {
	path := ""
	_ = control(n.file, func(fd int) error {
		path = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)
		return nil
	})
	return path
}
