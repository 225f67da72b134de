package router

import (
	"testing"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// anyOf is the wildcard "*".
func anyOf(name string) header {
	return header{Name: name, Kind: snapshot.HeaderPrefix, Longer: true}
}

func argument(index int, h header) header {
	h.Source, h.Index = snapshot.SourceArgument, index
	return h
}

func spelled(name string, h header) header {
	h.Source, h.Name = snapshot.SourceAttachment, name
	return h
}

func TestSources(t *testing.T) {
	const everything = 1<<63 - 1
	prefix, suffix, span := snapshot.HeaderPrefix, snapshot.HeaderSuffix, snapshot.HeaderRange
	for _, tt := range []struct {
		header
		expect bool
	}{
		// Wildcards are longer than what is beside the star.
		{anyOf("interface"), true},
		{header{Name: "interface", Kind: prefix, Value: "org.shop.", Longer: true}, true},
		{header{Name: "interface", Kind: prefix, Value: "org.shop.OrderService", Longer: true}, false},
		{header{Name: "interface", Kind: prefix, Value: "org.shop.OrderService"}, true},
		{header{Name: "interface", Kind: suffix, Value: "Service", Longer: true}, true},
		{header{Name: "interface", Kind: suffix, Value: "org.shop.OrderService", Longer: true}, false},
		{header{Name: "interface", Kind: suffix, Value: "service", Longer: true}, false},

		// Arguments by their text.
		{argument(0, header{Value: "jason"}), true},
		{argument(0, header{Value: "Jason"}), false},
		{argument(0, header{Value: "Jason", Invert: true}), true},
		{argument(1, header{Value: "3"}), true},
		{argument(1, header{Kind: span, Min: 1, Max: 5}), true},
		{argument(1, header{Kind: span, Min: 1, Max: 3}), false},
		{argument(4, header{Value: "true"}), true},
		{argument(5, header{Value: "12.5"}), true},
		{argument(5, header{Kind: span, Min: 0, Max: everything}), false},
		{argument(3, header{Value: ""}), true},
		{argument(3, header{Kind: snapshot.HeaderPresent, Want: true}), true},
		// One without a text is missing, and so is one behind the last.
		{argument(2, header{Value: ""}), false},
		{argument(2, header{Value: "x", Invert: true}), false},
		{argument(2, header{Kind: snapshot.HeaderPresent, Want: true}), false},
		{argument(6, header{Kind: snapshot.HeaderPresent}), true},
		{argument(6, header{TreatMissingAsEmpty: true}), true},
		{argument(-1, header{Value: "x"}), false}, // unreadable

		// Attachments in any spelling, one of which must match.
		{spelled("tag", header{Value: "gray-7"}), true},
		{spelled("TAG", header{Value: "gray-7"}), true},
		{spelled("capital", header{Value: "x"}), true},
		{spelled("capital", header{Value: "X"}), false},
		{spelled("user", header{Value: "1"}), true},
		{spelled("user", header{Value: "2"}), true},
		{spelled("user", header{Value: "3"}), false},
		{spelled("user", header{Value: "1", Invert: true}), false},
		{spelled("user", header{Value: "3", Invert: true}), true},
		{spelled("user", header{Kind: span, Min: 2, Max: 3}), true},
		{spelled("user", header{Kind: snapshot.HeaderPresent, Want: true}), true},
		{spelled("user", header{Kind: snapshot.HeaderPresent}), false},
		{spelled("users", header{Kind: snapshot.HeaderPresent}), true},
		{spelled("users", header{Value: "x", Invert: true}), false},
		{spelled("users", header{Value: "x", Invert: true, TreatMissingAsEmpty: true}), true},
		{spelled("users", header{TreatMissingAsEmpty: true}), true},
		{spelled("empty", header{Value: ""}), true},
		{spelled("broken", header{Value: "x"}), false},
		// No attribute is one.
		{spelled("interface", header{Kind: snapshot.HeaderPresent, Want: true}), false},
		{spelled("method", header{Value: "findOrder"}), false},
	} {
		m := newMatcher(request())
		want := snapshot.Match{Headers: []header{tt.header}}
		if got := m.check(&want) == matches; got != tt.expect {
			t.Errorf("%s: %v, want %v", describeHeader(&tt.header), got, tt.expect)
		}
	}
}

func TestDescribeSources(t *testing.T) {
	for _, tt := range []struct {
		header
		want, because string
	}{
		{anyOf("method"), "method is there", `needs: method is there; is: "findOrder"`},
		{header{Name: "interface", Kind: snapshot.HeaderPrefix, Value: "com.", Longer: true}, "interface is com.*",
			`needs: interface is com.*; is: "org.shop.OrderService"`},
		{header{Name: "interface", Kind: snapshot.HeaderSuffix, Value: "Api", Longer: true, Invert: true}, "interface not: is *Api",
			`needs: interface not: is *Api; is: "org.shop.OrderService"`},
		{argument(1, header{Kind: snapshot.HeaderRange, Min: 5, Max: 9}), "argument 1 is a number from 5 to below 9",
			`needs: argument 1 is a number from 5 to below 9; is: "3"`},
		{argument(2, header{Value: "x"}), `argument 2 is "x"`, `needs: argument 2 is "x"; is missing`},
		{spelled("Tag", header{Value: "x"}), `attachment Tag is "x"`, `needs: attachment Tag is "x"; is: "gray-7"`},
	} {
		m, want := newMatcher(request()), snapshot.Match{Headers: []header{tt.header}, Fraction: million}
		if got := Describe(&want); got != tt.want {
			t.Errorf("described as %q, want %q", got, tt.want)
		}
		if got := m.because(&want, 0); got != tt.because {
			t.Errorf("explained as %q, want %q", got, tt.because)
		}
	}
}

// Without a body there are neither attachments nor arguments.
func TestSourcesWithoutABody(t *testing.T) {
	m := newMatcher(&rpc.Request{Interface: "a.B", Method: "c"})
	for _, h := range []header{argument(0, header{}), spelled("tag", header{})} {
		if m.values.Matches(&h) {
			t.Errorf("%s matches", describeHeader(&h))
		}
		h.Kind = snapshot.HeaderPresent
		if !m.values.Matches(&h) {
			t.Errorf("%s does not match", describeHeader(&h))
		}
	}
}
