// Package kubectl asks a cluster by the kubectl on the PATH: it has the operator's
// credentials, contexts and plugins of authentication, and nothing of them is read here.
package kubectl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/spf13/pflag"
)

// Name is the program that is looked for on the PATH.
const Name = "kubectl"

// Kubectl says which cluster is meant. The zero value means what kubectl means by itself.
type Kubectl struct {
	Context    string // of the kubeconfig; "" is the current one
	Kubeconfig string // a file; "" is kubectl's own choice
	// MeshNamespace is where Dubway itself is installed.
	MeshNamespace string
}

// DefaultMeshNamespace is where the chart installs Dubway unless told otherwise.
const DefaultMeshNamespace = "dubway-system"

// Flags adds the flags to a command's.
func (k *Kubectl) Flags(flags *pflag.FlagSet) {
	flags.StringVar(&k.Context, "context", "", "kubectl's `context` of the cluster")
	flags.StringVar(&k.Kubeconfig, "kubeconfig", "", "kubectl's `file` of clusters")
	flags.StringVar(&k.MeshNamespace, "mesh-namespace", DefaultMeshNamespace, "the `namespace` where Dubway is installed")
}

// command is a call of kubectl that ends with ctx.
func (k *Kubectl) command(ctx context.Context, args []string) *exec.Cmd {
	var flags []string
	if k.Context != "" {
		flags = append(flags, "--context="+k.Context)
	}
	if k.Kubeconfig != "" {
		flags = append(flags, "--kubeconfig="+k.Kubeconfig)
	}
	return exec.CommandContext(ctx, Name, append(flags, args...)...) //nolint:gosec // the operator's own words, and no shell
}

// Output runs kubectl and returns what it writes. Its complaints are the error.
func (k *Kubectl) Output(ctx context.Context, args ...string) ([]byte, error) {
	out, err := k.Partial(ctx, args...)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Partial is Output for what may say something although it fails.
func (k *Kubectl) Partial(ctx context.Context, args ...string) ([]byte, error) {
	c := k.command(ctx, args)
	var out, complaints bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaints
	if err := c.Run(); err != nil {
		return out.Bytes(), explain(args, err, complaints.String())
	}
	return out.Bytes(), nil
}

// Streams are what a command in a pod reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Run runs kubectl with the operator's own streams. An error of the command itself is an
// *exec.ExitError, whose complaints have been shown already.
func (k *Kubectl) Run(ctx context.Context, s Streams, args ...string) error {
	c := k.command(ctx, args)
	c.Stdin, c.Stdout, c.Stderr = s.In, s.Out, s.Err
	err := c.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return explain(args, err, "")
	}
	return err //nolint:wrapcheck // its exit status is the answer
}

// explain says what to do about a call that failed.
func explain(args []string, err error, complaints string) error {
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("no %s on the PATH: install it, or dump what it would read into a folder and use --from: %w", Name, err)
	}
	if complaints = strings.TrimSpace(complaints); complaints != "" {
		return fmt.Errorf("%s %s: %s", Name, strings.Join(args, " "), complaints)
	}
	return fmt.Errorf("%s %s: %w", Name, strings.Join(args, " "), err)
}
