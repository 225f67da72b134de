// Package remote lets every command that asks a node's two processes be given from anywhere:
// with --node, or with --pod for the node of a pod, the same command runs in Dubway's pod of
// that node, by kubectl exec. What it prints, and its exit status, are that command's.
package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dubway/dubway/cmd/dubwayctl/kubectl"
	"github.com/dubway/dubway/cmd/dubwayctl/live"
)

// Params are what the package takes from dubwayctl.
type Params struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Cluster        *kubectl.Kubectl
	Write          func(document any, rows [][]any) error
	// Ended makes of a command's own end an error that is told nobody, but has its status.
	Ended func(error) error
	// StateDir is where the node's sockets would be.
	StateDir func() string
}

// Plugin is the name by which kubectl finds the program: kubectl dubway.
const Plugin = "kubectl-dubway"

// here are the commands that ask no node.
var here = []string{
	"check", "completion", "demo", "generate", "help", "plan", "version", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd,
}

// containers are where commands run that need another one than the proxy's, which reaches
// the sockets of both.
var containers = map[string]string{"doctor": "agent"}

// endless are the commands that go on until they are ended.
var endless = []string{"tap", "top"}

// target is what an operator said about where.
type target struct {
	*Params

	node, pod string
	plugin    bool
}

// own are the flags that say where, and are not passed on.
var own = []string{"node", "pod", "context", "kubeconfig", "mesh-namespace"}

// Join lets all commands below root run elsewhere. name is how the program was called.
func Join(root *cobra.Command, name string, p *Params) {
	t := &target{Params: p, plugin: strings.TrimSuffix(filepath.Base(name), ".exe") == Plugin}
	if t.plugin {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl dubway"}
	}
	flags := root.PersistentFlags()
	flags.StringVar(&t.node, "node", "", "run the command on this `node`, by kubectl exec")
	flags.StringVar(&t.pod, "pod", "", "run it on the node of this pod, `NAMESPACE/POD`")
	root.MarkFlagsMutuallyExclusive("node", "pod")
	for _, c := range root.Commands() {
		if !slices.Contains(here, c.Name()) {
			t.join(c)
		}
	}
}

// join lets one command, and those below it, run elsewhere.
func (t *target) join(c *cobra.Command) {
	for _, below := range c.Commands() {
		t.join(below)
	}
	run := c.RunE
	if run == nil {
		return
	}
	all := new(bool)
	if c.Name() == "status" {
		all = c.Flags().Bool("all-nodes", false, "an overview of all nodes, by kubectl")
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		switch node, err := t.where(c); {
		case err != nil:
			return err
		case *all:
			return t.overview(c.Context())
		case node != nil:
			return t.exec(c, args, node)
		}
		return run(c, args)
	}
}

// where finds out on which node a command is to run; nil is here.
func (t *target) where(c *cobra.Command) (func(context.Context) (string, error), error) {
	pod := t.pod
	if filter := c.LocalNonPersistentFlags().Lookup("pod"); filter != nil && t.plugin && strings.Contains(filter.Value.String(), "/") {
		pod = filter.Value.String() // tap and top: only that pod's calls, and so on its node
	}
	offline := c.Flags().Lookup("xds")
	everywhere := c.Flags().Lookup("all-nodes")
	switch {
	case everywhere != nil && everywhere.Changed, offline != nil && offline.Changed:
		return nil, nil
	case t.node != "":
		return func(context.Context) (string, error) { return t.node, nil }, nil
	case pod != "":
		namespace, name, ok := strings.Cut(pod, "/")
		if !ok {
			return nil, fmt.Errorf("--pod %s: write NAMESPACE/POD", pod)
		}
		return func(ctx context.Context) (string, error) { return t.nodeOf(ctx, namespace, name) }, nil
	case t.plugin && !t.local():
		return nil, errors.New("say which node: --node NODE, or --pod NAMESPACE/POD for the node of a pod, or status --all-nodes")
	}
	return nil, nil
}

// local tells whether this machine is a node with Dubway.
func (t *target) local() bool {
	_, err := os.Stat(t.StateDir())
	return err == nil
}

// exec runs the command in Dubway's pod of the node.
func (t *target) exec(c *cobra.Command, args []string, node func(context.Context) (string, error)) error {
	ctx := c.Context()
	name, err := node(ctx)
	if err != nil {
		return err
	}
	pod, err := t.agent(ctx, name)
	if err != nil {
		return err
	}
	streams, command := kubectl.Streams{In: t.Stdin, Out: t.Stdout, Err: t.Stderr}, t.command(pod, words(c, args))
	if slices.Contains(endless, c.Name()) {
		// It ends when this process has, however that ends: the pod would never hear of it.
		held, open, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("run %s: %w", c.Name(), err)
		}
		defer func() { _ = errors.Join(held.Close(), open.Close()) }()
		streams.In, command = held, append(slices.Insert(command, 1, "-i"), "--"+live.UntilEOF)
	}
	err = t.Cluster.Run(ctx, streams, command...)
	if ctx.Err() != nil {
		return nil // the operator has seen enough
	}
	return t.Ended(err)
}

// command are kubectl's words for a command in a pod of Dubway's.
func (t *target) command(pod string, words []string) []string {
	container := containers[words[0]]
	if container == "" {
		container = "proxy"
	}
	return append([]string{"exec", "-n", t.Cluster.MeshNamespace, pod, "-c", container, "--", "dubwayctl"}, words...)
}

// words are the command as it was given, without what says where.
func words(c *cobra.Command, args []string) []string {
	path := strings.Fields(c.CommandPath())
	all := path[len(strings.Fields(c.Root().CommandPath())):]
	filters := c.LocalNonPersistentFlags()
	c.Flags().Visit(func(f *pflag.Flag) {
		if slices.Contains(own, f.Name) && filters.Lookup(f.Name) == nil {
			return
		}
		if many, ok := f.Value.(pflag.SliceValue); ok {
			for _, value := range many.GetSlice() {
				all = append(all, "--"+f.Name+"="+value)
			}
			return
		}
		all = append(all, "--"+f.Name+"="+f.Value.String())
	})
	if len(args) > 0 {
		all = append(append(all, "--"), args...)
	}
	return all
}
