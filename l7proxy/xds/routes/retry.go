package routes

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/conditions"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// Envoy's defaults of a RetryPolicy, and how many tries a request may have.
const (
	defaultRetries = 1
	defaultBase    = 25 * time.Millisecond
	maxOfBase      = 10 // times the base interval
	mostRetries    = 100
)

// exceptionHeader is the name under which a retriable header is the class of a
// business exception.
const exceptionHeader = "exception"

// retryOn says what the words of retry_on mean for Dubbo. Those that are 0 ask for
// what is done without a policy, or for what no Dubbo answer says.
var retryOn = map[string]snapshot.RetryOn{
	"5xx":           snapshot.RetryReset | snapshot.RetryTimeout | snapshot.RetryError | snapshot.RetryUnavailable,
	"gateway-error": snapshot.RetryReset | snapshot.RetryTimeout | snapshot.RetryUnavailable,
	"reset":         snapshot.RetryReset | snapshot.RetryTimeout,

	"connect-failure": 0, "refused-stream": 0, "reset-before-request": 0, // always done
	"retriable-status-codes": 0, "retriable-headers": 0, // say to look at the lists
	"retriable-4xx": 0, "envoy-ratelimited": 0, "http3-post-connect-failure": 0, // HTTP's
	"cancelled": 0, "deadline-exceeded": 0, "internal": 0, "resource-exhausted": 0, "unavailable": 0, // gRPC's
}

// httpStatuses are the HTTP statuses that control planes list, as outcomes of Dubbo.
var httpStatuses = map[uint32]snapshot.RetryOn{
	500: snapshot.RetryError,
	502: snapshot.RetryReset,
	503: snapshot.RetryReset | snapshot.RetryUnavailable,
	504: snapshot.RetryTimeout,
}

// retryPolicy converts a RetryPolicy; nil for none.
func retryPolicy(p *problems.List, path string, m *routev3.RetryPolicy) *snapshot.Retry {
	if m == nil {
		return nil
	}
	r := &snapshot.Retry{
		Num: defaultRetries, PerTry: m.GetPerTryTimeout().AsDuration(),
		Base: defaultBase, Elsewhere: len(m.GetRetryHostPredicate()) > 0,
	}
	if n := m.GetNumRetries(); n != nil {
		r.Num = n.GetValue()
	}
	if r.Num > mostRetries {
		p.Addf(path+".num_retries", "is %d, more than %d", r.Num, mostRetries)
	}
	if b := m.GetRetryBackOff(); b != nil {
		r.Base, r.Max = b.GetBaseInterval().AsDuration(), b.GetMaxInterval().AsDuration()
	}
	if r.Max == 0 {
		r.Max = maxOfBase * r.Base
	}
	if r.Max < r.Base {
		p.Addf(path+".retry_back_off.max_interval", "is less than base_interval")
	}
	words := make(map[string]bool)
	for word := range strings.SplitSeq(m.GetRetryOn(), ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		on, ok := retryOn[word]
		if !ok {
			p.Addf(path+".retry_on", "%q: not implemented", word)
		}
		words[word] = true
		r.On |= on
	}
	if words["retriable-status-codes"] && !istios(words, m) {
		statuses(p, path, m, r)
	}
	if words["retriable-headers"] {
		exceptions(p, path, m, r)
	}
	if r.Num == 0 || r.On == 0 && len(r.Statuses) == 0 && len(r.Exceptions) == 0 {
		if r.PerTry == 0 {
			return nil // nothing but what is done anyway
		}
		r.Num = 0
	}
	return r
}

// istios tells whether a policy is the one that Istio gives to routes without retries: of
// releases whose policy lists 503, which nobody asked for (an HTTPRoute that asks for it has
// a back-off, too). A call that must not be executed
// twice is not sent again for that.
func istios(words map[string]bool, m *routev3.RetryPolicy) bool {
	for _, word := range []string{"connect-failure", "refused-stream", "unavailable", "cancelled", "retriable-status-codes"} {
		if !words[word] {
			return false
		}
	}
	return len(words) == 5 && slices.Equal(m.GetRetriableStatusCodes(), []uint32{503}) &&
		m.GetNumRetries().GetValue() == 2 && m.GetRetryBackOff() == nil && m.GetPerTryTimeout() == nil
}

func statuses(p *problems.List, path string, m *routev3.RetryPolicy, r *snapshot.Retry) {
	for i, code := range m.GetRetriableStatusCodes() {
		at := fmt.Sprintf("%s.retriable_status_codes[%d]", path, i)
		if on, ok := httpStatuses[code]; ok {
			r.On |= on
			continue
		}
		switch {
		case code > 255 || dubbo.StatusName(byte(code)) == "unknown":
			p.Addf(at, "%d is neither a Dubbo status nor 500, 502, 503 or 504", code)
		case byte(code) == dubbo.StatusOK:
			p.Addf(at, "20 is OK: list the classes of exceptions in retriable_headers")
		default:
			r.Statuses = append(r.Statuses, byte(code))
		}
	}
}

func exceptions(p *problems.List, path string, m *routev3.RetryPolicy, r *snapshot.Retry) {
	for i, h := range m.GetRetriableHeaders() {
		at := fmt.Sprintf("%s.retriable_headers[%d]", path, i)
		if h.GetName() != exceptionHeader {
			p.Addf(at+".name", "%q: an answer has no such attribute, only %s, a business exception's class", h.GetName(), exceptionHeader)
			continue
		}
		want := conditions.Any(p, at, h)
		text := ""
		switch value := regexp.QuoteMeta(want.Value); want.Kind {
		case snapshot.HeaderExact:
			text = value
		case snapshot.HeaderPrefix:
			text = value + ".*"
		case snapshot.HeaderSuffix:
			text = ".*" + value
		case snapshot.HeaderContains:
			text = ".*" + value + ".*"
		case snapshot.HeaderRegex:
			text = want.Value
		case snapshot.HeaderPresent:
			text = ".+"
		case snapshot.HeaderRange:
		}
		if text == "" || want.Invert || want.TreatMissingAsEmpty || want.Kind == snapshot.HeaderPresent && !want.Want {
			p.Addf(at, "a class is compared by its text, and not inverted")
			continue
		}
		if want.IgnoreCase && want.Kind != snapshot.HeaderRegex {
			text = "(?i:" + text + ")"
		}
		compiled, err := regexp.Compile("^(?:" + text + ")$")
		if err != nil {
			continue // condition has said so
		}
		r.Exceptions = append(r.Exceptions, compiled)
	}
}
