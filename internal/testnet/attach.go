package testnet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Open returns a node that another process made and left standing, by its state
// directory, to run commands as its pods. It is not this process's to Close;
// pods have no labels and addresses here.
func Open(stateDir string) (*Node, error) {
	name := filepath.Base(stateDir)
	root, err := cgroupRoot()
	if err != nil {
		return nil, err
	}
	node := &Node{name: name, cgroup: filepath.Join(root, name), pods: map[string]*Pod{}}
	entries, err := os.ReadDir(filepath.Join(node.cgroup, "pods"))
	if err != nil {
		return nil, fmt.Errorf("open node %s: %w", name, err)
	}
	for _, entry := range entries {
		if !entry.IsDir() || strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		node.pods[entry.Name()] = &Pod{
			node: node, Name: entry.Name(),
			Netns:  filepath.Join(netnsDir, name+"-"+entry.Name()),
			Cgroup: filepath.Join(node.cgroup, "pods", entry.Name()),
		}
	}
	return node, nil
}

// PodNames returns the names of the node's pods.
func (n *Node) PodNames() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	names := make([]string, 0, len(n.pods))
	for name := range n.pods {
		names = append(names, name)
	}
	return names
}
