package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/deploy/demo"
	"github.com/dubway/dubway/internal/admin"
)

// demoResult is the document of the demo commands; the story that they tell goes
// to the standard error then.
type demoResult struct {
	APIVersion string `json:"apiVersion"`
	Demo       string `json:"demo"` // "shown", "up" or "down"
}

func (e *env) demoCommand() *cobra.Command {
	var options demo.Options
	run := demoStep{"run", "Show everything, then clean up", "shown", &options, demo.Run}
	c := e.demoStep(run)
	c.Use, c.Short = "demo", "Show the mesh on three pods of this machine"
	c.Long = "Show the mesh on three pods of this machine, then clean up: a dubbo-go consumer and two versions of a\n" +
		"provider, in network namespaces, with real eBPF. Needs root; nothing stays but what up leaves until down."
	flags := c.PersistentFlags()
	flags.StringVar(&options.Bin, "bin", ownDirectory(), "`directory` of dubway-agent and dubway-proxy")
	flags.StringVar(&options.Peers, "peers", "",
		"source `directory` of the demo's application (default: deploy/demo/peers, here or beside --bin)")
	c.AddCommand(
		e.demoStep(run),
		e.demoStep(demoStep{"up", "Switch the mesh on under running calls, and leave it up to explore", "up", &options, demo.Up}),
		e.demoStep(demoStep{"down", "Remove what up left", "down", &options, demo.Down}),
		demoExecCommand(),
	)
	return c
}

// demoStep is one of the commands that tell a story.
type demoStep struct {
	use, short, result string
	options            *demo.Options
	do                 func(context.Context, demo.Options) error
}

func (e *env) demoStep(step demoStep) *cobra.Command {
	return &cobra.Command{
		Use: step.use, Short: step.short, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			options := *step.options
			options.Out = e.story()
			if options.Peers == "" {
				options.Peers = findPeers(options.Bin)
			}
			if err := step.do(c.Context(), options); err != nil {
				return err
			}
			if e.output != outputJSON {
				return nil
			}
			return e.write(demoResult{APIVersion: admin.APIVersion, Demo: step.result}, nil)
		},
	}
}

// story is where a demo tells what it does.
func (e *env) story() io.Writer {
	if e.output == outputJSON {
		return e.stderr
	}
	return e.stdout
}

func demoExecCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "exec POD -- COMMAND [ARG...]",
		Short: "Run a command as one of the demo's pods",
		Long: "Run a command as one of the demo's pods: in its network namespace and its cgroup, so that the mesh\n" +
			"takes it for the pod. The exit status is the command's.",
		Example: "  dubwayctl demo exec consumer -- java -jar my-consumer.jar",
		Args: func(_ *cobra.Command, args []string) error {
			_, _, err := podCommand(args)
			return err
		},
		ValidArgsFunction: cobra.FixedCompletions([]string{"consumer", "provider-v1", "provider-v2"}, cobra.ShellCompDirectiveDefault),
		RunE: func(c *cobra.Command, args []string) error {
			pod, command, err := podCommand(args)
			if err != nil {
				return err
			}
			return commandEnd(demo.Exec(c.Context(), pod, command))
		},
	}
	c.Flags().SetInterspersed(false) // the flags behind the pod are the command's
	return c
}

// podCommand splits "POD -- COMMAND ARG..."; the dashes may be left out.
func podCommand(args []string) (pod string, command []string, err error) {
	if len(args) > 1 {
		pod, command = args[0], args[1:]
		if command[0] == "--" {
			command = command[1:]
		}
	}
	if len(command) == 0 {
		return "", nil, errors.New("name a pod and a command, such as dubwayctl demo exec consumer -- ip address")
	}
	return pod, command, nil
}

// ownDirectory is where the other binaries are expected.
func ownDirectory() string {
	path, err := os.Executable()
	if err != nil {
		return "."
	}
	return filepath.Dir(path)
}

// findPeers looks for the demo's application in the checkout that one stands in,
// else in the one that the binaries were built in.
func findPeers(bin string) string {
	const peers = "deploy/demo/peers"
	beside := filepath.Join(bin, "..", peers)
	for _, dir := range []string{peers, beside} {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	return peers
}

// endedError is the end of a command that was run for the user, and which told
// its reasons itself.
type endedError struct {
	status int
}

func (e *endedError) Error() string { return fmt.Sprintf("the command ended with status %d", e.status) }

// commandEnd makes an endedError of what a command's own end was.
func commandEnd(err error) error {
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.ExitCode() > 0 {
		return &endedError{status: ended.ExitCode()}
	}
	return err
}

// exitStatus is the exit status for an error, which it tells.
func exitStatus(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	if ended, ok := errors.AsType[*endedError](err); ok {
		return ended.status
	}
	_, _ = fmt.Fprintln(stderr, "dubwayctl:", err)
	return 1
}
