package cluster

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dubway/dubway/internal/testnet/cluster/machine"
)

// lines is how many last ones of each log are shown.
const lines = 40

// Logs shows the ends of all services' logs, and of those of the pods of a namespace that
// are called so: agent and proxy when it is Dubway's.
func (c *Cluster) Logs(to io.Writer, namespaces ...string) {
	services, _ := filepath.Glob(filepath.Join(Dir, "*", "log", "*.log"))
	for _, name := range services {
		show(to, name)
	}
	for _, namespace := range namespaces {
		// The files of kubelet, NAMESPACE_POD_UID/CONTAINER/N.log: they are there without
		// an API server, and those of containers that ended.
		containers, _ := filepath.Glob(filepath.Join(Dir, "*", "var/log/pods", namespace+"_*", "*", "*.log"))
		for _, name := range containers {
			show(to, name)
		}
	}
}

func show(to io.Writer, name string) {
	if info, err := os.Stat(name); err != nil || info.Size() == 0 {
		return
	}
	short, _ := filepath.Rel(Dir, name) // it is below
	fmt.Fprintf(to, "==> %s\n%s\n", short, machine.Tail(name, lines))
}
