package filter_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet/dubbotest"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// TestFrames holds real frames against policies: a generic call is the method that it
// names, attachments are those of the body, and one that is cut off is not read.
func TestFrames(t *testing.T) {
	const service = "com.shop.OrderService"
	deny := func(permission string) string {
		return `{name: deny, typed_config: {` + httpRBAC + `, rules: {action: DENY, policies: {p: ` + policy(permission) + `}}}}`
	}
	allow := func(permission string) string {
		return `{name: allow, typed_config: {` + httpRBAC + `, rules: {policies: {p: ` + policy(permission) + `}}}}`
	}
	const (
		isDelete = `{header: {name: method, string_match: {exact: delete}}}`
		isInvoke = `{header: {name: method, string_match: {prefix: $invoke}}}`
		isVIP    = `{header: {name: tier, string_match: {exact: vip}}}`
		isOrder  = `{url_path: {path: {prefix: /com.shop.OrderService/}}}`
	)
	for _, tt := range []struct {
		name     string
		filter   string
		request  dubbotest.Request
		cut      int // bytes of the body's end that are missing
		boundary bool
		denied   bool
	}{
		{"a method", deny(isDelete), dubbotest.Request{Method: "delete"}, 0, false, true},
		{"another method", deny(isDelete), dubbotest.Request{Method: "find"}, 0, false, false},
		{"a generic call of a method", deny(isDelete), dubbotest.Request{Method: "delete", Generic: true}, 0, false, true},
		{"a generic call of another method", deny(isDelete), dubbotest.Request{Method: "find", Generic: true}, 0, false, false},
		{"a generic call is not called so", deny(isInvoke), dubbotest.Request{Method: "find", Generic: true}, 0, false, false},
		{"a generic call that may", allow(isDelete), dubbotest.Request{Method: "delete", Generic: true}, 0, false, false},
		{"a generic call that names no method", allow(isDelete), dubbotest.Request{Method: " delete", Generic: true}, 0, false, true},
		{"and a DENY that might mean it", deny(isDelete), dubbotest.Request{Method: " delete", Generic: true}, 0, false, true},
		{"attachment", allow(isVIP), dubbotest.Request{Attachments: map[string]string{"tier": "vip"}}, 0, false, false},
		{"no attachment", allow(isVIP), dubbotest.Request{}, 0, false, true},
		{"denied attachment", deny(isVIP), dubbotest.Request{Attachments: map[string]string{"tier": "vip"}}, 0, false, true},
		{"denied attachment that is not there", deny(isVIP), dubbotest.Request{}, 0, false, false},
		{"denied attachment behind a cut", deny(isVIP), dubbotest.Request{}, 1, false, true},
		{"attachment before a cut", allow(isVIP), dubbotest.Request{Attachments: map[string]string{"tier": "vip"}}, 1, false, true},
		{"interface at the provider", allow(isOrder), dubbotest.Request{}, 0, true, false},
		{"another path at the provider", allow(isOrder), dubbotest.Request{Attachments: map[string]string{"path": "com.shop.Admin"}}, 0, true, true},
		{"denied path at the provider", deny(isOrder), dubbotest.Request{Interface: "com.shop.Admin", Attachments: map[string]string{"path": service}}, 0, true, true},
		{"interface of a cut at the provider", allow(isOrder), dubbotest.Request{}, 1, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.request.Interface == "" {
				tt.request.Interface = service
			}
			frame := tt.request.Append(nil, 1, []byte("data"))
			h, err := dubbo.ParseHeader(frame)
			if err != nil {
				t.Fatal(err)
			}
			body := frame[dubbo.HeaderLen : len(frame)-tt.cut]
			prefix, state := dubbo.ParsePrefix(h.Serialization(), body)
			req := rpc.Request{
				Interface: prefix.Path, Method: prefix.Method, Version: prefix.Version, Generic: prefix.Generic,
				Undecodable: state != codec.Complete,
			}
			if !req.Undecodable {
				var b dubbo.Body
				b.Reset(h, body, prefix)
				req.Attachments, req.Arguments = &b, &b
			}
			s := subject.Subject{
				Consumer:    subject.NewConsumer(nil, netip.MustParseAddr("198.18.1.10"), "", false),
				Destination: netip.MustParseAddrPort("198.19.0.20:20880"), Boundary: tt.boundary, Now: time.Unix(1000, 0),
			}
			s.Reset(&req)
			var p filter.Policies
			var v filter.Verdict
			p.Access(place(chain{http: tt.filter}.load(t), 0), &s, &v)
			if (v.Why == rpc.WhyDenied) != tt.denied {
				t.Errorf("%+v, want denied: %v", v, tt.denied)
			}
		})
	}
}
