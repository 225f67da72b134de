package tap

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry/accesslog"
)

// filter tells which requests a reader wants: those that meet every condition
// that is set.
type filter struct {
	namespace, pod    string // of the consumer or of the provider
	iface, method     pattern
	exception         pattern
	statuses, results map[uint8]bool // nil: any
	slower            time.Duration
}

// pattern is a name, or one with a * at its beginning or end. The empty one
// matches everything.
type pattern string

func (p pattern) matches(name string) bool {
	text := string(p)
	if text == "" || text == name {
		return true
	}
	suffix, begins := strings.CutPrefix(text, "*")
	prefix, ends := strings.CutSuffix(text, "*")
	switch {
	case begins && ends:
		return len(text) == 1 || strings.Contains(name, text[1:len(text)-1])
	case begins:
		return strings.HasSuffix(name, suffix)
	case ends:
		return strings.HasPrefix(name, prefix)
	}
	return false
}

// compile reads a filter as an operator gave it.
func compile(q *admin.TapFilter) (*filter, error) {
	f := &filter{iface: pattern(q.Interface), method: pattern(q.Method), exception: pattern(q.Exception)}
	f.pod = q.Pod
	if namespace, pod, ok := strings.Cut(q.Pod, "/"); ok {
		f.namespace, f.pod = namespace, pod
	}
	var err error
	if f.statuses, err = numbers(q.Statuses, "status", statusOf); err != nil {
		return nil, err
	}
	if f.results, err = numbers(q.Results, "result", resultOf); err != nil {
		return nil, err
	}
	if q.SlowerThan != "" {
		if f.slower, err = time.ParseDuration(q.SlowerThan); err != nil {
			return nil, fmt.Errorf("read slowerThan: %w", err)
		}
	}
	return f, nil
}

// numbers reads a list of names; none means any.
func numbers(names []string, what string, read func(string) (uint8, bool)) (map[uint8]bool, error) {
	if len(names) == 0 {
		return nil, nil
	}
	found := make(map[uint8]bool, len(names))
	for _, name := range names {
		n, ok := read(name)
		if !ok {
			return nil, fmt.Errorf("no %s is called %q", what, name)
		}
		found[n] = true
	}
	return found, nil
}

// statusOf reads a Dubbo status by name, or by number: providers may send any.
func statusOf(name string) (uint8, bool) {
	if n, err := strconv.ParseUint(name, 10, 8); err == nil {
		return uint8(n), true
	}
	for n := 1; n < 256; n++ {
		if got := accesslog.StatusName(uint8(n)); got == name && got != accesslog.Unknown {
			return uint8(n), true
		}
	}
	return 0, false
}

func resultOf(name string) (uint8, bool) {
	for n := range rpc.Results {
		if rpc.Result(n).String() == name {
			return uint8(n), true
		}
	}
	return 0, false
}

// call tells whether requests of a call can match at all.
func (f *filter) call(c *rpc.Call) bool {
	return f.iface.matches(c.Interface) && f.method.matches(c.Method) && (f.pod == "" || f.peer(c.Source) || f.peer(c.Destination))
}

func (f *filter) peer(p *rpc.Peer) bool {
	return p != nil && p.Pod == f.pod && (f.namespace == "" || p.Namespace == f.namespace)
}

// record tells whether a request that ended matches.
func (f *filter) record(rec *rpc.Record) bool {
	switch {
	case f.statuses != nil && !f.statuses[rec.Status],
		f.results != nil && !f.results[uint8(rec.Result)],
		f.slower > 0 && rec.Duration <= f.slower,
		f.exception != "" && (rec.Exception == "" || !f.exception.matches(rec.Exception)):
		return false
	}
	return f.call(rec.Call)
}
