package ads

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// Turns have streams get their first push one after another: that of 10,000 services is
// 70 MB, which ten views would have in memory ten times, to find that it is the same. A
// stream whose control plane is slow gives its turn away.
type Turns struct{ slot chan struct{} }

// NewTurns returns Turns of which nobody has one.
func NewTurns() *Turns { return &Turns{make(chan struct{}, 1)} }

// take waits for a turn, and returns what gives it back, which may be called again; nil
// Turns are not waited for. A connection that is not there yet has no turn.
func (t *Turns) take(ctx context.Context, conn *grpc.ClientConn) (done func(), err error) {
	if t == nil || !connects(ctx, conn) {
		return func() {}, nil
	}
	select {
	case t.slot <- struct{}{}:
		return sync.OnceFunc(func() { <-t.slot }), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a turn: %w", context.Cause(ctx))
	}
}

// connects waits until a connection is there, or has failed, which a stream says better.
func connects(ctx context.Context, conn *grpc.ClientConn) bool {
	conn.Connect()
	for {
		switch state := conn.GetState(); state {
		case connectivity.Ready:
			return true
		case connectivity.TransientFailure, connectivity.Shutdown:
			return false
		default:
			if !conn.WaitForStateChange(ctx, state) {
				return false
			}
		}
	}
}
