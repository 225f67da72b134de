// Package reports converts what a filter chain says of telemetry: Istio's stats filter and
// access logs, into the plain data of package report. Pure functions from messages to
// what they mean, with everything that is wrong noted; which fields may be set is the
// table of package fields. It counts nothing and writes nothing.
package reports

import (
	"crypto/sha256"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"weak"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// Chain gathers what the filters of one chain say. The zero value says nothing.
type Chain struct {
	stats []placed[*anypb.Any]
	logs  []placed[*accesslogv3.AccessLog]
	rules report.Rules
}

// placed is something at a path.
type placed[T any] struct {
	path string
	what T
}

// Stats adds the configuration of a stats filter at path.
func (c *Chain) Stats(path string, config *anypb.Any) {
	c.stats = append(c.stats, placed[*anypb.Any]{path, config})
}

// Logs adds the access logs at path.
func (c *Chain) Logs(path string, list []*accesslogv3.AccessLog) {
	for i, l := range list {
		c.logs = append(c.logs, placed[*accesslogv3.AccessLog]{fmt.Sprintf("%s[%d]", path, i), l})
	}
}

// Rules returns what the chain says; nil if it says nothing, or if a problem was added.
// Chains that say the same share one: a control plane says it to each of its listeners.
func (c *Chain) Rules(p *problems.List) *report.Rules {
	if len(c.stats)+len(c.logs) == 0 {
		return nil
	}
	key, ok := c.sum()
	if known := shared.get(key); ok && known != nil {
		return known
	}
	before := len(*p)
	for _, s := range c.stats {
		c.metrics(p, s.path, s.what)
	}
	for _, l := range c.logs {
		c.log(p, l.path, l.what)
	}
	if len(*p) > before || c.rules.Metrics == nil && c.rules.Log == nil {
		return nil
	}
	made := c.rules
	if ok {
		shared.put(key, &made)
	}
	return &made
}

// sum is of everything that the chain says; false if it cannot be told.
func (c *Chain) sum() (sum [sha256.Size]byte, ok bool) {
	h := sha256.New()
	add := func(m proto.Message) {
		text, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		ok = ok && err == nil
		_, _ = fmt.Fprintf(h, "%d %s", len(text), text) // a sum takes everything
	}
	ok = true
	for _, s := range c.stats {
		add(s.what)
	}
	_, _ = io.WriteString(h, "logs ")
	for _, l := range c.logs {
		add(l.what)
	}
	h.Sum(sum[:0])
	return sum, ok
}

// shared has what is in use. It is of the whole program, as equal bytes mean the same in
// every view.
var shared sharing

type sharing struct {
	mu  sync.Mutex
	all map[[sha256.Size]byte]weak.Pointer[report.Rules]
}

func (s *sharing) get(key [sha256.Size]byte) *report.Rules {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[key].Value()
}

func (s *sharing) put(key [sha256.Size]byte, made *report.Rules) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[[sha256.Size]byte]weak.Pointer[report.Rules])
	}
	s.all[key] = weak.Make(made)
	runtime.AddCleanup(made, s.forget, key)
}

// forget drops one that nobody uses, unless another has its place.
func (s *sharing) forget(key [sha256.Size]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[key].Value() == nil {
		delete(s.all, key)
	}
}

// number returns the place of an attribute among those whose values are labels.
func (c *Chain) number(attribute string) int {
	if at := slices.Index(c.rules.Labels, attribute); at >= 0 {
		return at
	}
	c.rules.Labels = append(c.rules.Labels, attribute)
	return len(c.rules.Labels) - 1
}
