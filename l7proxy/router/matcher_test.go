package router

import (
	"errors"
	"regexp"
	"testing"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// attachments is a body in a test; the name "broken" cannot be read.
type attachments map[string]string

func (a attachments) Lookup(name string) (string, bool, error) {
	if name == "broken" {
		return "x", true, errors.New("the body ends early")
	}
	v, ok := a[name]
	return v, ok, nil
}

func (a attachments) Spelling(name string, nth int) (string, bool, error) {
	if name == "broken" {
		return "x", true, errors.New("the body ends early")
	}
	return asked{Attachments: a}.Spelling(name, nth)
}

// arguments are a call's in a test; a negative index cannot be read.
type arguments []string

func (a arguments) Argument(index int) (string, bool, error) {
	switch {
	case index < 0:
		return "x", true, errors.New("the body ends early")
	case index >= len(a) || a[index] == "no text":
		return "", false, nil
	}
	return a[index], true, nil
}

func request() *rpc.Request {
	return &rpc.Request{
		Protocol: rpc.ProtocolDubbo, Interface: "org.shop.OrderService", Method: "findOrder", Version: "1.0.0",
		Authority: "198.19.0.20:20880",
		Attachments: attachments{
			"group": "blue", "tag": "gray-7", "level": "42", "low": " -7\t", "empty": "", "huge": "9223372036854775808",
			"max": "9223372036854775807", "min": "-9223372036854775808", "word": "4x", "plus": "+5", "sign": "-",
			"Capital": "x", "USER": "1", "User": "2",
		},
		Arguments: arguments{"jason", "3", "no text", "", "true", "12.5"},
	}
}

func anchored(s string) *regexp.Regexp { return regexp.MustCompile(`^(?:` + s + `)$`) }

func TestPaths(t *testing.T) {
	// The path is /org.shop.OrderService/findOrder.
	const whole = "/org.shop.OrderService/findOrder"
	for _, tt := range []struct {
		kind   snapshot.PathKind
		path   string
		fold   bool
		expect bool
	}{
		{snapshot.PathPrefix, "", false, true},
		{snapshot.PathPrefix, "/", false, true},
		{snapshot.PathPrefix, "/org.shop.", false, true},
		{snapshot.PathPrefix, "/org.shop.OrderService", false, true},
		{snapshot.PathPrefix, "/org.shop.OrderService/", false, true},
		{snapshot.PathPrefix, "/org.shop.OrderService/find", false, true},
		{snapshot.PathPrefix, whole, false, true},
		{snapshot.PathPrefix, whole + "s", false, false},
		{snapshot.PathPrefix, "org.shop", false, false},
		{snapshot.PathPrefix, "/org.shop.orderservice/", false, false},
		{snapshot.PathPrefix, "/org.shop.orderservice/FIND", true, true},
		{snapshot.PathPrefix, "/org.shop.orderservice/LOST", true, false},
		{snapshot.PathExact, whole, false, true},
		{snapshot.PathExact, whole[:len(whole)-1], false, false},
		{snapshot.PathExact, whole + "/", false, false},
		{snapshot.PathExact, "/org.shop.OrderService/FINDORDER", false, false},
		{snapshot.PathExact, "/ORG.shop.OrderService/FINDORDER", true, true},
		{snapshot.PathExact, "", false, false},
		{snapshot.PathRegex, `/org\.shop\.[A-Za-z]+/find.*`, false, true},
		{snapshot.PathRegex, `/org\.shop`, false, false}, // full match
		{snapshot.PathRegex, `.*/FINDORDER`, true, false},
		{snapshot.PathSeparatedPrefix, "/org.shop.OrderService", false, true},
		{snapshot.PathSeparatedPrefix, whole, false, true},
		{snapshot.PathSeparatedPrefix, "/org.shop.Order", false, false},
		{snapshot.PathSeparatedPrefix, "/org.shop.OrderService/find", false, false},
		{snapshot.PathSeparatedPrefix, "/org.shop.orderservice", false, false},
		{snapshot.PathSeparatedPrefix, "/org.shop.orderservice", true, true},
		{snapshot.PathSeparatedPrefix, whole + "/more", false, false},
	} {
		want := snapshot.Match{PathKind: tt.kind, Path: tt.path, IgnoreCase: tt.fold, Fraction: million}
		if tt.kind == snapshot.PathRegex {
			want.PathRegex = anchored(tt.path)
		}
		m := newMatcher(request())
		if got := m.check(&want) == matches; got != tt.expect {
			t.Errorf("%s: %v, want %v", Describe(&want), got, tt.expect)
		}
	}
}

type header = snapshot.HeaderMatch

func TestHeaders(t *testing.T) {
	for _, tt := range []struct {
		header
		expect bool
	}{
		// The attributes.
		{header{Name: "interface", Value: "org.shop.OrderService"}, true},
		{header{Name: "interface", Value: "org.shop.orderservice"}, false},
		{header{Name: "method", Value: "findOrder"}, true},
		{header{Name: "version", Value: "1.0.0"}, true},
		{header{Name: "group", Value: "blue"}, true},
		{header{Name: "tag", Value: "gray-7"}, true},
		{header{Name: "capital", Value: "x"}, false}, // attachments have case
		{header{Name: "Capital", Value: "x"}, true},
		{header{Name: ":path", Value: "/org.shop.OrderService/findOrder"}, true},
		{header{Name: ":authority", Value: "198.19.0.20:20880"}, true},
		{header{Name: "absent", Value: "x"}, false},
		{header{Name: "broken", Value: "x"}, false}, // an unreadable body has no attachments

		// Every form.
		{header{Name: "method", Value: "FINDORDER", IgnoreCase: true}, true},
		{header{Name: "method", Value: "FINDORDERS", IgnoreCase: true}, false},
		{header{Name: "method", Kind: snapshot.HeaderPrefix, Value: "find"}, true},
		{header{Name: "method", Kind: snapshot.HeaderPrefix, Value: "Find"}, false},
		{header{Name: "method", Kind: snapshot.HeaderPrefix, Value: "Find", IgnoreCase: true}, true},
		{header{Name: "method", Kind: snapshot.HeaderSuffix, Value: "Order"}, true},
		{header{Name: "method", Kind: snapshot.HeaderSuffix, Value: "order"}, false},
		{header{Name: "method", Kind: snapshot.HeaderSuffix, Value: "order", IgnoreCase: true}, true},
		{header{Name: "method", Kind: snapshot.HeaderSuffix, Value: "refindOrder"}, false},
		{header{Name: "method", Kind: snapshot.HeaderContains, Value: "dOrd"}, true},
		{header{Name: "method", Kind: snapshot.HeaderContains, Value: "dord"}, false},
		{header{Name: "method", Kind: snapshot.HeaderContains, Value: "DORD", IgnoreCase: true}, true},
		{header{Name: "method", Kind: snapshot.HeaderContains, Value: "findOrderfindOrder"}, false},
		{header{Name: "method", Kind: snapshot.HeaderRegex, Regex: anchored("find[A-Z].*")}, true},
		{header{Name: "method", Kind: snapshot.HeaderRegex, Regex: anchored("find")}, false},
		{header{Name: "method", Kind: snapshot.HeaderPresent, Want: true}, true},
		{header{Name: "method", Kind: snapshot.HeaderPresent, Want: false}, false},

		// :path in pieces.
		{header{Name: ":path", Kind: snapshot.HeaderPrefix, Value: "/org.shop.OrderService/f"}, true},
		{header{Name: ":path", Kind: snapshot.HeaderSuffix, Value: "Service/findOrder"}, true},
		{header{Name: ":path", Kind: snapshot.HeaderSuffix, Value: "Service/findorder"}, false},
		{header{Name: ":path", Kind: snapshot.HeaderContains, Value: "Service/find"}, true},
		{header{Name: ":path", Kind: snapshot.HeaderContains, Value: "SERVICE/FIND", IgnoreCase: true}, true},
		{header{Name: ":path", Kind: snapshot.HeaderContains, Value: "Service.find"}, false},
		{header{Name: ":path", Kind: snapshot.HeaderRegex, Regex: anchored("/org.*/find.*")}, true},
		{header{Name: ":path", Kind: snapshot.HeaderRange, Min: -1 << 63, Max: 1<<63 - 1}, false},

		// Ranges are half open and need the whole value.
		{header{Name: "level", Kind: snapshot.HeaderRange, Min: 42, Max: 43}, true},
		{header{Name: "level", Kind: snapshot.HeaderRange, Min: 0, Max: 42}, false},
		{header{Name: "level", Kind: snapshot.HeaderRange, Min: 43, Max: 99}, false},
		{header{Name: "low", Kind: snapshot.HeaderRange, Min: -7, Max: 0}, true},
		{header{Name: "plus", Kind: snapshot.HeaderRange, Min: 5, Max: 6}, true},
		{header{Name: "word", Kind: snapshot.HeaderRange, Min: -1 << 63, Max: 1<<63 - 1}, false},
		{header{Name: "sign", Kind: snapshot.HeaderRange, Min: -1, Max: 1}, false},
		{header{Name: "empty", Kind: snapshot.HeaderRange, Min: -1, Max: 1}, false},
		{header{Name: "huge", Kind: snapshot.HeaderRange, Min: -1 << 63, Max: 1<<63 - 1}, false},
		{header{Name: "max", Kind: snapshot.HeaderRange, Min: 1<<63 - 2, Max: 1<<63 - 1}, false},
		{header{Name: "min", Kind: snapshot.HeaderRange, Min: -1 << 63, Max: 0}, true},

		// Inverted.
		{header{Name: "method", Value: "findOrder", Invert: true}, false},
		{header{Name: "method", Value: "other", Invert: true}, true},
		{header{Name: "level", Kind: snapshot.HeaderRange, Min: 0, Max: 10, Invert: true}, true},
		{header{Name: "word", Kind: snapshot.HeaderRange, Min: 0, Max: 10, Invert: true}, true},

		// There, but empty.
		{header{Name: "empty", Value: ""}, true},
		{header{Name: "empty", Kind: snapshot.HeaderPresent, Want: true}, true},
		{header{Name: "empty", Value: "x", Invert: true}, true},

		// Missing: nothing matches, inverted or not...
		{header{Name: "absent", Value: ""}, false},
		{header{Name: "absent", Value: "x", Invert: true}, false},
		{header{Name: "absent", Kind: snapshot.HeaderRegex, Regex: anchored(".*")}, false},
		{header{Name: "absent", Kind: snapshot.HeaderRange, Min: 0, Max: 10, Invert: true}, false},
		// ... but the question whether it is there...
		{header{Name: "absent", Kind: snapshot.HeaderPresent, Want: true}, false},
		{header{Name: "absent", Kind: snapshot.HeaderPresent, Want: false}, true},
		{header{Name: "absent", Kind: snapshot.HeaderPresent, Want: true, Invert: true}, true},
		{header{Name: "absent", Kind: snapshot.HeaderPresent, Want: false, Invert: true}, false},
		{header{Name: "method", Kind: snapshot.HeaderPresent, Want: true, Invert: true}, false},
		{header{Name: "method", Kind: snapshot.HeaderPresent, Want: false, Invert: true}, true},
		// ... and where missing is empty.
		{header{Name: "absent", Value: "", TreatMissingAsEmpty: true}, true},
		{header{Name: "absent", Value: "x", TreatMissingAsEmpty: true}, false},
		{header{Name: "absent", Value: "x", TreatMissingAsEmpty: true, Invert: true}, true},
		{header{Name: "absent", Kind: snapshot.HeaderRegex, Regex: anchored(".*"), TreatMissingAsEmpty: true}, true},
		{header{Name: "absent", Kind: snapshot.HeaderRange, Min: 0, Max: 10, TreatMissingAsEmpty: true}, false},
		{header{Name: "absent", Kind: snapshot.HeaderRange, Min: 0, Max: 10, TreatMissingAsEmpty: true, Invert: true}, true},
		{header{Name: "absent", Kind: snapshot.HeaderPresent, Want: true, TreatMissingAsEmpty: true}, true},
	} {
		m := newMatcher(request())
		want := snapshot.Match{Headers: []header{tt.header}}
		if got := m.check(&want) == matches; got != tt.expect {
			t.Errorf("%s: %v, want %v", describeHeader(&tt.header), got, tt.expect)
		}
	}
}

// A request without version, or without attachments at all.
func TestMissingAttributes(t *testing.T) {
	m := newMatcher(&rpc.Request{Interface: "a.B", Method: "c"})
	for name, want := range map[string]bool{"interface": true, "method": true, ":path": true, "version": false, "group": false, ":authority": false} {
		h := header{Name: name, Kind: snapshot.HeaderPresent, Want: true}
		if got := m.values.Matches(&h); got != want {
			t.Errorf("%s is present: %v, want %v", name, got, want)
		}
	}
}

func TestEveryHeaderMustMatch(t *testing.T) {
	m := newMatcher(request())
	yes, no := header{Name: "method", Value: "findOrder"}, header{Name: "tag", Value: "x"}
	for _, tt := range []struct {
		headers []header
		want    miss
	}{
		{nil, matches}, {[]header{yes, yes}, matches}, {[]header{yes, no}, 1}, {[]header{no, yes}, 0},
	} {
		if got := m.check(&snapshot.Match{Headers: tt.headers}); got != tt.want {
			t.Errorf("%d headers: %d, want %d", len(tt.headers), got, tt.want)
		}
	}
}

func TestUndecodableTakesTheDefault(t *testing.T) {
	here := header{Name: ":authority", Value: "198.19.0.20:20880"}
	for _, tt := range []struct {
		name  string
		match snapshot.Match
		want  bool
	}{
		{"prefix /", snapshot.Match{Path: "/"}, true},
		{"empty prefix", snapshot.Match{}, true},
		{"authority", snapshot.Match{Headers: []header{here}}, true},
		{"another authority", snapshot.Match{Headers: []header{{Name: ":authority", Value: "x"}}}, false},
		{"longer prefix", snapshot.Match{Path: "/a"}, false},
		{"two slashes", snapshot.Match{Path: "//"}, false},
		{"exact", snapshot.Match{PathKind: snapshot.PathExact, Path: "/"}, false},
		{"separated", snapshot.Match{PathKind: snapshot.PathSeparatedPrefix, Path: "/"}, false},
		{"regex", snapshot.Match{PathKind: snapshot.PathRegex, PathRegex: anchored(".*")}, false},
		{"absent attachment", snapshot.Match{Headers: []header{{Name: "tag", Kind: snapshot.HeaderPresent}}}, false},
		{"any interface and method", snapshot.Match{Headers: []header{anyOf("interface"), anyOf("method"), here}}, true},
		{"any version", snapshot.Match{Headers: []header{anyOf("version")}}, false},
		{"an attachment called method", snapshot.Match{Headers: []header{{Source: snapshot.SourceAttachment, Name: "method", Kind: snapshot.HeaderPrefix}}}, false},
		{"an argument", snapshot.Match{Headers: []header{{Source: snapshot.SourceArgument, Name: ":authority", Kind: snapshot.HeaderPrefix}}}, false},
		{"a method that is there", snapshot.Match{Headers: []header{{Name: "method", Kind: snapshot.HeaderPresent, Want: true}}}, false},
		{"other method", snapshot.Match{Headers: []header{{Name: "method", Value: "x", Invert: true, TreatMissingAsEmpty: true}}}, false},
	} {
		m := newMatcher(&rpc.Request{
			Authority: "198.19.0.20:20880", Undecodable: true, Attachments: attachments{}, Arguments: arguments{"x"},
		})
		if got := m.check(&tt.match) == matches; got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
