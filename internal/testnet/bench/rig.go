package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/bench/services"
	"github.com/dubway/dubway/internal/testnet/bench/usage"
	"github.com/dubway/dubway/internal/testnet/catest"
)

const priority = 5

// rig is two nodes with everything running: near has the consumers and a provider,
// far has a provider.
type rig struct {
	near, far  *testnet.Node
	plain, pod *testnet.Pod // a consumer outside of the mesh, and one in it
	observed   *testnet.Pod // one whose policies are only observed
	laned      *testnet.Pod // one whose calls may take lanes; those of the others may not
	neighbours services.Neighbours
	self, bin  string
	hops       map[string][]*testnet.Process // by path
	providers  []*testnet.Process
	ways       map[string]way // by path
	version    int            // of what is pushed
	ca         *catest.CA     // of both nodes
	noLanes    []error        // samples of lanes that were none
	cleanups   []func() error
}

// Close removes everything; it may be called twice.
func (r *rig) Close() {
	for _, cleanup := range slices.Backward(r.cleanups) {
		if err := cleanup(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: clean up:", err)
		}
	}
	r.cleanups = nil
}

// role starts this binary in another role in a pod.
func (r *rig) role(p *testnet.Pod, name string, args ...string) (*testnet.Process, error) {
	return p.Start(testnet.Command{
		Name: p.Name + "-" + name, Path: r.self, Args: append([]string{"as-" + name}, args...), RealtimePriority: priority,
	})
}

// newRig builds it. The provider's port 20880 is enrolled, 20881 is not: direct
// connections use the latter, so that nothing of the mesh is in their way.
func newRig(ctx context.Context, o options) (r *rig, err error) {
	bin := o.bin
	r = &rig{hops: map[string][]*testnet.Process{}, bin: filepath.Join(bin, "dubway-proxy")}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if r.self, err = os.Executable(); err != nil {
		return nil, fmt.Errorf("find own binary: %w", err)
	}
	nodes := make([]*testnet.Node, 2)
	for i := range nodes {
		nodes[i], err = testnet.New(testnet.Options{
			Tag: "bench" + strconv.Itoa(i), Number: 101 + i,
			Agent: filepath.Join(bin, "dubway-agent"), Proxy: filepath.Join(bin, "dubway-proxy"),
		})
		if err != nil {
			return nil, fmt.Errorf("make node: %w", err)
		}
		r.cleanups = append(r.cleanups, nodes[i].Close)
	}
	r.near, r.far = nodes[0], nodes[1]
	if err := testnet.Link(r.near, r.far); err != nil {
		return nil, fmt.Errorf("link nodes: %w", err)
	}
	if err := r.populate(ctx); err != nil {
		return r, err
	}
	if o.awake {
		return r, r.keepAwake()
	}
	return r, nil
}

