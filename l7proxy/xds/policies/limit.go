package policies

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	limitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/local_ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/conditions"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// shortest is Envoy's bound of a fill_interval.
const shortest = 50 * time.Millisecond

// Limit converts the configuration of an HTTP filter, called name, that
// fields.Examine has passed. The result is never nil, and means nothing where a
// problem was added.
func Limit(p *problems.List, path, name string, config *anypb.Any) *snapshot.Limit {
	m := new(limitv3.LocalRateLimit)
	if !p.Unpack(path, config, m) {
		return &snapshot.Limit{Bucket: new(snapshot.Bucket)}
	}
	out := &snapshot.Limit{
		Name: name, Prefix: m.GetStatPrefix(), Stage: m.GetStage(),
		Bucket:   bucket(p, path+".token_bucket", m.GetTokenBucket()),
		Always:   m.GetAlwaysConsumeDefaultTokenBucket() == nil || m.GetAlwaysConsumeDefaultTokenBucket().GetValue(),
		Enabled:  conditions.Millionths(m.GetFilterEnabled().GetDefaultValue()),
		Enforced: conditions.Millionths(m.GetFilterEnforced().GetDefaultValue()),
	}
	out.Rates, out.Needs = Rates(p, path+".rate_limits", m.GetRateLimits())
	out.Descriptors = descriptors(p, path+".descriptors", m.GetDescriptors())
	return out
}

// networkLimit converts a filter that takes a token for each connection.
func networkLimit(p *problems.List, path, name string, config *anypb.Any) *snapshot.Limit {
	m := new(networkv3.LocalRateLimit)
	if !p.Unpack(path, config, m) {
		return new(snapshot.Limit)
	}
	out := &snapshot.Limit{
		Name: name, Prefix: m.GetStatPrefix(), Bucket: bucket(p, path+".token_bucket", m.GetTokenBucket()),
		Always: true, Enabled: snapshot.Million, Enforced: snapshot.Million,
	}
	if on := m.GetRuntimeEnabled(); on != nil && !on.GetDefaultValue().GetValue() {
		out.Enabled, out.Enforced = 0, 0
	}
	return out
}

// bucket converts a bucket; nil stays nil.
func bucket(p *problems.List, path string, m *typev3.TokenBucket) *snapshot.Bucket {
	if m == nil {
		return nil
	}
	out := &snapshot.Bucket{Max: m.GetMaxTokens(), Fill: 1, Interval: m.GetFillInterval().AsDuration()}
	if fill := m.GetTokensPerFill(); fill != nil {
		out.Fill = fill.GetValue()
	}
	if out.Max == 0 {
		p.Addf(path+".max_tokens", "required: nothing could ever pass")
	}
	if out.Interval < shortest {
		p.Addf(path+".fill_interval", "is %s, less than %s", out.Interval, shortest)
	}
	return out
}

// descriptors are sorted by the rates of their buckets, the smallest first.
func descriptors(p *problems.List, path string, list []*ratelimitv3.LocalRateLimitDescriptor) []snapshot.Descriptor {
	var out []snapshot.Descriptor
	for i, m := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		one := snapshot.Descriptor{Bucket: bucket(p, at+".token_bucket", m.GetTokenBucket())}
		for j, e := range m.GetEntries() {
			if e.GetValue() == "" {
				p.Addf(fmt.Sprintf("%s.entries[%d].value", at, j), "required: a bucket for each value is not implemented")
			}
			one.Entries = append(one.Entries, snapshot.Entry{Key: e.GetKey(), Value: e.GetValue()})
		}
		for j := range out {
			if slices.Equal(out[j].Entries, one.Entries) {
				p.Addf(at+".entries", "are those of another descriptor")
			}
		}
		out = append(out, one)
	}
	if len(*p) == 0 {
		slices.SortStableFunc(out, func(a, b snapshot.Descriptor) int { return cmp.Compare(perSecond(a.Bucket), perSecond(b.Bucket)) })
	}
	return out
}

func perSecond(b *snapshot.Bucket) float64 { return float64(b.Fill) / b.Interval.Seconds() }

// Rates converts the rate_limits of a route, a virtual host or a filter, and tells
// what of a request they need.
func Rates(p *problems.List, path string, list []*routev3.RateLimit) (out []snapshot.Rate, needs snapshot.Needs) {
	for i, m := range list {
		one := snapshot.Rate{Stage: m.GetStage().GetValue()}
		for j, a := range m.GetActions() {
			made := action(p, fmt.Sprintf("%s[%d].actions[%d]", path, i, j), a)
			for k := range made.Headers {
				needs |= made.Headers[k].Needs()
			}
			one.Actions = append(one.Actions, made)
		}
		out = append(out, one)
	}
	return out, needs
}

func action(p *problems.List, path string, m *routev3.RateLimit_Action) snapshot.RateAction {
	switch spec := m.GetActionSpecifier().(type) {
	case *routev3.RateLimit_Action_SourceCluster_:
		return snapshot.RateAction{Kind: snapshot.RateSourceCluster, Key: "source_cluster"}
	case *routev3.RateLimit_Action_RemoteAddress_:
		return snapshot.RateAction{Kind: snapshot.RateRemoteAddress, Key: "remote_address"}
	case *routev3.RateLimit_Action_GenericKey_:
		return snapshot.RateAction{
			Kind: snapshot.RateGeneric, Value: spec.GenericKey.GetDescriptorValue(),
			Key: cmp.Or(spec.GenericKey.GetDescriptorKey(), "generic_key"),
		}
	case *routev3.RateLimit_Action_RequestHeaders_:
		h := conditions.Header(p, path+".request_headers", &routev3.HeaderMatcher{Name: spec.RequestHeaders.GetHeaderName()})
		return snapshot.RateAction{
			Kind: snapshot.RateHeader, Key: spec.RequestHeaders.GetDescriptorKey(),
			Headers: []snapshot.HeaderMatch{h}, Absent: spec.RequestHeaders.GetSkipIfAbsent(),
		}
	case *routev3.RateLimit_Action_HeaderValueMatch_:
		v := spec.HeaderValueMatch
		out := snapshot.RateAction{
			Kind: snapshot.RateMatch, Value: v.GetDescriptorValue(), Key: cmp.Or(v.GetDescriptorKey(), "header_match"),
			Unless: v.GetExpectMatch() != nil && !v.GetExpectMatch().GetValue(),
		}
		for i, h := range v.GetHeaders() {
			out.Headers = append(out.Headers, conditions.Header(p, fmt.Sprintf("%s.header_value_match.headers[%d]", path, i), h))
		}
		return out
	default: // package fields lets nothing else in
		return snapshot.RateAction{}
	}
}
