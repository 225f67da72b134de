package router

import (
	"math/bits"
	"net/netip"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// The sum is Envoy's: xxHash64 of each value, those before rotated by one bit.
func TestHash(t *testing.T) {
	of := xxhash.Sum64String
	name := func(n string) snapshot.HashPolicy { return snapshot.HashPolicy{Name: n} }
	terminal := func(p snapshot.HashPolicy) snapshot.HashPolicy {
		p.Terminal = true
		return p
	}
	q := Question{
		Destination: netip.MustParseAddrPort("10.0.0.1:20880"), Interface: "org.x.S", Method: "say", Version: "1.0.0",
		Attachments: map[string]string{"user-id": "u1", "empty": ""}, Arguments: map[int]string{1: "x"},
	}
	e := explanation{question: q}
	for _, tt := range []struct {
		name     string
		policies []snapshot.HashPolicy
		want     uint64
	}{
		{"nothing", nil, 0},
		{"a missing attachment", []snapshot.HashPolicy{name("none")}, 0},
		{"an attachment", []snapshot.HashPolicy{name("user-id")}, of("u1")},
		{"an empty attachment", []snapshot.HashPolicy{name("empty")}, of("")},
		{"the interface", []snapshot.HashPolicy{name("interface")}, of("org.x.S")},
		{"the path", []snapshot.HashPolicy{name(":path")}, of("/org.x.S/say")},
		{"an argument", []snapshot.HashPolicy{{Source: snapshot.SourceArgument, Index: 1}}, of("x")},
		{"a missing argument", []snapshot.HashPolicy{{Source: snapshot.SourceArgument}}, 0},
		{"the source", []snapshot.HashPolicy{{SourceIP: true}}, of("192.0.2.9")},
		{"two", []snapshot.HashPolicy{name("method"), name("user-id")}, bits.RotateLeft64(of("say"), 1) ^ of("u1")},
		{"the same twice", []snapshot.HashPolicy{name("method"), name("method")}, bits.RotateLeft64(of("say"), 1) ^ of("say")},
		{"one between is missing", []snapshot.HashPolicy{name("method"), name("none"), name("user-id")}, bits.RotateLeft64(of("say"), 1) ^ of("u1")},
		{"terminal", []snapshot.HashPolicy{terminal(name("method")), name("user-id")}, of("say")},
		{"terminal, but missing", []snapshot.HashPolicy{terminal(name("none")), name("user-id")}, of("u1")},
		{"terminal, missing, with a hash", []snapshot.HashPolicy{name("method"), terminal(name("none")), name("user-id")}, of("say")},
	} {
		if got := Hash(tt.policies, e.request(), netip.MustParseAddr("192.0.2.9")); got != tt.want {
			t.Errorf("%s: %x, want %x", tt.name, got, tt.want)
		}
	}
	if got := Hash([]snapshot.HashPolicy{name("user-id")}, &rpc.Request{Undecodable: true}, netip.Addr{}); got != 0 {
		t.Errorf("a request that cannot be decoded hashes to %x", got)
	}
}

// Explain says of what the endpoint depends.
func TestExplainHash(t *testing.T) {
	for _, tt := range []struct {
		policies []snapshot.HashPolicy
		want     string
	}{
		{[]snapshot.HashPolicy{{Name: "user-id"}, {SourceIP: true}}, `calls with the same user-id "u1" and the consumer's address go to one`},
		{[]snapshot.HashPolicy{{Name: ":path", Terminal: true}, {Name: "user-id"}}, `calls with the same :path "/org.x.S/say" go to one`},
		{[]snapshot.HashPolicy{{Name: "none"}, {Source: snapshot.SourceArgument, Index: 2}}, "a random one"},
		{nil, ""},
	} {
		e := explanation{question: Question{Interface: "org.x.S", Method: "say", Attachments: map[string]string{"user-id": "u1"}}}
		e.hashed(&snapshot.Action{Hash: tt.policies})
		why := ""
		if len(e.Steps) == 1 {
			why = e.Steps[0].Why
		}
		if !strings.Contains(why, tt.want) || tt.want == "" && why != "" {
			t.Errorf("%v: %q, want %q", tt.policies, why, tt.want)
		}
	}
}
