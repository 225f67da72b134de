package scenario

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// subscribed is what a consumer saw that subscribed on one connection and called
// on another.
type subscribed struct {
	Provider  string         // where it subscribed
	Elsewhere int            // later calls of that connection that went elsewhere
	Called    int64          // callbacks, with their bytes intact
	Stats     callbackStats  // the provider's
	ReadOnly  bool           // the consumer was told
	After     map[string]int // the other connection's calls by provider, behind READONLY
	Pending   byte           // status of what was pending when the provider closed
	Ended     bool           // the subscriber's connection, behind that
	Again     int64          // callbacks after a new subscription
	Errors    []string
}

type callbackStats struct{ Callbacks, CallbacksFailed int64 }

// news is what is published: small, and too large to be held whole.
func news(size int) []byte { return bytes.Repeat([]byte("news_"), size/5) }

const (
	smallNews, largeNews = 1 << 10, 600 << 10
	published            = 50 + 5 // small and large
)

// subscriber is one connection that a provider calls back.
type subscriber struct {
	*dubbotest.Client

	result *subscribed
	called atomic.Int64
}

func newSubscriber(target string, result *subscribed) (*subscriber, error) {
	c, err := dubbotest.Dial(target)
	if err != nil {
		return nil, err
	}
	s := &subscriber{Client: c, result: result}
	c.OnCall(func(data []byte) []byte {
		if bytes.Equal(data, news(smallNews)) || bytes.Equal(data, news(largeNews)) {
			s.called.Add(1)
		}
		return data
	})
	a := s.ask(dubbotest.Request{Method: "subscribe", Attachments: map[string]string{dubbotest.CallbackAttachment: "1"}}, nil)
	result.Provider = a.Provider
	return s, nil
}

// ask calls, and notes what is no value of the provider where it subscribed.
func (s *subscriber) ask(r dubbotest.Request, data []byte) dubbotest.Answer {
	a, err := s.Call(r, data, 30*time.Second)
	if err != nil || a.Status != dubbotest.StatusOK {
		s.result.Errors = append(s.result.Errors, fmt.Sprint(r.Method, ": ", a.Error, err))
	}
	if s.result.Provider != "" && a.Provider != s.result.Provider {
		s.result.Elsewhere++
	}
	return a
}

