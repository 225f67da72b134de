package l7proxy

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/lane/lent"
	"github.com/dubway/dubway/l7proxy/mode"
	"github.com/dubway/dubway/l7proxy/proof"
	"github.com/dubway/dubway/l7proxy/steering"
	"github.com/dubway/dubway/l7proxy/witness"
	"github.com/dubway/dubway/l7proxy/workload"
)

var _ handoff.Handler = (*Proxy)(nil)

// comeBack is how long the proxy waits before it looks for the agent again.
const comeBack = 200 * time.Millisecond

// openAgent makes what asks the agent. It asks nothing yet.
func (p *Proxy) openAgent() (err error) {
	p.lanes = lent.New(laneUser{p}, p.log)
	p.agent = handoff.NewClient(p.opts.HandoffSocket, p.opts.Node, p, p.log)
	p.steering = steering.New(steering.Options{Agent: p.agent, Unknown: p.opts.Unknown, Viewed: p.control != nil})
	p.dialer = witness.New(p.agent, p.workloads, p.wayChanged)
	p.dialer.Guard(p.guarded)
	p.openLanes()
	p.identities, err = proof.New(p.agent, p.opts.Secured, p.log)
	return err
}

// followAgent keeps the connection to the agent. While there is none, what is
// established goes on.
func (p *Proxy) followAgent(ctx context.Context) error {
	for {
		err := p.agent.Run(ctx)
		p.connected.Store(false)
		p.yielded.Store(false)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // asked to end
		case errors.Is(err, handoff.ErrReplaced):
			return err
		}
		p.log.Warn("no agent", "error", err)
		p.retire()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(comeBack):
		}
	}
}

// retire leaves accepting to another agent's proxy, where one serves: ours is gone, for good
// for all we know, and nobody dials for what would be accepted. Where no other one serves, or
// ours comes back before, the proxy goes on.
func (p *Proxy) retire() {
	if !p.agent.Superseded() || !p.listeners.Retire() {
		return
	}
	p.log.Warn("another agent's proxy serves, and ours has no agent: it stops accepting, and drains what it has")
	off := &handoff.Lanes{Mode: handoff.LaneOff, Why: "another proxy accepts", Maps: p.lanes.Said().Maps}
	if err := p.Lanes(off, nil); err != nil {
		p.log.Warn("close lanes", "error", err)
	}
}

// Workload accepts for a pod. Part of handoff.Handler.
func (p *Proxy) Workload(w *handoff.Workload, files []*os.File) error {
	p.knowing.Lock()
	defer p.knowing.Unlock()
	pod := workload.New(*w)
	said := mode.Workload{UID: w.UID, Namespace: w.Namespace, Name: w.Name, Annotations: w.Annotations, Labels: w.Labels}
	if err := p.env.Modes.Put(&said); err != nil {
		p.log.Warn("policies are enforced", "uid", w.UID, "error", err)
	}
	p.workloads.Put(pod)
	p.identities.Put(w.UID, pod.Account())
	p.sees(pod)
	p.log.Info("workload", "uid", w.UID, "addresses", w.Addresses, "ports", w.Ports)
	p.leave(w.UID) // its mode may have changed
	return p.listeners.Put(pod, files)
}

// sees has the source follow what a pod sees. What is known of that holds before the pod's
// connections are accepted.
func (p *Proxy) sees(pod *workload.Workload) {
	if err := p.source.Put(pod); err != nil {
		p.log.Error("a workload has no configuration: its calls go past the mesh", "uid", pod.UID, "error", err)
	}
	if p.control != nil {
		p.apply()
	}
}

// WorkloadGone stops accepting for a pod. What is known of it holds for its connections, until
// the last one has ended. Part of handoff.Handler.
func (p *Proxy) WorkloadGone(uid string) error {
	p.workloads.Remove(uid)
	p.riders.Forget(uid)
	p.log.Info("workload gone", "uid", uid)
	p.listeners.Remove(uid, func() { p.forget(uid) })
	return nil
}

// forget forgets a pod that has gone, unless it is back.
func (p *Proxy) forget(uid string) {
	p.knowing.Lock()
	defer p.knowing.Unlock()
	if p.workloads.ByUID(uid) != nil {
		return
	}
	p.identities.Remove(uid)
	p.source.Remove(uid)
	p.env.Modes.Forget(uid)
	p.env.Policies.Workloads.Forget(uid)
	p.env.Breakers.Forget(uid)
	p.log.Info("workload forgotten: its last connection has ended", "uid", uid)
}

// SnapshotEnd tells the new agent what to steer. Part of handoff.Handler.
func (p *Proxy) SnapshotEnd() error {
	if !p.yielded.Load() {
		p.accepted.Store(true)
	}
	p.afresh.Store(true)
	p.connected.Store(true)
	if p.control != nil && p.generation.Load() == 0 {
		p.apply() // no pod is there: that nobody is steered is told too, and the agent is ready
	}
	p.identities.TellAll()
	p.riders.Settle()
	p.riders.TellAll()
	p.askPublish()
	return nil
}

// Lanes keeps the memory of the lanes, or says that there are none. Part of handoff.Handler.
func (p *Proxy) Lanes(l *handoff.Lanes, files []*os.File) error {
	err := p.lanes.Say(l, files)
	if p.connected.Load() {
		p.riders.Settle() // what was left in it is nobody's to take any more
	}
	return err
}

// Yield stops accepting for all pods. Part of handoff.Handler.
func (p *Proxy) Yield() {
	p.yielded.Store(true)
	p.listeners.Yield()
	p.log.Info("another proxy accepts; what was accepted goes on")
}
