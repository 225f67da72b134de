package condition_test

import (
	"errors"
	"regexp"
	"testing"

	"github.com/dubway/dubway/l7proxy/condition"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// body is a request's in a test; whatever is called broken cannot be read.
type body map[string]string

func (b body) Lookup(name string) (string, bool, error) {
	if name == "broken" {
		return "x", true, errors.New("the body ends early")
	}
	v, ok := b[name]
	return v, ok, nil
}

func (b body) Spelling(name string, nth int) (string, bool, error) {
	if nth > 0 {
		return "", false, nil
	}
	return b.Lookup(name)
}

func (b body) Argument(index int) (string, bool, error) {
	if index == 9 {
		return "x", true, errors.New("the body ends early")
	}
	return "3", index == 0, nil
}

// TestTruth: Holds says Unknown exactly where Matches takes what cannot be read for
// missing, and otherwise what Matches says.
func TestTruth(t *testing.T) {
	open := &rpc.Request{
		Interface: "a.B", Method: "c", Authority: "198.19.0.20:20880",
		Attachments: body{"tier": "gold"}, Arguments: body{},
	}
	shut := &rpc.Request{Interface: "a.B", Method: "c"}
	unread := &rpc.Request{Authority: "198.19.0.20:20880", Undecodable: true}
	type header = snapshot.HeaderMatch
	attachment, argument := snapshot.SourceAttachment, snapshot.SourceArgument
	for _, tt := range []struct {
		name  string
		req   *rpc.Request
		want  header
		truth condition.Truth
		match bool
	}{
		{"method", open, header{Name: "method", Value: "c"}, condition.True, true},
		{"another method", open, header{Name: "method", Value: "d"}, condition.False, false},
		{"another method, inverted", open, header{Name: "method", Value: "d", Invert: true}, condition.True, true},
		{"no version", open, header{Name: "version", Value: "1"}, condition.False, false},
		{"no version, inverted", open, header{Name: "version", Value: "1", Invert: true}, condition.False, false},
		{"absent version", open, header{Name: "version", Kind: snapshot.HeaderPresent}, condition.True, true},
		{"present version, inverted", open, header{Name: "version", Kind: snapshot.HeaderPresent, Want: true, Invert: true}, condition.True, true},
		{"attachment", open, header{Name: "tier", Value: "gold"}, condition.True, true},
		{"attachment that is broken", open, header{Name: "broken", Value: "x"}, condition.Unknown, false},
		{"attachment that is broken or empty", open, header{Name: "broken", Kind: snapshot.HeaderRegex, Regex: regexp.MustCompile(".*"), TreatMissingAsEmpty: true}, condition.Unknown, true},
		{"attachment that is broken, inverted", open, header{Name: "broken", Kind: snapshot.HeaderPresent, Want: true, Invert: true}, condition.Unknown, true},
		{"spelling", open, header{Source: attachment, Name: "tier", Value: "gold"}, condition.True, true},
		{"another spelling", open, header{Source: attachment, Name: "tier", Value: "x"}, condition.False, false},
		{"no spelling", open, header{Source: attachment, Name: "none", Value: "x"}, condition.False, false},
		{"broken spelling", open, header{Source: attachment, Name: "broken", Value: "x"}, condition.Unknown, false},
		{"argument", open, header{Source: argument, Index: 0, Kind: snapshot.HeaderRange, Min: 3, Max: 4}, condition.True, true},
		{"no argument", open, header{Source: argument, Index: 1, Kind: snapshot.HeaderPresent, Want: true}, condition.False, false},
		{"broken argument", open, header{Source: argument, Index: 9, Kind: snapshot.HeaderPresent, Want: true}, condition.Unknown, false},
		{"attachment of a shut body", shut, header{Name: "tier", Kind: snapshot.HeaderPresent, Invert: true, Want: true}, condition.Unknown, true},
		{"spelling in a shut body", shut, header{Source: attachment, Name: "tier"}, condition.Unknown, false},
		{"argument of a shut body", shut, header{Source: argument}, condition.Unknown, false},
		{"method of a shut body", shut, header{Name: "method", Value: "c"}, condition.True, true},
		{"authority of what cannot be read", unread, header{Name: ":authority", Value: "198.19.0.20:20880"}, condition.True, true},
		{"no authority", shut, header{Name: ":authority", Value: "198.19.0.20:20880"}, condition.False, false},
		{"method of what cannot be read", unread, header{Name: "method", Value: "c"}, condition.Unknown, false},
		{"path of what cannot be read", unread, header{Name: ":path", Kind: snapshot.HeaderPrefix, Value: "/"}, condition.Unknown, false},
		{"version of what cannot be read", unread, header{Name: "version", Kind: snapshot.HeaderPresent, Want: true, Invert: true}, condition.Unknown, true},
		{"interface of what cannot be read, or empty", unread, header{Name: "interface", Kind: snapshot.HeaderPrefix, TreatMissingAsEmpty: true}, condition.Unknown, true},
	} {
		v := condition.ValuesOf(tt.req)
		if got := v.Holds(&tt.want); got != tt.truth {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.truth)
		}
		if got := v.Matches(&tt.want); got != tt.match {
			t.Errorf("%s: matches %v, want %v", tt.name, got, tt.match)
		}
	}
	for a, b := range map[condition.Truth]condition.Truth{
		condition.True: condition.False, condition.False: condition.True, condition.Unknown: condition.Unknown,
	} {
		if a.Not() != b {
			t.Errorf("not %s is %s", a, a.Not())
		}
	}
}
