package observed

import (
	"net/netip"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/seam"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/lane/learned"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/plan"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/upstream"
	"github.com/dubway/dubway/l7proxy/workload"
)

// planner says of all names the same.
type planner struct {
	says  verdict.Verdict
	asked int
}

func (p *planner) Lane(codec.Header, []byte) verdict.Verdict {
	p.asked++
	return p.says
}

// pace is one that a test sets.
type pace bool

func (p *pace) Worth() bool { return bool(*p) }

// rig is a connection that a test observes.
type rig struct {
	Seen
	pace pace
}

func newRig(o *Observer) *rig {
	r := &rig{}
	source := &plan.Source{Workload: workload.New(handoff.Workload{UID: "shop/a"}), Original: netip.MustParseAddrPort("10.0.0.1:20880")}
	r.Init(o, source, &r.pace)
	return r
}

// call has a request come by a connection that is worth a lane or not.
func (r *rig) call(p learned.Planner, method string, flags byte, worth bool) {
	body := "\x052.0.2\x04Echo\x050.0.0" + string(rune(len(method))) + method + "\x12Ljava/lang/String;"
	frame := append(make([]byte, 16), body...)
	r.pace = pace(worth)
	r.Came(p, seam.Protocol(), codec.Header{Flags: flags | dubbo.Hessian2, Head: 16, Body: len(body)}, frame)
}

func ways(...*rpc.Call) (lane, proxy uint64) { return 0, 3 }

// TestObserver: of a connection that is worth a lane the requests count whose names may take
// one, as long as that stands; and nothing while nobody observes.
func TestObserver(t *testing.T) {
	const asks = codec.FlagRequest | codec.FlagTwoWay
	var o Observer
	var none *Observer
	if none.On() || o.On() || o.Names(ways) != nil {
		t.Error("it observes without being told to")
	}
	o.Observe(true)
	stands := true
	o.desk.Book.Stands = func(*verdict.Verdict) bool { return stands }
	to := verdict.End{Edge: &upstream.Edge{Edge: exchange.Edge{SameNode: &rpc.Call{Route: "r"}}}, Address: netip.MustParseAddrPort("10.0.0.2:20880"), Weight: 1}
	may := &planner{says: verdict.Verdict{Reason: verdict.Lane, Shares: []verdict.Share{{Weight: 1, Ends: []verdict.End{to}}}}}
	not := &planner{says: verdict.Verdict{Reason: verdict.Edits}}
	one, other := newRig(&o), newRig(&o)
	counts := func(what string, wantTaken, wantOther uint64) {
		t.Helper()
		if taken, rest := o.Counts(); taken != wantTaken || rest != wantOther {
			t.Errorf("%s: %d would have taken a lane, %d not; want %d, %d", what, taken, rest, wantTaken, wantOther)
		}
	}
	one.call(may, "echo", asks, false)
	counts("not worth it", 0, 1)
	one.call(may, "echo", asks, true)
	counts("on the proxy when it becomes worth it", 0, 2)
	for range 5 {
		one.call(may, "echo", asks, false)
	}
	counts("worth it", 5, 2)
	one.call(may, "echo", codec.FlagRequest, true)
	one.call(may, "$invoke", asks, true)
	one.call(not, "other", asks, true)
	one.call(not, "other", asks, true)
	other.call(may, "echo", asks, false)
	counts("one-way, generic, not for the lane, another connection", 5, 7)
	if may.asked != 1 || not.asked != 1 {
		t.Errorf("asked %d and %d times", may.asked, not.asked)
	}
	names := o.Names(ways)
	if len(names) != 2 || names[0].Way != admin.WayLane || names[0].Route != "r" || names[1].Reason != string(verdict.Edits) {
		t.Errorf("learned %+v", names)
	}
	stands = false
	o.looked = time.Time{}
	one.call(not, "echo", asks, true)
	counts("it does not stand", 5, 8)
	o.Observe(false)
	one.call(may, "echo", asks, true)
	if o.On() || o.Names(ways) != nil {
		t.Error("it still observes")
	}
}

// TestCameAllocatesNothing once the name is known.
func TestCameAllocatesNothing(t *testing.T) {
	var o Observer
	o.Observe(true)
	p := &planner{says: verdict.Verdict{Reason: verdict.Edits}}
	r := newRig(&o)
	frame := append(make([]byte, 16), "\x052.0.2\x04Echo\x050.0.0\x04echo"...)
	h := codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay | dubbo.Hessian2, Head: 16, Body: len(frame) - 16}
	r.Came(p, seam.Protocol(), h, frame)
	of := seam.Protocol()
	if n := testing.AllocsPerRun(100, func() { r.Came(p, of, h, frame) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
