// Command dubway-cni is the CNI plugin that container runtimes run for each pod, behind
// the plugins that make its network. It has no flags: its configuration is its element
// in the node's conflist. What it does is in package plugin.
package main

import (
	"fmt"
	"os"

	"github.com/dubway/dubway/cni/plugin"
	"github.com/dubway/dubway/internal/version"
)

func main() {
	if len(os.Args) > 1 {
		if len(os.Args) == 2 && os.Args[1] == "version" {
			fmt.Println("dubway-cni", version.Version)
			return
		}
		fmt.Fprintln(os.Stderr, "dubway-cni: it is run by the container runtime, and by people as dubway-cni version")
		os.Exit(2)
	}
	if problem := plugin.Run(); problem != nil {
		// On standard output, as JSON: there the runtime looks for it.
		if err := problem.Print(); err != nil {
			fmt.Fprintln(os.Stderr, "dubway-cni:", err)
		}
		os.Exit(1)
	}
}
