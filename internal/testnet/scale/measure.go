package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/dubway/dubway/internal/testnet/planetest"
)

// called is the service that is called.
const called = 0

// longest is how long anything may take.
const longest = 5 * time.Minute

// measure measures one size, on a node of its own.
func measure(ctx context.Context, o options, s size) (out row, err error) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	r, err := newRig(ctx, o, s)
	if err != nil {
		return out, err
	}
	defer func() {
		if err != nil {
			r.tell(os.Stderr)
		}
		err = errors.Join(err, r.Close())
	}()
	out.size = s
	start := time.Now()
	if err := r.startProxy(ctx); err != nil {
		return out, err
	}
	for _, step := range []func(context.Context, *row) error{r.first, r.rest, r.change} {
		if err := step(ctx, &out); err != nil {
			return out, err
		}
	}
	answer, err := r.answered(ctx, 1)
	if err != nil {
		return out, err
	}
	out.FirstRequest = millis(answer.at.Sub(start))
	out.Agent = memoryOf(r.agent, "VmRSS:")
	return out, r.restart(ctx, &out)
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// first waits until every view has the whole mesh, and is steered by it.
func (r *rig) first(ctx context.Context, out *row) error {
	whole := func() bool {
		status, err := r.node.ProxyStatus(ctx)
		if err != nil || status.ControlPlane == nil || len(status.ControlPlane.Views) != r.size.Views {
			return false
		}
		for i := range status.ControlPlane.Views {
			v := &status.ControlPlane.Views[i]
			if v.Generation == 0 || v.Snapshot.Clusters < r.size.Services || v.Snapshot.Routes < r.size.Services {
				return false
			}
			if v.Rejected > 0 {
				return false
			}
		}
		return true
	}
	if err := until(ctx, 20*time.Millisecond, "the first push", whole); err != nil {
		return fmt.Errorf("%w; refused: %q", err, r.plane.Refused())
	}
	out.FirstPush = millis(time.Since(r.plane.Begun()))
	_, err := r.answered(ctx, 1)
	return err
}

// rest waits until what is kept is on disk, and then watches the idle proxy.
func (r *rig) rest(ctx context.Context, out *row) error {
	var last float64
	quiet := time.Now()
	err := until(ctx, 200*time.Millisecond, "the kept files", func() bool {
		if now := r.kept(); now != last {
			last, quiet = now, time.Now()
		}
		return last > 0 && time.Since(quiet) > 5*time.Second
	})
	if err != nil {
		return err
	}
	before, _ := cpuOf(r.proxy)
	select {
	case <-time.After(r.options.idle):
	case <-ctx.Done():
		return fmt.Errorf("rest: %w", ctx.Err())
	}
	after, err := cpuOf(r.proxy)
	out.IdleCPU = 100 * (after - before).Seconds() / r.options.idle.Seconds()
	out.Peak, out.RSS, out.Anonymous = memoryOf(r.proxy, "VmHWM:"), memoryOf(r.proxy, "VmRSS:"), memoryOf(r.proxy, "RssAnon:")
	out.Received, out.Kept = float64(r.plane.Sent())/(1<<20), r.kept()
	return err
}

// change moves the endpoint of the called service to and fro, and sees when calls follow.
func (r *rig) change(ctx context.Context, out *row) error {
	if err := r.caller.Signal(sigBusy); err != nil {
		return fmt.Errorf("have calls made: %w", err)
	}
	var took []time.Duration
	for i := range r.options.changes {
		to := providers[(i+1)%len(providers)]
		e, err := r.mesh.Endpoint(called, r.provider.Addr(to.port))
		if err != nil {
			return fmt.Errorf("move endpoint: %w", err)
		}
		time.Sleep(200 * time.Millisecond)
		at := time.Now()
		r.plane.Put(e)
		answer, err := r.answered(ctx, i+2)
		if err != nil {
			return err
		}
		if answer.name != to.name {
			return fmt.Errorf("move endpoint: calls reach %s, want %s", answer.name, to.name)
		}
		took = append(took, answer.at.Sub(at))
	}
	if len(took) > 0 {
		slices.Sort(took)
		out.Effect, out.EffectMost = millis(took[len(took)/2]), millis(took[len(took)-1])
	}
	out.After = memoryOf(r.proxy, "VmRSS:")
	return nil
}

// restart has the next proxy begin with what was kept, while there is no control plane.
func (r *rig) restart(ctx context.Context, out *row) error {
	if err := r.proxy.Stop(30 * time.Second); err != nil {
		return fmt.Errorf("stop proxy: %w", err)
	}
	if err := r.listener.Close(); err != nil {
		return fmt.Errorf("stop control plane: %w", err)
	}
	if err := r.caller.Kill(); err != nil {
		return fmt.Errorf("stop calls: %w", err)
	}
	start := time.Now()
	if err := r.startProxy(ctx); err != nil {
		return err
	}
	var err error
	if r.caller, err = r.consumer.StartHelper("caller", planetest.VIP(called).String()); err != nil {
		return fmt.Errorf("start consumer: %w", err)
	}
	answer, err := r.answered(ctx, r.seen+1)
	if err != nil {
		return err
	}
	out.Restarted = millis(answer.at.Sub(start))
	out.RestartedRSS = memoryOf(r.proxy, "VmHWM:")
	return nil
}

// until waits for a condition.
func until(ctx context.Context, every time.Duration, what string, ok func() bool) error {
	for !ok() {
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		}
	}
	return nil
}

// answered waits for the nth time that calls reach another provider.
func (r *rig) answered(ctx context.Context, n int) (answer, error) {
	var all []answer
	err := r.caller.WaitFor(ctx, "an answer", func() bool {
		all = answers(r.caller)
		return len(all) >= n
	})
	if err != nil {
		return answer{}, fmt.Errorf("call: %w", err)
	}
	r.seen = max(r.seen, len(all))
	return all[n-1], nil
}
