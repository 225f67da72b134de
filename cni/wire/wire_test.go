package wire

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func sandbox() *Sandbox {
	return &Sandbox{ContainerID: "c1", UID: "u1", Namespace: "shop", Name: "cart-1",
		Addresses: []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::3")}}
}

func add() *Request {
	return &Request{Version: Version, Verb: Add, TimeoutMillis: 30000, Sandbox: sandbox()}
}

func TestRequests(t *testing.T) {
	with := func(change func(*Request)) *Request {
		r := add()
		change(r)
		return r
	}
	ids := slices.Repeat([]string{strings.Repeat("f", 64)}, MaxContainers)
	tests := []struct {
		name    string
		request *Request
		want    string // part of the error; "" for none
	}{
		{"add", add(), ""},
		{"an old runtime", with(func(r *Request) { r.Sandbox.UID = "" }), ""},
		{"del", with(func(r *Request) { r.Verb, r.Sandbox.Addresses = Delete, nil }), ""},
		{"gc of nothing", &Request{Version: Version, Verb: Keep, TimeoutMillis: 1}, ""},
		{"gc of a large node", &Request{Version: Version, Verb: Keep, TimeoutMillis: 1, Containers: ids}, ""},
		{"gc of too much", &Request{Version: Version, Verb: Keep, TimeoutMillis: 1, Containers: append(ids, "x")}, "1801 containers"},
		{"gc of no name", &Request{Version: Version, Verb: Keep, TimeoutMillis: 1, Containers: []string{""}}, "container ID"},
		{"status", &Request{Version: Version, Verb: Ready, TimeoutMillis: 1}, ""},
		{"status of a pod", with(func(r *Request) { r.Verb = Ready }), "with a sandbox"},
		{"add of containers", with(func(r *Request) { r.Containers = ids[:1] }), "containers with"},
		{"no sandbox", with(func(r *Request) { r.Sandbox = nil }), "without a sandbox"},
		{"no container", with(func(r *Request) { r.Sandbox.ContainerID = "" }), "container ID"},
		{"no namespace", with(func(r *Request) { r.Sandbox.Namespace = "" }), "namespace"},
		{"no name", with(func(r *Request) { r.Sandbox.Name = "" }), "pod name"},
		{"a long UID", with(func(r *Request) { r.Sandbox.UID = strings.Repeat("u", 129) }), "pod UID"},
		{"v4-mapped", with(func(r *Request) { r.Sandbox.Addresses[0] = netip.MustParseAddr("::ffff:10.1.2.3") }), "address"},
		{"many addresses", with(func(r *Request) { r.Sandbox.Addresses = slices.Repeat(r.Sandbox.Addresses, 17) }), "34 addresses"},
		{"no time", with(func(r *Request) { r.TimeoutMillis = 0 }), "timeout"},
		{"all the time", with(func(r *Request) { r.TimeoutMillis = 120001 }), "timeout"},
		{"no verb", with(func(r *Request) { r.Verb = "" }), "verb"},
		{"another version", with(func(r *Request) { r.Version = 2 }), "other version"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			packet, err := EncodeRequest(test.request)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Fatalf("encode: %v, want %q", err, test.want)
			}
			if err != nil { // the other side refuses it too
				if packet, err = encode(test.request); err == nil {
					_, err = DecodeRequest(packet)
				}
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("decode: %v, want %q", err, test.want)
				}
				return
			}
			got, err := DecodeRequest(packet)
			if err != nil || !reflect.DeepEqual(got, test.request) {
				t.Errorf("decoded %+v, %v", got, err)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	good, err := EncodeRequest(add())
	if err != nil {
		t.Fatal(err)
	}
	for packet, want := range map[string]string{
		"":                                   "not JSON",
		string(good) + "{}":                  "not JSON",
		string(good[:len(good)-1]) + "\xff}": "not UTF-8",
		strings.Replace(string(good), `{"version"`, `{"more":1,"version"`, 1):     "unknown field",
		strings.Repeat(" ", MaxMessage) + string(good):                            "are allowed",
		strings.Replace(string(good), `{"version":1`, `{"more":1,"version":2`, 1): "speaks version",
	} {
		if r, err := DecodeRequest([]byte(packet)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v", want, r, err)
		}
	}
	_, err = DecodeRequest([]byte(`{"version":2}`))
	if !errors.Is(err, ErrVersion) {
		t.Errorf("error is %v", err)
	}
}

func TestAnswers(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", ""},
		{"not ready", "not ready"},
		{strings.Repeat("x", 10000), strings.Repeat("x", maxText)},
		{strings.Repeat("\x01é", 10000), ""},
	} {
		var err error
		if test.in != "" {
			err = errors.New(test.in)
		}
		packet, err := EncodeAnswer(err)
		if err != nil {
			t.Fatal(err)
		}
		a, err := DecodeAnswer(packet)
		if err != nil || test.want != "" && a.Error != test.want || (a.Error == "") != (test.in == "") || !utf8.ValidString(a.Error) {
			t.Errorf("%.20q became %.20q, %v", test.in, a.Error, err)
		}
	}
	if _, err := DecodeAnswer([]byte(`{"version":7,"error":"plugin is too old","hint":1}`)); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "plugin is too old") {
		t.Errorf("error is %v", err)
	}
}

// FuzzRequest: what is accepted says the same when it is sent again.
func FuzzRequest(f *testing.F) {
	for _, r := range []*Request{add(), {Version: Version, Verb: Keep, TimeoutMillis: 5, Containers: []string{"a"}}, {Version: Version, Verb: Ready, TimeoutMillis: 5}} {
		packet, err := EncodeRequest(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packet)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		r, err := DecodeRequest(packet)
		if err != nil {
			return
		}
		again, err := EncodeRequest(r)
		if err != nil {
			t.Fatalf("%q: %v", packet, err)
		}
		got, err := DecodeRequest(again)
		if err != nil || got.Verb != r.Verb || !reflect.DeepEqual(normal(got), normal(r)) {
			t.Fatalf("%q became %q, %v", packet, again, err)
		}
	})
}

// normal makes an empty list and none the same.
func normal(r *Request) Request {
	n := *r
	if len(n.Containers) == 0 {
		n.Containers = nil
	}
	if n.Sandbox != nil {
		s := *n.Sandbox
		if len(s.Addresses) == 0 {
			s.Addresses = nil
		}
		n.Sandbox = &s
	}
	return n
}

// FuzzAnswer: the plugin survives whatever it is told.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"version":1,"error":"not ready"}`))
	f.Fuzz(func(t *testing.T, packet []byte) {
		a, err := DecodeAnswer(packet)
		if err == nil && a.Version != Version {
			t.Fatalf("%q: version %d", packet, a.Version)
		}
	})
}
