// Package condition compares one value of a request with what a rule wants of it:
// the one meaning that HeaderMatcher has to routes and to policies alike. It reads
// the value where the rule says, in the prefix, the attachments or the arguments,
// and reads no body that no rule asks about. It knows neither routes nor policies.
package condition

import (
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Truth is what is known of a condition.
type Truth uint8

// The truths. Unknown is what cannot be read: it is neither there nor missing.
const (
	False Truth = iota
	Unknown
	True
)

// Of is True or False.
func Of(ok bool) Truth {
	if ok {
		return True
	}
	return False
}

// Not returns the opposite; that of Unknown is Unknown.
func (t Truth) Not() Truth { return True - t }

// String returns the word for tests and explanations.
func (t Truth) String() string {
	switch t {
	case False:
		return "false"
	case Unknown:
		return "unknown"
	case True:
		return "true"
	}
	return ""
}

// Values reads the values of one request, whose strings they alias. It is of one
// goroutine and valid as long as the request.
type Values struct {
	req  *rpc.Request
	path Text
}

// ValuesOf returns those of req.
func ValuesOf(req *rpc.Request) Values {
	return Values{req: req, path: Text{"/", req.Interface, "/", req.Method}}
}

// Verb is ":method": what every call is to HTTP, as Triple sends it.
const Verb = "POST"

// Path returns ":path", which is /<interface>/<method>. Of a request that cannot be
// decoded it means nothing.
func (v *Values) Path() *Text { return &v.path }

// Matches is Envoy's HeaderMatcher: a missing header matches nothing, inverted or
// not, unless the question is whether it is there or it is to be treated as empty.
// What cannot be read is missing.
func (v *Values) Matches(want *snapshot.HeaderMatch) bool {
	ok, _ := v.match(want)
	return ok
}

// Holds is Matches for who must not be deceived: what cannot be read is Unknown,
// inverted or not. A request without attachments or arguments to read is one that
// nobody has opened.
func (v *Values) Holds(want *snapshot.HeaderMatch) Truth {
	ok, read := v.match(want)
	if !read {
		return Unknown
	}
	return Of(ok)
}

// Value returns what a condition asks for; false if it is missing.
func (v *Values) Value(want *snapshot.HeaderMatch) (Text, bool) {
	value, is := v.value(want)
	return value, is == present
}

// presence tells whether a value is there.
type presence uint8

const (
	missing presence = iota
	present
	unread
)

func there(ok bool) presence {
	if ok {
		return present
	}
	return missing
}

// match compares; read is false if the value cannot be read.
func (v *Values) match(want *snapshot.HeaderMatch) (ok, read bool) {
	if want.Source == snapshot.SourceAttachment {
		return v.matchSpellings(want)
	}
	value, is := v.value(want)
	if is != present && !want.TreatMissingAsEmpty {
		return want.Kind == snapshot.HeaderPresent && want.Want == want.Invert, is != unread
	}
	return Compare(&value, want) != want.Invert, is != unread
}

// matchSpellings is match for attachments of any spelling, of which one must match.
func (v *Values) matchSpellings(want *snapshot.HeaderMatch) (ok, read bool) {
	for nth := 0; ; nth++ {
		value, is := v.spelling(want.Name, nth)
		if is != present && nth == 0 && !want.TreatMissingAsEmpty {
			return want.Kind == snapshot.HeaderPresent && want.Want == want.Invert, is != unread
		}
		if (is == present || nth == 0) && Compare(&value, want) {
			return !want.Invert, is != unread
		}
		if is != present {
			return want.Invert, is != unread
		}
	}
}

// Compare holds a value that is there against what is wanted of it; inversion is
// the caller's.
func Compare(v *Text, want *snapshot.HeaderMatch) bool {
	switch want.Kind {
	case snapshot.HeaderExact:
		return v.Equals(want.Value, want.IgnoreCase)
	case snapshot.HeaderPrefix:
		return v.HasPrefix(want.Value, want.IgnoreCase) && (!want.Longer || v.Len() > len(want.Value))
	case snapshot.HeaderSuffix:
		return v.HasSuffix(want.Value, want.IgnoreCase) && (!want.Longer || v.Len() > len(want.Value))
	case snapshot.HeaderContains:
		return v.Contains(want.Value, want.IgnoreCase)
	case snapshot.HeaderRegex:
		return v.Matches(want.Regex)
	case snapshot.HeaderRange:
		n, ok := v.Integer()
		return ok && want.Min <= n && n < want.Max
	case snapshot.HeaderPresent:
		return want.Want
	}
	return false
}

func (v *Values) value(want *snapshot.HeaderMatch) (Text, presence) {
	switch want.Source {
	case snapshot.SourceName:
	case snapshot.SourceAttachment:
		return v.spelling(want.Name, 0)
	case snapshot.SourceArgument:
		return v.argument(want.Index)
	}
	switch want.Name {
	case ":authority": // the connection's
		return Text{v.req.Authority}, there(v.req.Authority != "")
	case ":method":
		return Text{Verb}, present
	}
	var named string
	switch want.Name {
	case ":path":
		if v.req.Undecodable {
			return Text{}, unread
		}
		return v.path, present
	case "interface":
		named = v.req.Interface
	case "method":
		named = v.req.Method
	case "version":
		named = v.req.Version
	default:
		return v.attachment(want.Name)
	}
	if v.req.Undecodable {
		return Text{}, unread
	}
	return Text{named}, there(named != "")
}

// attachment reads an attachment. A body that cannot be read has none: whoever
// reads it counts that.
func (v *Values) attachment(name string) (Text, presence) {
	if v.req.Attachments == nil {
		return Text{}, unread
	}
	value, ok, err := v.req.Attachments.Lookup(name)
	return found(value, ok, err)
}

// spelling reads an attachment whose name is written in any case.
func (v *Values) spelling(name string, nth int) (Text, presence) {
	if v.req.Attachments == nil {
		return Text{}, unread
	}
	value, ok, err := v.req.Attachments.Spelling(name, nth)
	return found(value, ok, err)
}

// argument reads an argument. As in Envoy, one that is no scalar matches nothing.
func (v *Values) argument(index int) (Text, presence) {
	if v.req.Arguments == nil {
		return Text{}, unread
	}
	value, ok, err := v.req.Arguments.Argument(index)
	return found(value, ok, err)
}

func found(value string, ok bool, err error) (Text, presence) {
	switch {
	case err != nil:
		return Text{}, unread
	case !ok:
		return Text{}, missing
	}
	return Text{value}, present
}
