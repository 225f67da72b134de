// Package conditions converts what routes and policies share of Envoy's API: header
// and string matchers, regular expressions and fractions. Pure functions; what is
// wrong is noted in problems.List. It compares nothing: package condition does.
package conditions

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// Millionths is a share in millionths. As in Envoy, more than the whole is the
// whole.
func Millionths(f *typev3.FractionalPercent) uint32 {
	n := uint64(f.GetNumerator())
	switch f.GetDenominator() {
	case typev3.FractionalPercent_HUNDRED:
		n *= snapshot.Million / 100
	case typev3.FractionalPercent_TEN_THOUSAND:
		n *= snapshot.Million / 10_000
	case typev3.FractionalPercent_MILLION:
	}
	return uint32(min(n, snapshot.Million))
}

// Header converts a HeaderMatcher on an attribute of a Dubbo request.
func Header(p *problems.List, path string, m *routev3.HeaderMatcher) snapshot.HeaderMatch {
	h := Any(p, path, m)
	Attribute(p, path+".name", &h)
	return h
}

// Attribute reads the name of a header that is an argument, and refuses one that no
// Dubbo request has.
func Attribute(p *problems.List, path string, h *snapshot.HeaderMatch) {
	switch {
	case strings.HasPrefix(h.Name, argumentsOf):
		index, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(h.Name, argumentsOf), "]"))
		if err != nil || h.Name != fmt.Sprintf("%s%d]", argumentsOf, index) || !IsIndex(index) {
			p.Addf(path, "%q: an argument is arguments[0] to arguments[%d]", h.Name, MaxArguments-1)
		}
		h.Source, h.Name, h.Index = snapshot.SourceArgument, "", index
	case strings.HasPrefix(h.Name, ":") && h.Name != ":path" && h.Name != ":authority" && h.Name != ":method":
		p.Addf(path, "%q: a Dubbo request has no such attribute", h.Name)
	}
}

// argumentsOf begins the name of a header that is an argument, as in the
// conditions of Dubbo's own routers.
const argumentsOf = "arguments["

// MaxArguments is the largest number of a Java method's parameters.
const MaxArguments = 255

// IsIndex tells whether i is the index of an argument.
func IsIndex(i int) bool { return 0 <= i && i < MaxArguments }

// Any converts every form of HeaderMatcher, whatever its name stands for; the
// deprecated ones as well: Aeraki still sends them.
func Any(p *problems.List, path string, m *routev3.HeaderMatcher) snapshot.HeaderMatch {
	h := snapshot.HeaderMatch{
		Name:                m.GetName(),
		Invert:              m.GetInvertMatch(),
		TreatMissingAsEmpty: m.GetTreatMissingHeaderAsEmpty(),
	}
	switch spec := m.GetHeaderMatchSpecifier().(type) {
	case nil: // as Envoy: the header must be there
		h.Kind, h.Want = snapshot.HeaderPresent, true
	case *routev3.HeaderMatcher_PresentMatch:
		h.Kind, h.Want = snapshot.HeaderPresent, spec.PresentMatch
	case *routev3.HeaderMatcher_RangeMatch:
		h.Kind, h.Min, h.Max = snapshot.HeaderRange, spec.RangeMatch.GetStart(), spec.RangeMatch.GetEnd()
	case *routev3.HeaderMatcher_ExactMatch:
		h.Kind, h.Value = snapshot.HeaderExact, spec.ExactMatch
	case *routev3.HeaderMatcher_PrefixMatch:
		h.Kind, h.Value = snapshot.HeaderPrefix, spec.PrefixMatch
	case *routev3.HeaderMatcher_SuffixMatch:
		h.Kind, h.Value = snapshot.HeaderSuffix, spec.SuffixMatch
	case *routev3.HeaderMatcher_ContainsMatch:
		h.Kind, h.Value = snapshot.HeaderContains, spec.ContainsMatch
	case *routev3.HeaderMatcher_SafeRegexMatch:
		h.Kind, h.Value = snapshot.HeaderRegex, spec.SafeRegexMatch.GetRegex()
		h.Regex = Regex(p, path+".safe_regex_match.regex", h.Value)
	case *routev3.HeaderMatcher_StringMatch:
		String(p, path+".string_match", spec.StringMatch, &h)
	}
	return h
}

// String converts a StringMatcher into the comparison of h. ignore_case has no effect on a regular
// expression, as in Envoy.
func String(p *problems.List, path string, m *matcherv3.StringMatcher, h *snapshot.HeaderMatch) {
	h.IgnoreCase = m.GetIgnoreCase()
	switch spec := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		h.Kind, h.Value = snapshot.HeaderExact, spec.Exact
	case *matcherv3.StringMatcher_Prefix:
		h.Kind, h.Value = snapshot.HeaderPrefix, spec.Prefix
	case *matcherv3.StringMatcher_Suffix:
		h.Kind, h.Value = snapshot.HeaderSuffix, spec.Suffix
	case *matcherv3.StringMatcher_Contains:
		h.Kind, h.Value = snapshot.HeaderContains, spec.Contains
	case *matcherv3.StringMatcher_SafeRegex:
		h.Kind, h.Value, h.IgnoreCase = snapshot.HeaderRegex, spec.SafeRegex.GetRegex(), false
		h.Regex = Regex(p, path+".safe_regex.regex", h.Value)
	}
}

// Regex compiles an RE2 expression that must match the whole text.
func Regex(p *problems.List, path, expr string) *regexp.Regexp {
	// Alone first: "a)(b" is an error, although it is none inside a group.
	if _, err := regexp.Compile(expr); err != nil {
		p.Addf(path, "%v", err)
		return nil
	}
	re, err := regexp.Compile(`\A(?:` + expr + `)\z`)
	if err != nil {
		p.Addf(path, "%v", err)
		return nil
	}
	return re
}