// publish makes the provider call back and waits until it has all answers.
func (s *subscriber) publish() (stats callbackStats) {
	before := s.called.Load()
	s.ask(dubbotest.Request{Method: "notify50"}, news(smallNews))
	s.ask(dubbotest.Request{Method: "notify5"}, news(largeNews))
	for end := time.Now().Add(time.Minute); s.called.Load() < before+published && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	for range 1000 {
		_ = json.Unmarshal(s.ask(dubbotest.Request{Method: "stats"}, nil).Value, &stats)
		if stats.Callbacks+stats.CallbacksFailed >= s.called.Load() {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return stats
}

func subscribing(args []string) error {
	var target string
	if err := json.Unmarshal([]byte(args[1]), &target); err != nil {
		return err
	}
	result := subscribed{After: map[string]int{}}
	other, err := dubbotest.Dial(target)
	if err != nil {
		return err
	}
	others := func() {
		for range 20 {
			a, err := other.Call(dubbotest.Request{}, []byte("x"), 30*time.Second)
			if err != nil {
				result.Errors = append(result.Errors, err.Error())
			}
			result.After[a.Provider]++
		}
	}
	others() // both providers have a connection that is shared
	s, err := newSubscriber(target, &result)
	if err != nil {
		return err
	}
	for range 30 {
		s.ask(dubbotest.Request{}, []byte("x"))
	}
	result.Stats = s.publish()

	s.ask(dubbotest.Request{Method: "readonly"}, nil)
	// It is told on every connection, and heard on each by itself: until then calls
	// take turns.
	for elsewhere, n := 0, 0; elsewhere < 2 && n < 1000; n++ {
		a, _ := other.Call(dubbotest.Request{}, []byte("x"), 30*time.Second)
		if elsewhere++; a.Provider == result.Provider {
			elsewhere = 0
		}
	}
	clear(result.After)
	others()
	s.ask(dubbotest.Request{}, []byte("x"))
	select {
	case <-s.ReadOnly:
		result.ReadOnly = true
	default:
	}
	result.Called = s.called.Load()
	a, _ := s.Call(dubbotest.Request{Method: "close"}, nil, 30*time.Second)
	result.Pending = a.Status
	for end := time.Now().Add(time.Minute); !result.Ended && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		_, err := s.Call(dubbotest.Request{}, nil, 30*time.Second)
		result.Ended = err != nil
	}

	var again subscribed
	if s, err = newSubscriber(target, &again); err != nil {
		return err
	}
	s.publish()
	result.Again = s.called.Load()
	result.Errors = append(result.Errors, again.Errors...)
	result.Elsewhere += again.Elsewhere
	return say(args[0], result)
}

// TestCallbacks: a provider calls one connection of its consumer back, which
// stays with it; another connection of the same pod is balanced, and leaves a
// provider that is about to stop.
func TestCallbacks(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.put(routed{
		addresses: []string{vip4}, routes: split(map[string]int{"echo": 1}),
		clusters: map[string][]netip.AddrPort{"echo": {v1.Addr(20880), v2.Addr(20880)}},
	})
	_, proxy := m.start(consumer, v1, v2)
	if r := m.subscribes(consumer); r.After[r.Provider] != 0 {
		t.Errorf("behind READONLY of %s the other connection's calls went to %v", r.Provider, r.After)
	}
	m.counted(`dubway_callbacks_total{`, 2*published, `outcome="answered"`)
	m.counted(`dubway_callbacks_total{`, 0, `outcome="refused"`)
	m.counted(`istio_requests_total{`, 2, `reporter="source"`, `dubbo_method="subscribe"`)
	m.eventually("two log lines", func() bool { return strings.Count(proxy.Output(), `"dubbo_method":"subscribe"`) == 2 })
}

// subscribes runs the subscriber and wants all of its callbacks, and nothing else.
func (m *mesh) subscribes(consumer *testnet.Pod) (r subscribed) {
	t := m.t
	t.Helper()
	m.launch(consumer, "subscribe", vip4+":20880")(&r)
	if len(r.Errors) > 0 || r.Elsewhere > 0 || r.Provider == "" {
		t.Errorf("subscribed at %q, %d calls went elsewhere, errors %v", r.Provider, r.Elsewhere, r.Errors)
	}
	if r.Called != published || r.Stats.Callbacks != published || r.Stats.CallbacksFailed != 0 {
		t.Errorf("%d callbacks came, the provider says %+v; want %d", r.Called, r.Stats, published)
	}
	if r.ReadOnly {
		t.Error("the consumer was told READONLY")
	}
	if r.After["v1"]+r.After["v2"] != 20 {
		t.Errorf("behind READONLY of %s the other connection's calls went to %v", r.Provider, r.After)
	}
	if r.Pending != 80 || !r.Ended {
		t.Errorf("when the provider closed: status %d for what was pending, ended %v", r.Pending, r.Ended)
	}
	if r.Again != published {
		t.Errorf("%d callbacks after a new subscription, want %d", r.Again, published)
	}
	return r
}

// TestCallbacksOverTwoNodes: the same with the consumer on one node and the providers
// on another. Each node's proxy keeps the two connections together, and counts. That a
// provider is READONLY is told to its consumers' nodes, a moment later.
func TestCallbacksOverTwoNodes(t *testing.T) {
	near, far := newMesh(t), newNode(t, "sc2", 2)
	near.must(testnet.Link(near.Node, far.Node))
	consumer := near.pod("consumer")
	v1, v2 := far.pod("provider-1", 20880), far.pod("provider-2", 20880)
	far.provider(v1, "v1")
	far.provider(v2, "v2")
	service := routed{
		addresses: []string{vip4}, routes: split(map[string]int{"echo": 1}),
		clusters: map[string][]netip.AddrPort{"echo": {v1.Addr(20880), v2.Addr(20880)}},
	}
	near.put(service)
	far.put(service)
	_, source := near.start(consumer)
	_, destination := far.start(v1, v2)
	if r := near.subscribes(consumer); r.After[r.Provider] > 3 {
		t.Errorf("behind READONLY of %s the other connection's calls went to %v", r.Provider, r.After)
	}
	for side, m := range map[string]*mesh{"source": near, "destination": far} {
		m.counted(`dubway_callbacks_total{`, 2*published, `outcome="answered"`)
		m.counted(`dubway_callbacks_total{`, 0, `outcome="refused"`)
		m.counted(`istio_requests_total{`, 2, `reporter="`+side+`"`, `dubbo_method="subscribe"`)
	}
	for side, proxy := range map[string]*testnet.Process{"source": source, "destination": destination} {
		near.eventually("two log lines of the "+side, func() bool { return strings.Count(proxy.Output(), `"dubbo_method":"subscribe"`) == 2 })
	}
}
