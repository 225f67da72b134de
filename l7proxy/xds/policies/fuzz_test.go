package policies_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"

	limitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"

	"github.com/dubway/dubway/l7proxy/filter/rbac"
	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/fields"
	"github.com/dubway/dubway/l7proxy/xds/policies"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// seeds adds the configurations of a type in the golden and rejected files, and in
// what a real istiod sent.
func seeds(f *testing.F, typ string, least int) {
	f.Helper()
	count := 0
	var walk func(tree any)
	walk = func(tree any) {
		switch v := tree.(type) {
		case []any:
			for _, one := range v {
				walk(one)
			}
		case map[string]any:
			if url, _ := v["@type"].(string); strings.HasSuffix(url, "/"+typ) {
				delete(v, "@type")
				if text, err := json.Marshal(v); err == nil {
					f.Add(text)
					count++
				}
			}
			for _, one := range v {
				walk(one)
			}
		}
	}
	for _, path := range []string{"golden/policies.yaml", "rejected/policies.yaml", "golden/faults.yaml", "rejected/faults.yaml", "golden/global.yaml", "rejected/global.yaml", "istiod/authz.provider/listeners.json", "istiod/authz-dubbo-port.provider/listeners.json"} {
		text, err := os.ReadFile("../testdata/" + path)
		if err != nil {
			f.Fatal(err)
		}
		var tree any
		if err := yaml.Unmarshal(text, &tree); err != nil {
			f.Fatal(err)
		}
		walk(tree)
	}
	if count < least {
		f.Fatalf("only %d seeds", count)
	}
}

// examined reads text as m and examines it; nil if it is no such message, or has
// problems, which must have reasons.
func examined(t *testing.T, text []byte, m problems.Validated) *anypb.Any {
	t.Helper()
	if protojson.Unmarshal(text, m) != nil {
		return nil
	}
	p := fields.Examine(m)
	complete(t, p)
	a, err := anypb.New(m)
	if err != nil || len(p) > 0 {
		return nil
	}
	return a
}

func complete(t *testing.T, list problems.List) {
	t.Helper()
	for _, p := range list {
		if p.Reason == "" || p.Field == "" {
			t.Fatalf("problem %+v without a place or a reason", p)
		}
	}
}

// FuzzRBAC converts any RBAC filter, as JSON. What is accepted means the same each
// time, needs what it asks for, and fails closed: who may call without being
// understood may call whatever the request turns out to be.
func FuzzRBAC(f *testing.F) {
	seeds(f, "envoy.extensions.filters.http.rbac.v3.RBAC", 40)
	f.Fuzz(func(t *testing.T, text []byte) {
		m := new(rbacv3.RBAC)
		a := examined(t, text, m)
		if a == nil {
			return
		}
		before := proto.Clone(a)
		var p, again problems.List
		out := policies.RBAC(&p, "at", "name", a)
		complete(t, p)
		if !proto.Equal(before, a) {
			t.Fatal("the conversion changes the message")
		}
		second := policies.RBAC(&again, "at", "name", a)
		if fmt.Sprint(again) != fmt.Sprint(p) || printed(out.Rules)+printed(out.Shadow) != printed(second.Rules)+printed(second.Shadow) {
			t.Fatal("it means something else the second time")
		}
		if len(p) > 0 {
			return
		}
		if (m.GetRules() == nil) != (out.Rules == nil) || (m.GetShadowRules() == nil) != (out.Shadow == nil) {
			t.Fatal("rules are lost")
		}
		for _, r := range []*snapshot.Rules{out.Rules, out.Shadow} {
			if r != nil {
				sound(t, r)
				closed(t, r)
			}
		}
	})
}

// sound checks what package rbac relies on.
func sound(t *testing.T, r *snapshot.Rules) {
	t.Helper()
	var needs snapshot.Needs
	var walk func(term *snapshot.Term)
	walk = func(term *snapshot.Term) {
		if h := term.Header; h != nil {
			if (h.Kind == snapshot.HeaderRegex) != (h.Regex != nil) {
				t.Fatalf("header %+v", h)
			}
			if term.Kind == snapshot.TermHeader {
				needs |= h.Needs()
			}
		}
		isHeader := term.Kind == snapshot.TermHeader || term.Kind == snapshot.TermPrincipal
		isPrefix := term.Kind == snapshot.TermSource || term.Kind == snapshot.TermDestination
		isSet := term.Kind == snapshot.TermAnd || term.Kind == snapshot.TermOr
		if isHeader != (term.Header != nil) || isPrefix != term.Prefix.IsValid() || term.Min > term.Max ||
			isSet && len(term.Terms) < 2 || !isSet && len(term.Terms) != map[bool]int{true: 1}[term.Kind == snapshot.TermNot] {
			t.Fatalf("term %+v", term)
		}
		for i := range term.Terms {
			walk(&term.Terms[i])
		}
	}
	for i := range r.Policies {
		if i > 0 && r.Policies[i-1].Name >= r.Policies[i].Name {
			t.Fatal("the policies are not in order")
		}
		walk(&r.Policies[i].Permission)
		walk(&r.Policies[i].Principal)
	}
	if needs != r.Needs {
		t.Fatalf("needs %s, said to need %s", needs, r.Needs)
	}
}

