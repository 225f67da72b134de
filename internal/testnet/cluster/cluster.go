// Package cluster is a real Kubernetes of two nodes on this machine: etcd, kube-apiserver,
// kube-controller-manager and kube-scheduler on one computer of package machine, and on
// each of two more containerd, kubelet, kube-proxy and the CNI plugins bridge, host-local
// and portmap. Nothing of it is a substitute.
//
//	DIR/                       /var/tmp/dubway-e2e; /var/tmp is locked while a cluster runs
//	    bin/ conf/ images/     the programs by their names, keys and kubeconfigs, archives
//	    cp/ n1/ n2/            the disks of the computers
//	HIERARCHY/kt-cp, kt-n1, kt-n2   their cgroups: system/SERVICE, and of nodes kubepods/...
//
//	cp  198.18.0.1    fd98:18::1     a bridge that all hang on; the API server's port 6443
//	n1  198.18.0.11   fd98:18::11    pods 198.18.1.0/24, fd98:18:0:1::/64
//	n2  198.18.0.12   fd98:18::12    pods 198.18.2.0/24, fd98:18:0:2::/64
//	Services          198.19.0.0/16, fd98:19::/112
//
// No address can be reached from outside, none outside from within, and no registry is: what
// pods run is imported (ImportImage), with imagePullPolicy Never.
//
// The tests of this package have the build tag e2e: `make e2e` builds what they need.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/deploy/image/archive"
	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/cluster/machine"
)

// Dir holds all of a cluster.
const Dir = "/var/tmp/dubway-e2e"

// PodImage is the image of command pod, which every node has: `serve PORT NAME` and
// `get URL` in it are the ends of a plain connection.
const PodImage = "dubway.test/pod:1"

// pauseImage is that of every pod's first process.
const pauseImage = "dubway.test/pause:1"

// patience is how long a step may take: an apiserver was seen to need 93 s on a loaded
// machine instead of 7.
const patience = 4 * time.Minute

// Programs are the folders of the built programs, as `make e2e` says them.
type Programs struct {
	Kubernetes string // k8s
	Containerd string // containerd, containerd-shim-runc-v2, ctr
	CNI        string // bridge, host-local, loopback, portmap
	Helm       string // helm
}

// FromEnvironment returns the folders that `make e2e` says.
func FromEnvironment() (Programs, error) {
	var p Programs
	for name, to := range map[string]*string{
		"DUBWAY_E2E_K8S": &p.Kubernetes, "DUBWAY_E2E_CONTAINERD": &p.Containerd,
		"DUBWAY_E2E_CNIPLUGINS": &p.CNI, "DUBWAY_E2E_HELM": &p.Helm,
	} {
		if *to = os.Getenv(name); *to == "" {
			return p, fmt.Errorf("%s does not say where the programs are: run make e2e", name)
		}
	}
	return p, nil
}

// Options say what a cluster is.
type Options struct {
	Programs Programs
	Log      func(format string, args ...any) // is told each step and how long it took; not nil
}

// Cluster is a running cluster. Its methods are safe for concurrent use, except Close.
type Cluster struct {
	Nodes []*Node // n1 and n2

	options Options
	lock    *os.File
	control *machine.Machine
	api     *api
}

