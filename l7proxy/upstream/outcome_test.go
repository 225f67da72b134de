package upstream

import (
	"testing"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// TestOutcomes: an endpoint is told what its provider's answers say of it.
func TestOutcomes(t *testing.T) {
	r, o := newRig(t), newConsumer()
	statuses := []byte{
		dubbo.StatusOK, dubbo.StatusServiceNotFound, dubbo.StatusBadRequest, dubbo.StatusServerError,
		dubbo.StatusServiceError, dubbo.StatusServerTimeout, dubbo.StatusThreadpoolExhausted, 77,
	}
	ids := make([]uint64, len(statuses))
	r.send(o, ids...)
	p := r.prov.accept()
	for _, status := range statuses {
		write(t, p, frame(0, status, mustRead(t, p).ID, 20))
		take(t, o.delivered)
	}
	want := [rpc.Outcomes]int32{rpc.OutcomeOK: 4, rpc.OutcomeError: 2, rpc.OutcomeUnavailable: 2}
	if got := r.watch.ended(t, int32(len(statuses))); got != want {
		t.Errorf("the outcomes are %v, want %v", got, want)
	}
}

// TestResetOutcome: the end of a connection is one failure, however many requests
// were pending on it.
func TestResetOutcome(t *testing.T) {
	r, o := newRig(t), newConsumer()
	r.send(o, 1, 2, 3)
	p := r.prov.accept()
	mustRead(t, p)
	_ = p.Close()
	want := [rpc.Outcomes]int32{rpc.OutcomeReset: 1, rpc.OutcomeNone: 2}
	if got := r.watch.ended(t, 3); got != want {
		t.Errorf("the outcomes are %v, want %v", got, want)
	}
}

// TestBlamelessEnd: what the provider announced, what a consumer brought about and
// what the proxy does itself are no failures of the endpoint.
func TestBlamelessEnd(t *testing.T) {
	for name, end := range map[string]func(r *rig, o *consumer) (n int32){
		"a provider that said READONLY": func(r *rig, o *consumer) int32 {
			c := r.send(o, 1)
			p := r.prov.accept()
			mustRead(t, p)
			write(t, p, []byte{0xda, 0xbb, 0xa2, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 2, 0x01, 'R'})
			eventually(t, "the connection is excused", func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				return c.excused
			})
			_ = p.Close()
			return 1
		},
		"a consumer that left in the middle of a request": func(r *rig, o *consumer) int32 {
			u, _ := r.half(o, r.request(1, codec.FlagTwoWay))
			u.Abort()
			return 1
		},
		"a consumer that left before the answer": func(r *rig, o *consumer) int32 {
			c := r.send(o, 1)
			mustRead(t, r.prov.accept())
			c.Abandon(o)
			return 1
		},
		"a proxy that stops": func(r *rig, o *consumer) int32 {
			r.send(o, 1)
			mustRead(t, r.prov.accept())
			r.pool.Close()
			return 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			n := end(r, newConsumer())
			if got := r.watch.ended(t, n); got != [rpc.Outcomes]int32{rpc.OutcomeNone: n} {
				t.Errorf("the outcomes are %v, want none", got)
			}
		})
	}
}
