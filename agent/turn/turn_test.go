package turn

import (
	"context"
	"testing"

	"github.com/dubway/dubway/internal/admin"
)

// TestTurn: what only the active agent does has ended when the turn has, but for what is
// kept until another agent has it; and nothing begins afterwards.
func TestTurn(t *testing.T) {
	for becomes, keeps := range map[admin.Role]bool{admin.RolePassive: false, admin.RoleLeft: true} {
		turn := New()
		part := func(start func(context.Context, func(context.Context) error) error) (ended chan error) {
			began, ended := make(chan struct{}), make(chan error, 1)
			go func() {
				ended <- start(t.Context(), func(ctx context.Context) error {
					close(began)
					<-ctx.Done()
					return nil
				})
			}()
			<-began
			return ended
		}
		run, kept := part(turn.Run), part(turn.Keep)
		turn.End(becomes)
		if turn.Now() != becomes {
			t.Errorf("it is %s, want %s", turn.Now(), becomes)
		}
		if err := <-run; err != nil {
			t.Error(err)
		}
		if keeps {
			select {
			case <-kept:
				t.Errorf("%s: what is kept has ended", becomes)
			default:
			}
		} else if err := <-kept; err != nil {
			t.Error(err)
		}
		late := func(context.Context) error { t.Error("a part begins after the turn"); return nil }
		if turn.Run(t.Context(), late) != nil || turn.Keep(t.Context(), late) != nil {
			t.Error("a part that did not begin failed")
		}
	}
}
