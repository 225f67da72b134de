package condition

import (
	"math"
	"regexp"
	"strings"
	"sync"
)

// Text is a value in pieces, so that ":path" is compared without being built. Its
// strings may alias a read buffer.
type Text [4]string

// String returns the whole of it, for people.
func (t *Text) String() string { return strings.Join(t[:], "") }

// Len returns its length in bytes.
func (t *Text) Len() int { return len(t[0]) + len(t[1]) + len(t[2]) + len(t[3]) }

// From returns t without its first n bytes; n is at most its length.
func (t *Text) From(n int) Text {
	rest := *t
	for i := range rest {
		skip := min(n, len(rest[i]))
		rest[i] = rest[i][skip:]
		n -= skip
	}
	return rest
}

// HasPrefix tells whether it starts with want; fold ignores the case of ASCII letters.
func (t *Text) HasPrefix(want string, fold bool) bool {
	for _, piece := range t {
		if want == "" {
			return true
		}
		n := min(len(piece), len(want))
		if !equal(piece[:n], want[:n], fold) {
			return false
		}
		want = want[n:]
	}
	return want == ""
}

// Equals tells whether it is want; fold as of HasPrefix.
func (t *Text) Equals(want string, fold bool) bool {
	return t.Len() == len(want) && t.HasPrefix(want, fold)
}

// HasSuffix tells whether it ends with want; fold as of HasPrefix.
func (t *Text) HasSuffix(want string, fold bool) bool {
	n := t.Len() - len(want)
	if n < 0 {
		return false
	}
	end := t.From(n)
	return end.HasPrefix(want, fold)
}

// Contains tells whether want is in it; fold as of HasPrefix.
func (t *Text) Contains(want string, fold bool) bool {
	if want == "" {
		return true
	}
	before := 0
	for _, piece := range t {
		for i := range len(piece) {
			if !equal(piece[i:i+1], want[:1], fold) {
				continue
			}
			if rest := t.From(before + i); rest.HasPrefix(want, fold) {
				return true
			}
		}
		before += len(piece)
	}
	return false
}

// buffers are for regular expressions on values in several pieces.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 256); return &b }}

// Matches tells whether an expression matches it. Of one in several pieces it is
// matched on a copy from a pool.
func (t *Text) Matches(re *regexp.Regexp) bool {
	if t.Len() == len(t[0]) {
		return re.MatchString(t[0])
	}
	b := buffers.Get().(*[]byte)
	*b = (*b)[:0]
	for _, piece := range t {
		*b = append(*b, piece...)
	}
	ok := re.Match(*b)
	buffers.Put(b)
	return ok
}

// Integer reads the whole value as Envoy does: a decimal int64, spaces around
// it allowed. (strconv would allocate its error.) Values in several pieces
// begin with "/" and are no numbers.
func (t *Text) Integer() (int64, bool) {
	s := t[0]
	if t.Len() != len(s) {
		return 0, false
	}
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	for s != "" && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	negative := s != "" && s[0] == '-'
	if s != "" && (s[0] == '-' || s[0] == '+') {
		s = s[1:]
	}
	if s == "" {
		return 0, false
	}
	var n int64 // negative, whose range is one larger
	for i := range len(s) {
		d := int64(s[i]) - '0'
		if d < 0 || d > 9 || n < (math.MinInt64+d)/10 {
			return 0, false
		}
		n = n*10 - d
	}
	if negative {
		return n, true
	}
	return -n, n != math.MinInt64
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// equal compares strings of the same length; fold ignores the case of ASCII
// letters, as Envoy's ignore_case does.
func equal(a, b string, fold bool) bool {
	if !fold || a == b {
		return a == b
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