// keepAwake has a process for each processor.
func (r *rig) keepAwake() error {
	for i := range runtime.NumCPU() {
		if _, err := r.plain.Start(testnet.Command{Name: "awake-" + strconv.Itoa(i), Path: r.self, Args: []string{"as-awake"}}); err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) populate(ctx context.Context) (err error) {
	if r.plain, err = r.near.AddPod("plain", nil); err != nil {
		return err
	}
	if r.pod, err = r.near.AddPod("consumer", map[string]string{"app": "consumer"}); err != nil {
		return err
	}
	if r.observed, err = r.near.AddPod("observed", map[string]string{"app": "observed", "dubway.io/mode": "observe"}); err != nil {
		return err
	}
	r.pod.Annotations, r.observed.Annotations = noLanes, noLanes
	var provider [2]*testnet.Pod
	for i, n := range []*testnet.Node{r.near, r.far} {
		if provider[i], err = n.AddPod("provider", map[string]string{"app": "provider"}, 20880); err != nil {
			return err
		}
		p, err := r.role(provider[i], "provider", "[::]:20880", "[::]:20881")
		if err != nil {
			return err
		}
		r.providers = append(r.providers, p)
		if err := provider[i].Enroll(); err != nil {
			return err
		}
	}
	if err := r.lanes(); err != nil {
		return err
	}
	for _, p := range []*testnet.Pod{r.pod, r.observed, r.laned} {
		if err := p.Enroll(); err != nil {
			return err
		}
	}
	if err := r.relays(provider); err != nil {
		return err
	}
	if err := r.mesh(ctx, provider); err != nil {
		return err
	}
	r.lead(provider[0].Addr(20881).String(), r.neighbours.Second.Addr(20881).String())
	return nil
}

// relays starts the plain relays where the proxy's sockets would be: in the
// consumer's namespace, and for two hops in the provider's too.
func (r *rig) relays(provider [2]*testnet.Pod) error {
	for _, x := range []struct {
		path, target, listen string
		pod                  *testnet.Pod
	}{
		{"relay", provider[0].Addr(20881).String(), "127.0.0.1:19000", r.plain},
		{"relay2", "127.0.0.1:20881", "[::]:19002", provider[1]},
		{"relay2", provider[1].Addr(19002).String(), "127.0.0.1:19001", r.plain},
	} {
		p, err := r.role(x.pod, "relay", x.target, x.listen)
		if err != nil {
			return err
		}
		r.hops[x.path] = append(r.hops[x.path], p)
	}
	return nil
}

// mesh starts agents and proxies and waits until calls pass.
func (r *rig) mesh(ctx context.Context, provider [2]*testnet.Pod) error {
	for _, n := range []*testnet.Node{r.near, r.far} {
		if err := n.PutXDS("bench.yaml", []byte(services.Config(provider, r.neighbours))); err != nil {
			return err
		}
		if err := n.PutXDS("others.yaml", []byte(services.Others())); err != nil {
			return err
		}
		args, err := r.authority(n)
		if err != nil {
			return err
		}
		agent, err := n.StartAgent(ctx, append(args, "--lane", "on")...)
		if err != nil {
			return err
		}
		// What opens a lane must not wait for the load's end.
		if err := usage.Realtime(agent.Pid(), priority); err != nil {
			return err
		}
		proxy, err := n.StartProxyAs(ctx, testnet.Command{
			Name: "proxy", Path: r.bin,
			Args: []string{"--access-log", "off"}, RealtimePriority: priority,
		})
		if err != nil {
			return err
		}
		if n == r.near {
			for _, path := range lanePaths {
				r.hops[path] = []*testnet.Process{agent, proxy}
			}
		}
		for _, path := range append([]string{"proxy", "proxy2", besidePath}, policyPaths...) {
			if n == r.near || without(path) == "proxy2" {
				r.hops[path] = append(r.hops[path], proxy)
			}
		}
	}
	if err := r.far.PutXDS("mutual.yaml", []byte(services.Inbound)); err != nil {
		return err
	}
	if err := r.near.WaitEnrolled(ctx, r.neighbours.Second, r.neighbours.Apart, r.neighbours.Java, r.pod, r.observed, r.laned, provider[0]); err != nil {
		return err
	}
	if err := r.far.WaitEnrolled(ctx, provider[1]); err != nil {
		return err
	}
	return r.proven(ctx)
}

// run measures one path once and returns what the load saw and the CPU time of
// everything that took part. In the middle of an open loop the configuration
// changes.
func (r *rig) run(ctx context.Context, path string, plan plan, millis int) (outcome, time.Duration, error) {
	w, ok := r.ways[path]
	if !ok {
		return outcome{}, 0, fmt.Errorf("no path %q; there are %s", path, strings.Join(paths, ", "))
	}
	inLane, err := r.inLane(ctx, path, plan)
	if err != nil {
		return outcome{}, 0, err
	}
	if plan.kind == java {
		o, used, err := r.measureJava(ctx, path, plan, millis)
		if err != nil {
			return o, used, err
		}
		return o, used, inLane(&o)
	}
	arg, err := json.Marshal(job{
		Target: w.target, Second: w.second, Kind: plan.kind, Shape: plan.shape, Rate: plan.rate, Millis: millis, Prime: plan.primed,
	})
	if err != nil {
		return outcome{}, 0, fmt.Errorf("write job: %w", err)
	}
	others := append(append([]*testnet.Process{}, r.providers...), r.hops[path]...)
	before := usage.CPU(others)
	p, err := r.role(w.pod, "load", string(arg))
	if err != nil {
		return outcome{}, 0, err
	}
	defer os.Remove(p.LogPath())
	if plan.kind == open {
		time.Sleep(time.Duration(millis) * time.Millisecond / 2)
		if err := r.push(); err != nil {
			return outcome{}, 0, err
		}
	}
	if err := p.Wait(ctx); err != nil {
		return outcome{}, 0, fmt.Errorf("%s: %w: %s", path, err, p.Output())
	}
	var o outcome
	if err := json.Unmarshal([]byte(p.Output()), &o); err != nil {
		return outcome{}, 0, fmt.Errorf("%s: read %q: %w", path, p.Output(), err)
	}
	used := usage.CPU(others) - before + o.CPU
	return o, used, inLane(&o)
}

// push changes one service, which nobody calls; the snapshot is another one then.
func (r *rig) push() error {
	r.version++
	return r.near.PutXDS("pushed.yaml", []byte(services.Pushed(r.version)))
}
