package router

import (
	"strings"

	"github.com/dubway/dubway/l7proxy/condition"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// miss tells why a route does not match: the path, or a header by its index.
type miss int

const (
	matches  miss = -1 - iota
	missPath      // the path differs
	missUnread
)

// matcher compares one request with routes.
type matcher struct {
	req    *rpc.Request
	values condition.Values
}

func newMatcher(req *rpc.Request) matcher {
	return matcher{req: req, values: condition.ValuesOf(req)}
}

// check compares the request with a route's path and headers.
func (m *matcher) check(want *snapshot.Match) miss {
	if m.req.Undecodable {
		if !isDefault(want) {
			return missUnread
		}
	} else if !m.pathMatches(want) {
		return missPath
	}
	for i := range want.Headers {
		h := &want.Headers[i]
		if m.req.Undecodable && h.AsksNothing() {
			continue
		}
		if !m.values.Matches(h) {
			return miss(i)
		}
	}
	return matches
}

// isDefault tells whether a route asks for nothing that is in the request's
// body. An inverted condition asks too: what is unknown is not absent.
func isDefault(want *snapshot.Match) bool {
	if want.PathKind != snapshot.PathPrefix || strings.TrimPrefix(want.Path, "/") != "" {
		return false
	}
	for i := range want.Headers {
		if h := &want.Headers[i]; !h.AsksNothing() && (h.Source != snapshot.SourceName || h.Name != ":authority" && h.Name != ":method") {
			return false
		}
	}
	return true
}

func (m *matcher) pathMatches(want *snapshot.Match) bool {
	p, fold := m.values.Path(), want.IgnoreCase
	switch want.PathKind {
	case snapshot.PathPrefix:
		return p.HasPrefix(want.Path, fold)
	case snapshot.PathExact:
		return p.Equals(want.Path, fold)
	case snapshot.PathRegex:
		return p.Matches(want.PathRegex)
	case snapshot.PathSeparatedPrefix:
		if !p.HasPrefix(want.Path, fold) {
			return false
		}
		rest := p.From(len(want.Path))
		return rest.Len() == 0 || rest.HasPrefix("/", false)
	}
	return false
}
