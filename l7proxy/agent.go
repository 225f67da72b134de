package l7proxy

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/mode"
	"github.com/dubway/dubway/l7proxy/workload"
)

var _ handoff.Handler = (*Proxy)(nil)

// comeBack is how long the proxy waits before it looks for the agent again.
const comeBack = 200 * time.Millisecond

// followAgent keeps the connection to the agent. While there is none, what is
// established goes on.
func (p *Proxy) followAgent(ctx context.Context) error {
	for {
		err := p.agent.Run(ctx)
		p.connected.Store(false)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // asked to end
		case errors.Is(err, handoff.ErrReplaced):
			return err
		}
		p.log.Warn("no agent", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(comeBack):
		}
	}
}

// Workload accepts for a pod. Part of handoff.Handler.
func (p *Proxy) Workload(w *handoff.Workload, files []*os.File) error {
	pod := workload.New(*w)
	said := mode.Workload{UID: w.UID, Namespace: w.Namespace, Name: w.Name, Annotations: w.Annotations, Labels: w.Labels}
	if err := p.env.Modes.Put(&said); err != nil {
		p.log.Warn("policies are enforced", "uid", w.UID, "error", err)
	}
	p.workloads.Put(pod)
	p.identities.Put(w.UID, accountOf(w))
	p.log.Info("workload", "uid", w.UID, "addresses", w.Addresses, "ports", w.Ports)
	p.leave(w.UID) // its mode may have changed
	return p.listeners.Put(pod, files)
}

// WorkloadGone stops accepting for a pod. Part of handoff.Handler.
func (p *Proxy) WorkloadGone(uid string) error {
	p.unidentify(uid)
	p.workloads.Remove(uid)
	p.listeners.Remove(uid)
	p.env.Modes.Forget(uid)
	p.env.Policies.Workloads.Forget(uid)
	p.env.Breakers.Forget(uid)
	p.log.Info("workload gone", "uid", uid)
	return nil
}

// SnapshotEnd tells the new agent what to steer. Part of handoff.Handler.
func (p *Proxy) SnapshotEnd() error {
	p.connected.Store(true)
	p.askPublish()
	return nil
}

// askPublish wakes publishDestinations.
func (p *Proxy) askPublish() {
	select {
	case p.publish <- struct{}{}:
	default:
	}
}

// publishDestinations tells the agent what to steer, after each snapshot and
// after each connect.
func (p *Proxy) publishDestinations(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.publish:
		}
		snap := p.snap.Load()
		if !p.connected.Load() || snap.Generation == 0 {
			continue
		}
		want := snap.Destinations()
		entries := make([]handoff.Destination, len(want))
		for i, d := range want {
			entries[i] = handoff.Destination(d)
		}
		limit, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := p.agent.Destinations(limit, snap.Generation, entries)
		cancel()
		if err != nil && ctx.Err() == nil {
			p.log.Error("destinations not published", "generation", snap.Generation, "error", err)
			time.AfterFunc(time.Second, p.askPublish)
		}
	}
}
