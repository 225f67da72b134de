package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Operator is somebody who administers the cluster from a shell.
type Operator struct {
	cluster *Cluster
	dir     string // where the shell is
}

// Operator returns one whose shell is in dir, with kubectl, helm, dubwayctl and its name as a
// plugin, kubectl-dubway, on the PATH. dubwayctl is the file of these.
func (c *Cluster) Operator(dir, dubwayctl string) (*Operator, error) {
	for name, file := range map[string]string{
		"helm": filepath.Join(c.options.Programs.Helm, "helm"), "dubwayctl": dubwayctl, "kubectl-dubway": dubwayctl,
	} {
		if err := os.Symlink(file, c.program(name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("name program: %w", err)
		}
	}
	return &Operator{cluster: c, dir: dir}, nil
}

// Shell runs a line as the operator's shell does, and returns what it said on its standard output.
func (o *Operator) Shell(ctx context.Context, line string) (string, error) {
	c := o.cluster
	return c.control.Run(ctx, "/usr/bin/env", "-C", o.dir, "PATH="+c.program("")+":/usr/local/bin:/usr/bin:/bin",
		"KUBECONFIG="+c.conf("admin.kubeconfig"), "HOME="+c.conf(""), "sh", "-ec", line)
}
