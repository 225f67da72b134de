package agent

import (
	"context"
	"errors"
	"time"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/leaving"
	"github.com/dubway/dubway/internal/admin"
)

// settle is how long a connect that was steered may take until the proxy has accepted
// it.
const settle = time.Second

// errLeaving is why nobody may take over.
var errLeaving = errors.New("the mesh leaves this node")

// withdraw takes every pod out of the mesh and removes what is pinned. Connections that
// the proxy has accepted go on.
func (a *Agent) withdraw(ctx context.Context) error {
	a.turn.end(admin.RoleLeft)
	a.server.Freeze()
	err := a.enroller.Withdraw()
	if err == nil {
		err = datapath.Uninstall(a.opts.PinPath)
	}
	if err != nil {
		return err
	}
	leaving.Pause(ctx, settle)
	a.server.Yield()
	a.enroller.Deafen()
	return nil
}
