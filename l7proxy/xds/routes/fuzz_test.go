package routes_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	dubbov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/dubbo_proxy/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/fields"
	"github.com/dubway/dubway/l7proxy/xds/problems"
	"github.com/dubway/dubway/l7proxy/xds/routes"
)

// FuzzDubboProxy converts any dubbo_proxy, as JSON. What is accepted is
// consistent and means the same each time; what is not says where and why.
func FuzzDubboProxy(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m := new(dubbov3.DubboProxy)
		if protojson.Unmarshal(text, m) != nil {
			return
		}
		before := proto.Clone(m)
		p := fields.Examine(m)
		if len(p) > 0 {
			complete(t, p)
			return
		}
		c := routes.DubboProxy(&p, "at", "origin", m)
		complete(t, p)
		if !proto.Equal(before, m) {
			t.Fatal("the conversion changes the message")
		}
		if len(p) == 0 {
			consistent(t, m, c)
		}
		var again problems.List
		if got := fmt.Sprint(printed(routes.DubboProxy(&again, "at", "origin", m)), again); got != fmt.Sprint(printed(c), p) {
			t.Fatalf("the second time it means %s", got)
		}
	})
}

// seeds are the filters of the golden and of the rejected listeners.
func seeds(tb testing.TB) [][]byte {
	tb.Helper()
	var list [][]byte
	for _, path := range []string{"../testdata/golden/dubbo.yaml", "../testdata/rejected/dubbo.yaml"} {
		text, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		text, err = yaml.YAMLToJSON(text)
		if err != nil {
			tb.Fatal(err)
		}
		// The objects that begin where a table does and end before the filter's type.
		for _, one := range regexp.MustCompile(`"stat_prefix".*?}]}}`).FindAll(text, -1) {
			list = append(list, append(append([]byte("{"), one...), '}'))
		}
		for _, one := range regexp.MustCompile(`"(multiple_)?route_config":.*?,"stat_prefix":"[^"]*"`).FindAll(text, -1) {
			list = append(list, append(append([]byte("{"), one...), '}'))
		}
	}
	good := 0
	for _, one := range list {
		if protojson.Unmarshal(one, new(dubbov3.DubboProxy)) == nil {
			good++
		}
	}
	if good < 20 {
		tb.Fatalf("only %d of %d seeds are filters", good, len(list))
	}
	return list
}

// complete checks that every problem has a place and a reason.
func complete(t *testing.T, list problems.List) {
	t.Helper()
	for _, p := range list {
		if p.Reason == "" {
			t.Fatalf("%q without a reason", p.Field)
		}
	}
}

// consistent checks what router relies on, and that nothing is lost.
func consistent(t *testing.T, m *dubbov3.DubboProxy, c *snapshot.RouteConfig) {
	t.Helper()
	want := 0
	for _, e := range append(m.GetRouteConfig(), m.GetMultipleRouteConfig().GetRouteConfig()...) {
		for _, r := range e.GetRoutes() {
			want++
			if r.GetMatch().GetMethod().GetName() == nil {
				t.Fatal("a route without a method is accepted")
			}
		}
	}
	list := c.VirtualHosts[0].Routes
	if len(c.VirtualHosts) != 1 || len(list) != want {
		t.Fatalf("%d routes out of %d", len(list), want)
	}
	static := true
	for _, r := range list {
		var total uint64
		for _, w := range r.Action.Clusters {
			total += uint64(w.Weight)
		}
		if total == 0 || total != r.Action.Total || r.Match.Fraction != 1_000_000 || r.Origin == "" {
			t.Fatalf("route %+v", r)
		}
		for _, h := range r.Match.Headers {
			if (h.Kind == snapshot.HeaderRegex) != (h.Regex != nil) || h.Index < 0 || h.Index > 254 {
				t.Fatalf("condition %+v", h)
			}
			named := h.Name == "interface" || h.Name == "method" || h.Name == "version"
			static = static && h.Source == snapshot.SourceName && named
		}
	}
	if c.Static != static {
		t.Fatalf("static %v, want %v", c.Static, static)
	}
}

// printed writes a table without its pointers.
func printed(c *snapshot.RouteConfig) string {
	var b strings.Builder
	b.WriteString(c.Name)
	for _, r := range c.VirtualHosts[0].Routes {
		action := r.Action
		action.Clusters = slices.Clone(action.Clusters)
		for i := range action.Clusters {
			if e := &action.Clusters[i].Edits; *e != nil {
				fmt.Fprintf(&b, "\n%d %+v", i, **e)
				*e = nil
			}
		}
		fmt.Fprintf(&b, "\n%s %s %+v", r.Name, r.Origin, action)
		for _, h := range r.Match.Headers {
			expr := ""
			if h.Regex != nil {
				expr = h.Regex.String()
			}
			h.Regex = nil
			fmt.Fprintf(&b, "\n  %+v %s", h, expr)
		}
	}
	return b.String()
}
