package testnet

import (
	"fmt"
	"os"
)

// helperEnv names the function that a re-executed binary is to run.
const helperEnv = "DUBWAY_TESTNET_HELPER"

// Helper is a function that runs as a pod in a process of its own. A thread
// cannot be moved to another cgroup without its process, so what is to be
// steered cannot run in the test itself.
type Helper func(args []string) error

// Dispatch runs the helper that this process was started for, and does not
// return then. A binary that uses StartHelper calls it first in its main or
// TestMain.
func Dispatch(helpers map[string]Helper) {
	name := os.Getenv(helperEnv)
	if name == "" {
		return
	}
	helper, ok := helpers[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "no helper %q\n", name)
		os.Exit(2)
	}
	if err := helper(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "helper %s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// StartHelper runs a helper of this very binary as the pod.
func (p *Pod) StartHelper(name string, args ...string) (*Process, error) {
	command := helper(name, args)
	command.Name = p.Name + "-" + name
	return p.Start(command)
}

// StartHelper runs a helper of this very binary where the proxy runs, as its user.
func (n *Node) StartHelper(name string, args ...string) (*Process, error) {
	return n.StartUnprivileged(helper(name, args))
}

func helper(name string, args []string) Command {
	self, _ := os.Executable() // without it, the start fails and says so
	return Command{Name: name, Path: self, Args: args, Env: []string{helperEnv + "=" + name}}
}
