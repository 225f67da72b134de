package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/planetest"
)

// planeAddress is where the control plane is, in the proxy's network namespace.
const planeAddress = "127.0.0.1:15010"

// priority is that of the proxy, as in package bench: other work on the machine is not what
// is measured.
const priority = 5

// providers are those that the called service's endpoint is moved between.
var providers = [2]struct { //nolint:gochecknoglobals // a table
	name string
	port uint16
}{{"one", 20880}, {"two", 20881}}

// rig is a node with pods of as many kinds as there are views, below a control plane.
type rig struct {
	options            options
	size               size
	node               *testnet.Node
	consumer, provider *testnet.Pod
	caller             *testnet.Process
	agent, proxy       *testnet.Process
	mesh               *planetest.Mesh
	plane              *planetest.Plane
	listener           net.Listener
	pods               []*testnet.Pod
	seen               int // answers of the consumer
}

// newRig makes everything but the proxy.
func newRig(ctx context.Context, o options, s size) (r *rig, err error) {
	r = &rig{options: o, size: s}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if _, err := testnet.CleanStale("scale"); err != nil {
		return r, fmt.Errorf("remove old nodes: %w", err)
	}
	r.node, err = testnet.New(testnet.Options{
		Tag: "scale", Number: 111, Agent: filepath.Join(o.bin, "dubway-agent"), Proxy: filepath.Join(o.bin, "dubway-proxy"),
	})
	if err != nil {
		return r, fmt.Errorf("make node: %w", err)
	}
	if err := r.control(); err != nil {
		return r, err
	}
	return r, r.populate(ctx)
}

// Close removes everything.
func (r *rig) Close() error {
	if r.listener != nil {
		_ = r.listener.Close()
	}
	if r.node == nil {
		return nil
	}
	if err := r.node.Close(); err != nil {
		return fmt.Errorf("remove node: %w", err)
	}
	return nil
}

// control starts the control plane.
func (r *rig) control() (err error) {
	if r.mesh, err = planetest.Read(r.options.recorded, r.size.Services); err != nil {
		return fmt.Errorf("make mesh: %w", err)
	}
	r.plane = planetest.New(r.mesh, r.size.Own)
	if r.listener, err = r.node.System().Listen(planeAddress); err != nil {
		return fmt.Errorf("start control plane: %w", err)
	}
	go func() { _ = r.plane.Serve(r.listener) }() // it ends with the listener
	return nil
}

// populate makes the pods, the agent, and whoever calls and is called.
func (r *rig) populate(ctx context.Context) (err error) {
	if r.provider, err = r.node.AddPod("provider", nil); err != nil {
		return fmt.Errorf("add pod: %w", err)
	}
	for _, p := range providers {
		if _, err := r.provider.StartHelper("provider", p.name, fmt.Sprintf("[::]:%d", p.port)); err != nil {
			return fmt.Errorf("start provider: %w", err)
		}
	}
	e, err := r.mesh.Endpoint(called, r.provider.Addr(providers[0].port))
	if err != nil {
		return fmt.Errorf("place endpoint: %w", err)
	}
	r.plane.Put(e)
	for i := range r.size.Views {
		account := fmt.Sprintf("kind-%04d", i)
		p, err := r.node.AddPod(account, map[string]string{"app": account}, 20880)
		if err != nil {
			return fmt.Errorf("add pod: %w", err)
		}
		r.pods = append(r.pods, p)
		if err := p.Enroll(); err != nil {
			return fmt.Errorf("enrol pod: %w", err)
		}
	}
	r.consumer = r.pods[0]
	if r.agent, err = r.node.StartAgent(ctx); err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	if r.caller, err = r.consumer.StartHelper("caller", planetest.VIP(called).String()); err != nil {
		return fmt.Errorf("start consumer: %w", err)
	}
	return nil
}

func (r *rig) startProxy(ctx context.Context) (err error) {
	r.proxy, err = r.node.StartProxyAs(ctx, testnet.Command{
		Name: "proxy", Path: filepath.Join(r.options.bin, "dubway-proxy"), RealtimePriority: priority,
		Args: []string{"--access-log", "off", "--xds-server", planeAddress},
	})
	if err != nil {
		return fmt.Errorf("start proxy: %w", err)
	}
	return nil
}

// tell writes the last that agent and proxy said, for whoever asks why something failed.
func (r *rig) tell(w io.Writer) {
	for _, p := range []*testnet.Process{r.agent, r.proxy} {
		if p == nil {
			continue
		}
		text := p.Output()
		fmt.Fprintf(w, "%s:\n%s\n", p.Name, text[max(0, len(text)-4000):])
	}
}

// kept is what the proxy has on disk, in MiB: files that have two names count once.
func (r *rig) kept() (sum float64) {
	found, _ := filepath.Glob(filepath.Join(r.node.StateDir(), "proxy", "xds", "*"))
	for _, path := range found {
		if info, err := os.Stat(path); err == nil {
			sum += float64(info.Size()) / (1 << 20)
		}
	}
	return sum
}

// memoryOf reads a line of /proc/PID/status, in MiB.
func memoryOf(p *testnet.Process, line string) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	for l := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(l, line); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kib / 1024
		}
	}
	return 0
}

// cpuOf is the CPU time of a process so far. USER_HZ is 100 on every Linux.
func cpuOf(p *testnet.Process) (sum time.Duration, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the second field may hold blanks
	for _, field := range strings.Fields(rest)[11:13] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read CPU time: %w", err)
		}
		sum += time.Duration(ticks) * 10 * time.Millisecond
	}
	return sum, nil
}
