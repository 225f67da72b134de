package agent

import (
	"context"
	"errors"
	"time"

	"github.com/dubway/dubway/agent/chain"
	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/leaving"
	"github.com/dubway/dubway/internal/admin"
)

// settle is how long a connect that was steered may take until the proxy has accepted
// it.
const settle = time.Second

// laneDrain is how long the proxy may take to close its lanes, before their programs go.
const laneDrain = 10 * time.Second

// errLeaving is why nobody may take over.
var errLeaving = errors.New("the mesh leaves this node")

// unchain takes the plugin out of the node's CNI configuration, where there is one.
func unchain(c *chain.Chain) []leaving.Step {
	if c == nil {
		return nil
	}
	return []leaving.Step{{Name: "the CNI configuration is restored", Do: func(context.Context) error { return c.Remove() }}}
}

// withdraw takes every pod out of the mesh and removes what is pinned. Connections that
// the proxy has accepted go on.
func (a *Agent) withdraw(ctx context.Context) error {
	a.turn.End(admin.RoleLeft)
	a.server.Freeze()
	if err := a.enroller.Withdraw(); err != nil {
		return err
	}
	a.lanes.Drain(ctx, laneDrain)
	// What was steered a moment ago asks the programs where it was to go.
	leaving.Pause(ctx, settle)
	if err := datapath.Uninstall(a.opts.PinPath); err != nil {
		return err
	}
	a.server.Yield()
	a.enroller.Deafen()
	return nil
}

// freeze ends the agent's turn: it writes nothing any more, and goes on serving the
// proxy that it has.
func (a *Agent) freeze(becomes admin.Role) {
	a.turn.End(becomes)
	a.enroller.Freeze()
	a.server.Freeze()
}
