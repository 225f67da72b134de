package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/bench/usage"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// settling is how long they rest before: without other work the runtime collects
// what opening them left every two minutes.
const settling = 150 * time.Second

// idleFor is how long idle connections are watched: each one's heartbeat, and the
// proxy's own to its providers, come around once in it.
const idleFor = 60 * time.Second

// idle holds connections that only send heartbeats and tells what they cost the
// proxy: memory, and CPU in percent of a core (cpuPercent).
func (r *rig) idle(ctx context.Context, conns int) (row, error) {
	arg, err := json.Marshal(idling{Target: r.ways["proxy"].target, Conns: conns, Every: idleFor})
	if err != nil {
		return row{}, fmt.Errorf("write job: %w", err)
	}
	p, err := r.role(r.pod, "idle", string(arg))
	if err != nil {
		return row{}, err
	}
	defer func() { _ = p.Kill() }()
	if err := p.WaitText(ctx, "idle"); err != nil {
		return row{}, fmt.Errorf("idle connections: %w", err)
	}
	if err := rest(ctx, p, settling); err != nil {
		return row{}, err
	}
	before := usage.CPU(r.hops["proxy"])
	if err := rest(ctx, p, idleFor); err != nil {
		return row{}, err
	}
	used := usage.CPU(r.hops["proxy"]) - before
	return row{
		Path: "proxy+idle", Conns: conns, Rounds: 1, RSSMiB: usage.RSS(r.hops["proxy"]),
		CPUPercent: 100 * used.Seconds() / idleFor.Seconds(),
	}, nil
}

// rest waits, unless the consumers fail.
func rest(ctx context.Context, p *testnet.Process, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("idle connections: %w", ctx.Err())
	case <-p.Done():
		return fmt.Errorf("idle connections: the consumer ended: %s", p.Output())
	}
}

// idling is what an idle consumer is asked.
type idling struct {
	Target string
	Conns  int
	Every  time.Duration // between the heartbeats of a connection
}

func (ask idling) open() ([]*dubbotest.Client, error) {
	conns := make([]*dubbotest.Client, ask.Conns)
	for i := range conns {
		c, err := dubbotest.Dial(ask.Target)
		if err == nil {
			_, err = c.Call(dubbotest.Request{}, []byte("x"), 20*time.Second)
		}
		if err != nil {
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
		conns[i] = c
	}
	return conns, nil
}

// idleConsumer is the process that holds them: it opens the connections, calls
// once on each and then only sends heartbeats.
func idleConsumer(ctx context.Context, arg string) error {
	var ask idling
	if err := json.Unmarshal([]byte(arg), &ask); err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	conns, err := ask.open()
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "idle")
	gap := time.NewTicker(ask.Every / time.Duration(ask.Conns))
	defer gap.Stop()
	for {
		for i, c := range conns {
			if err := c.Heartbeat(20 * time.Second); err != nil {
				return fmt.Errorf("heartbeat of connection %d: %w", i, err)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-gap.C:
			}
		}
	}
}
