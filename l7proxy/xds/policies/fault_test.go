package policies_test

import (
	"fmt"
	"testing"

	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/policies"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// FuzzFault converts any fault filter, as JSON. What is accepted can be injected.
func FuzzFault(f *testing.F) {
	seeds(f, "envoy.extensions.filters.http.fault.v3.HTTPFault", 30)
	f.Fuzz(func(t *testing.T, text []byte) {
		m := new(faultv3.HTTPFault)
		a := examined(t, text, m)
		if a == nil {
			return
		}
		var p, again problems.List
		out := policies.Fault(&p, "at", "name", a)
		complete(t, p)
		second := policies.Fault(&again, "at", "name", a)
		if fmt.Sprint(p) != fmt.Sprint(again) || second.Delay != out.Delay || second.Aborted != out.Aborted {
			t.Fatal("it means something else the second time")
		}
		if len(p) > 0 {
			return
		}
		if (m.GetAbort() == nil) != (out.Abort == nil) || (m.GetDelay() == nil) != (out.Delay == 0) || len(m.GetHeaders()) != len(out.Headers) {
			t.Fatal("something is lost")
		}
		if out.Delay < 0 || out.Delayed > 1_000_000 || out.Aborted > 1_000_000 {
			t.Fatalf("%+v", out)
		}
		if out.Abort != nil {
			answers(t, out.Abort)
		}
	})
}

// FuzzAbort converts any metadata of a route.
func FuzzAbort(f *testing.F) {
	for _, seed := range []string{
		`{"status": 70}`, `{"exception": "java.lang.IllegalStateException", "message": "no stock"}`, `{"status": 20}`,
		`{"exception": "a.b$c", "status": 1e9}`, `{"status": 70, "message": ""}`, `[]`, `"70"`, `{"status": -0.5}`, `{"exception": "a.b\u0000"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v := new(structpb.Value)
		if protojson.Unmarshal(text, v) != nil {
			return
		}
		var p problems.List
		out := policies.Abort(&p, "at", v)
		complete(t, p)
		if len(p) > 0 {
			return
		}
		if out == nil {
			t.Fatal("nothing is said, and nothing is wrong")
		}
		answers(t, out)
	})
}

// answers checks that an abort makes an answer in every serialization, and never one
// that is OK without throwing.
func answers(t *testing.T, a *snapshot.Abort) {
	t.Helper()
	if dubbo.StatusName(a.Status) == "unknown" || a.Status == dubbo.StatusOK {
		t.Fatalf("status %d", a.Status)
	}
	if a.Class == "" {
		return
	}
	for _, serialization := range []byte{dubbo.Hessian2, dubbo.Fastjson2} {
		req := codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay | serialization, ID: 1}
		frame := dubbo.AppendException(nil, req, dubbo.Exception{Class: a.Class, Code: dubbo.Code(a.Code), Message: a.Message})
		if got := dubbo.ExceptionClass(serialization, frame[dubbo.HeaderLen:]); got != a.Class {
			t.Fatalf("%q is thrown, want %q", got, a.Class)
		}
	}
}
