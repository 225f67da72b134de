package plan

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// text is a short string of hessian2.
func text(s string) string { return string(rune(len(s))) + s }

// said is the header and body of a call with an argument and an attachment.
func said(method, argument, user string) (codec.Header, []byte) {
	body := text("2.0.2") + text("org.x.S") + text("0.0.0") + text(method) + text("Ljava/lang/String;") + text(argument)
	body += "H" + text("path") + text("org.x.S")
	if user != "" {
		body += text("user-id") + text(user)
	}
	body += "Z"
	return codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay | dubbo.Hessian2, ID: 1, Body: len(body)}, []byte(body)
}

// hash makes the rig's cluster choose by hash, and its route say of what.
func (r *rig) hash(static, body bool, policies ...snapshot.HashPolicy) {
	var pods []netip.AddrPort
	for i := range 8 {
		pods = append(pods, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)}), 20880))
	}
	r.configure(pods...)
	c := r.snap.Clusters["c"]
	c.Policy, c.Hashing = snapshot.RingHash, snapshot.Hashing{MinRing: 1024, MaxRing: 8 << 20}
	table := r.snap.Routes["r"]
	table.Static, table.Whole = static, body
	a := &table.VirtualHosts[0].Routes[0].Action
	a.Hash, a.HashBody = policies, body
	next := *c // the manager prepares a cluster once
	r.snap.Clusters["c"] = &next
	r.mgr.Update(r.snap)
}

// TestHash: requests with equal values go to one endpoint, from whatever part of the
// request the route takes them and however its table is looked up; others spread.
func TestHash(t *testing.T) {
	user := snapshot.HashPolicy{Name: "user-id"}
	argument := snapshot.HashPolicy{Source: snapshot.SourceArgument}
	for _, tt := range []struct {
		name     string
		body     bool
		policies []snapshot.HashPolicy
		call     func(n int) (codec.Header, []byte)
		spread   int // endpoints that 200 values reach at least
	}{
		{"attachment", true, []snapshot.HashPolicy{user}, func(n int) (codec.Header, []byte) {
			return said("echo", "same", fmt.Sprint("u", n))
		}, 8},
		{"argument", true, []snapshot.HashPolicy{argument}, func(n int) (codec.Header, []byte) {
			return said("echo", fmt.Sprint("a", n), "same")
		}, 8},
		{"method", false, []snapshot.HashPolicy{{Name: "method"}}, func(n int) (codec.Header, []byte) {
			return said(fmt.Sprint("m", n), "a", "same")
		}, 8},
		{"source", false, []snapshot.HashPolicy{{SourceIP: true}}, func(n int) (codec.Header, []byte) {
			return said(fmt.Sprint("m", n), fmt.Sprint("a", n), fmt.Sprint("u", n))
		}, 1},
		{"the first of two", true, []snapshot.HashPolicy{{Name: "method", Terminal: true}, user}, func(n int) (codec.Header, []byte) {
			return said("echo", "same", fmt.Sprint("u", n))
		}, 1},
		{"the second, if the first is missing", true, []snapshot.HashPolicy{{Name: "none", Terminal: true}, user}, func(n int) (codec.Header, []byte) {
			return said("echo", "same", fmt.Sprint("u", n))
		}, 8},
	} {
		for _, static := range []bool{true, false} {
			t.Run(fmt.Sprint(tt.name, static), func(t *testing.T) {
				r := newRig(t, vip, pod1)
				r.hash(static, tt.body, tt.policies...)
				if r.Streamable() != (static && !tt.body) {
					t.Error("whether a request can be routed by its first bytes is not told right")
				}
				reached := make(map[netip.AddrPort]bool)
				for n := range 200 {
					var first netip.AddrPort
					for again := range 3 {
						h, body := tt.call(n)
						e, why := r.Edge(h, body)
						if why != rpc.WhyNone {
							t.Fatal(why)
						}
						if again == 0 {
							first = e.Remote.Endpoint
						} else if e.Remote.Endpoint != first {
							t.Fatalf("call %d went to %s and %s", n, first, e.Remote.Endpoint)
						}
					}
					reached[first] = true
				}
				if len(reached) < tt.spread || tt.spread == 1 && len(reached) > 1 {
					t.Errorf("the calls reach %d endpoints, want %d", len(reached), tt.spread)
				}
			})
		}
	}
}

// TestNothingToHash: such a request is balanced at random, and one after it that has
// a value has its own endpoint all the same.
func TestNothingToHash(t *testing.T) {
	r := newRig(t, vip, pod1)
	r.hash(true, true, snapshot.HashPolicy{Name: "user-id"})
	reached, of := make(map[netip.AddrPort]bool), make(map[netip.AddrPort]bool)
	for range 200 {
		h, body := said("echo", "a", "")
		e, _ := r.Edge(h, body)
		reached[e.Remote.Endpoint] = true
		h, body = said("echo", "a", "u1")
		e, _ = r.Edge(h, body)
		of[e.Remote.Endpoint] = true
	}
	if len(reached) < 7 || len(of) != 1 {
		t.Errorf("%d endpoints are reached without a value, %d with one", len(reached), len(of))
	}
}

// TestHashAllocatesNothing, neither by names nor by the body.
func TestHashAllocatesNothing(t *testing.T) {
	for _, body := range []bool{false, true} {
		r := newRig(t, vip, pod1)
		r.hash(true, body, snapshot.HashPolicy{Name: "user-id"}, snapshot.HashPolicy{Name: ":path"}, snapshot.HashPolicy{SourceIP: true})
		h, b := said("echo", "a", "u1")
		n := testing.AllocsPerRun(1000, func() {
			if _, why := r.Edge(h, b); why != rpc.WhyNone {
				t.Error(why)
			}
		})
		if n != 0 {
			t.Errorf("with the body %v: %v allocations", body, n)
		}
	}
}