// Start removes what a killed run left, starts a cluster and waits until both nodes are
// ready. Close it. There is one at a time on a machine: another waits for it.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	c := &Cluster{options: options}
	if err := c.start(ctx); err != nil {
		var logs strings.Builder
		c.Logs(&logs)
		return nil, errors.Join(fmt.Errorf("start cluster: %w\n%s", err, logs.String()), c.Close())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	if os.Getuid() != 0 {
		return errors.New("it needs root: it makes namespaces and mounts")
	}
	steps := []struct {
		what string
		do   func(context.Context) error
	}{
		{"what was left removed", c.sweep},
		{"programs laid out", c.layOut},
		{"computers booted", c.boot},
		{"kube-apiserver ready", c.startControl},
		{"nodes ready", c.startNodes},
	}
	for _, step := range steps {
		if err := c.Step(step.what, func() error { return step.do(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

// Step does something and says how long it took.
func (c *Cluster) Step(what string, do func() error) error {
	began := time.Now()
	if err := do(); err != nil {
		return fmt.Errorf("%s: not after %.1f s: %w", what, time.Since(began).Seconds(), err)
	}
	c.options.Log("%5.1f s  %s", time.Since(began).Seconds(), what)
	return nil
}

// computers are the names of all.
var computers = []string{"cp", "n1", "n2"} //nolint:gochecknoglobals // a constant that Go cannot say

// cgroupOf is the name of a computer's cgroups.
func cgroupOf(computer string) string { return "kt-" + computer }

// sweep takes the lock, waiting for who has it, and removes what a killed run left.
func (c *Cluster) sweep(ctx context.Context) error {
	lock, err := os.Open(filepath.Dir(Dir)) // a file of our own could not be removed without a race
	if err != nil {
		return fmt.Errorf("open lock: %w", err)
	}
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("lock %s: another cluster runs: %w", lock.Name(), err), lock.Close())
		case <-time.After(time.Second):
		}
	}
	c.lock = lock
	return remove()
}

// remove removes all that a cluster makes and that does not end with its processes.
func remove() error {
	var errs []error
	for _, name := range computers {
		errs = append(errs, machine.Sweep(cgroupOf(name)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.RemoveAll(Dir); err != nil {
		return fmt.Errorf("remove directory: %w", err)
	}
	return nil
}

// Close ends every process of the cluster and removes all that Start made. It is safe
// after a failed Start and may be called twice.
func (c *Cluster) Close() error {
	if c.lock == nil {
		return nil
	}
	var halting sync.WaitGroup
	for _, m := range c.machines() {
		halting.Go(func() { _ = m.Halt() })
	}
	halting.Wait()
	for _, n := range c.Nodes {
		if n.Capture != nil {
			_ = n.Capture.Close()
		}
	}
	err := remove()
	_ = c.lock.Close()
	c.lock = nil
	if err != nil {
		return fmt.Errorf("remove cluster: %w", err)
	}
	return nil
}

// machines are those that were booted.
func (c *Cluster) machines() []*machine.Machine {
	var all []*machine.Machine
	if c.control != nil {
		all = append(all, c.control)
	}
	for _, n := range c.Nodes {
		if n.Machine != nil {
			all = append(all, n.Machine)
		}
	}
	return all
}

// layOut gives the programs their names and makes the image that each node has.
func (c *Cluster) layOut(ctx context.Context) error {
	for _, part := range []string{"bin", "conf", "images"} {
		if err := os.MkdirAll(filepath.Join(Dir, part), 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	k8s := filepath.Join(c.options.Programs.Kubernetes, "k8s")
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"} {
		// One file with many names, where that can be: who asks the kernel what runs is told
		// the name too.
		if err := os.Link(k8s, c.program(name)); err == nil {
			continue
		}
		if err := os.Symlink(k8s, c.program(name)); err != nil {
			return fmt.Errorf("name program: %w", err)
		}
	}
	here, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	pod := filepath.Join(strings.TrimSpace(string(here)), "internal/testnet/cluster/pod")
	if err := testnet.Build(ctx, pod, c.program("pod")); err != nil {
		return err
	}
	files, err := archive.Copy(map[string]string{"pod": c.program("pod")})
	if err != nil {
		return fmt.Errorf("make images: %w", err)
	}
	pause := archive.Image{Name: pauseImage, Arch: runtime.GOARCH, Files: files, Entrypoint: []string{"/pod", "pause"}}
	own := archive.Image{Name: PodImage, Arch: runtime.GOARCH, Files: files, Entrypoint: []string{"/pod"}}
	return errors.Join(pause.Write(c.archive("pause")), own.Write(c.archive("pod")))
}

// program is the path of a program, for every computer too.
func (c *Cluster) program(name string) string { return filepath.Join(Dir, "bin", name) }

// conf is the path of a file of the configuration, the same.
func (c *Cluster) conf(name string) string { return filepath.Join(Dir, "conf", name) }

// archive is the path of an image.
func (c *Cluster) archive(name string) string { return filepath.Join(Dir, "images", name+".tar") }

// boot boots the computers and joins them.
func (c *Cluster) boot(ctx context.Context) error {
	var err error
	if c.control, err = c.computer("cp"); err != nil {
		return err
	}
	if err := makeBridge(c.control); err != nil {
		return err
	}
	for i, name := range computers[1:] {
		n := &Node{Name: name, cluster: c, number: i + 1}
		c.Nodes = append(c.Nodes, n)
		if n.Machine, err = c.computer(name); err != nil {
			return err
		}
		if err := n.furnish(); err != nil {
			return fmt.Errorf("furnish %s: %w", name, err)
		}
		if err := n.plug(); err != nil {
			return fmt.Errorf("plug %s: %w", name, err)
		}
		if err := n.watch(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) computer(name string) (*machine.Machine, error) {
	return machine.Boot(machine.Options{Name: name, Dir: filepath.Join(Dir, name), Cgroup: cgroupOf(name), Init: c.program("pod")})
}

// errHopeless ends waiting.
var errHopeless = errors.New("it will not be")

// eventually waits until ready says yes, for patience at most, and ends at once when one of
// the services has, or the error is errHopeless.
func eventually(ctx context.Context, what string, ready func(context.Context) error, services ...*machine.Service) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if errors.Is(err, errHopeless) {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		for _, s := range services {
			if ended := s.Ended(); ended != nil {
				return fmt.Errorf("wait for %s: %w", what, ended)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
