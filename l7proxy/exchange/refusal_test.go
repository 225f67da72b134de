package exchange

import (
	"bytes"
	"testing"

	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/seam"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// TestDirect: a route's own answer is what the consumer gets; no other reason gives it.
func TestDirect(t *testing.T) {
	call := new(rpc.Call)
	r := Request{ID: 7, Serialization: dubbo.Hessian2, Edge: &Edge{
		Protocol: seam.Protocol(), Remote: call, Direct: &snapshot.Abort{Status: dubbo.StatusBadRequest, Message: "closed for today"},
	}}
	for why, want := range map[rpc.Why]byte{rpc.WhyDirect: dubbo.StatusBadRequest, rpc.WhyNoEndpoint: dubbo.StatusServerError} {
		refusal := r.Refusal(false, why)
		frame, status := refusal.Answer(seam.Protocol())
		if says := bytes.Contains(frame, []byte("closed for today")); status != want || says != (why == rpc.WhyDirect) {
			t.Errorf("%v: status %d, want %d; frame %q", why, status, want, frame)
		}
	}
}