// closed holds requests that are read against the same unread.
func closed(t *testing.T, r *snapshot.Rules) {
	t.Helper()
	for _, c := range []*subject.Consumer{
		{Address: netip.MustParseAddr("198.18.1.10")},
		{Address: netip.MustParseAddr("fd00::1"), Principal: "spiffe://cluster.local/ns/shop/sa/web"},
	} {
		s := &subject.Subject{Consumer: c, Destination: netip.MustParseAddrPort("198.19.0.20:20880")}
		const authority = "198.19.0.20:20880"
		s.Reset(&rpc.Request{Authority: authority, Undecodable: true})
		blind := rbac.Judge(r, s)
		for _, b := range []body{{}, {"tier": "vip", "group": "blue", "path": "com.shop.Admin"}} {
			for _, name := range []string{"com.shop.OrderService", "x"} {
				s.Reset(&rpc.Request{Authority: authority, Interface: name, Method: "place", Attachments: b, Arguments: b})
				if d := rbac.Judge(r, s); d.Denied && !blind.Denied {
					t.Fatalf("%s passes unread, but not read", name)
				}
				s.Boundary = true
				s.Reset(&rpc.Request{Authority: authority, Interface: name, Method: "place", Attachments: body{"path": "other"}, Arguments: b})
				if d := rbac.Judge(r, s); r.Needs == snapshot.NeedsNames && d.Denied != judgeUnnamed(r, s, name) {
					t.Fatal("a name that the attachments contradict counts")
				}
				s.Boundary = false
			}
		}
	}
}

// judgeUnnamed says what becomes of a request whose service the attachments
// contradict: the same under whatever name it comes.
func judgeUnnamed(r *snapshot.Rules, s *subject.Subject, name string) bool {
	s.Reset(&rpc.Request{Authority: "198.19.0.20:20880", Interface: name + "2", Method: "place", Attachments: body{"path": "other"}})
	return rbac.Judge(r, s).Denied
}

// body is what a test's requests hold.
type body map[string]string

func (b body) Lookup(name string) (string, bool, error) { v, ok := b[name]; return v, ok, nil }

func (b body) Spelling(name string, nth int) (string, bool, error) {
	v, ok := b[name]
	return v, ok && nth == 0, nil
}

func (b body) Argument(index int) (string, bool, error) { return "3", index < len(b), nil }

// printed writes rules without their pointers.
func printed(r *snapshot.Rules) string {
	if r == nil {
		return "none"
	}
	var b strings.Builder
	var walk func(term *snapshot.Term)
	walk = func(term *snapshot.Term) {
		fmt.Fprintf(&b, "(%d %s %d %d", term.Kind, term.Prefix, term.Min, term.Max)
		if h := term.Header; h != nil {
			one := *h
			one.Regex = nil
			fmt.Fprintf(&b, " %+v", one)
		}
		for i := range term.Terms {
			walk(&term.Terms[i])
		}
		b.WriteString(")")
	}
	fmt.Fprintf(&b, "%d %s %s", r.Action, r.Prefix, r.Needs)
	for i := range r.Policies {
		fmt.Fprintf(&b, " %q", r.Policies[i].Name)
		walk(&r.Policies[i].Permission)
		walk(&r.Policies[i].Principal)
	}
	return b.String()
}

// FuzzLimit converts any limit, as JSON. What is accepted can be counted with.
func FuzzLimit(f *testing.F) {
	seeds(f, "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", 10)
	f.Fuzz(func(t *testing.T, text []byte) {
		m := new(limitv3.LocalRateLimit)
		a := examined(t, text, m)
		if a == nil {
			return
		}
		var p, again problems.List
		out := policies.Limit(&p, "at", "name", a)
		complete(t, p)
		second := policies.Limit(&again, "at", "name", a)
		if fmt.Sprint(p) != fmt.Sprint(again) || len(second.Descriptors) != len(out.Descriptors) {
			t.Fatal("it means something else the second time")
		}
		if len(p) > 0 {
			return
		}
		buckets := []*snapshot.Bucket{}
		if (m.GetTokenBucket() == nil) != (out.Bucket == nil) || len(out.Descriptors) != len(m.GetDescriptors()) || len(out.Rates) != len(m.GetRateLimits()) {
			t.Fatal("something is lost")
		}
		if out.Bucket != nil {
			buckets = append(buckets, out.Bucket)
		}
		last := 0.0
		for i := range out.Descriptors {
			d := &out.Descriptors[i]
			rate := float64(d.Bucket.Fill) / d.Bucket.Interval.Seconds()
			if len(d.Entries) == 0 || rate < last {
				t.Fatalf("descriptor %+v after a rate of %v", d, last)
			}
			last = rate
			buckets = append(buckets, d.Bucket)
		}
		for _, b := range buckets {
			if b.Max == 0 || b.Fill == 0 || b.Interval <= 0 {
				t.Fatalf("bucket %+v", b)
			}
		}
		if out.Enabled > 1_000_000 || out.Enforced > 1_000_000 {
			t.Fatalf("shares %d, %d", out.Enabled, out.Enforced)
		}
		for _, rate := range out.Rates {
			for _, a := range rate.Actions {
				if a.Key == "" || a.Kind == snapshot.RateHeader && len(a.Headers) != 1 {
					t.Fatalf("action %+v", a)
				}
			}
		}
	})
}
