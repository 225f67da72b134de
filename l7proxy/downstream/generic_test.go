package downstream

import (
	"encoding/binary"
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/codec/hessian"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// genericCall is a two-way hessian2 call of $invoke that names a method and has
// one argument, a small number.
func genericCall(id uint64, method string, argument byte) []byte {
	body := []byte("\x052.0.2\x07org.x.S\x050.0.0\x07$invoke")
	body = hessian.AppendString(body, "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;")
	body = hessian.AppendString(body, method)
	body = append(body, "\x71\x07[string\x03int\x71\x07[object"...)
	return frameOf(id, append(body, 0x90+argument, 'H', 'Z'))
}

// call is a plain two-way call with one argument, a small number.
func call(id uint64, method string, argument byte) []byte {
	body := hessian.AppendString([]byte("\x052.0.2\x07org.x.S\x050.0.0"), method)
	return frameOf(id, append(body, 0x01, 'I', 0x90+argument, 'H', 'Z'))
}

func frameOf(id uint64, body []byte) []byte {
	f := binary.BigEndian.AppendUint64([]byte{0xda, 0xbb, twoWay, 0}, id)
	return append(binary.BigEndian.AppendUint32(f, uint32(len(body))), body...)
}

// methods counts records by method, generic or not, and route.
type methods struct {
	mu    sync.Mutex
	calls map[string]int
}

func (m *methods) Prepare(c *rpc.Call) rpc.Observer { return seen{m, c} }
func (m *methods) Connection(*rpc.Connection)       {}

func (m *methods) Value(_ *rpc.Peer, _, value string) string { return value }

type seen struct {
	m *methods
	c *rpc.Call
}

func (s seen) Observe(*rpc.Record) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.calls[fmt.Sprintf("%s generic=%v route=%s", s.c.Method, s.c.Generic, s.c.Route)]++
}

// TestGenericCalls: a generic call takes the route of the method that it names,
// by that method's arguments, and is counted as that method; whether the route
// may be remembered or not.
func TestGenericCalls(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	m := &methods{calls: make(map[string]int)}
	r.env.Recorder = m
	want := make(map[string]int)
	for _, static := range []bool{true, false} {
		r.route(static, map[string]snapshot.HeaderMatch{
			"1 echo": {Name: "method", Value: "echo"},
			"2 body": {Source: snapshot.SourceArgument, Index: 0, Value: "7"},
		})
		c := r.dial()
		for i, frame := range [][]byte{
			genericCall(1, "echo", 1), genericCall(2, "other", 1), genericCall(3, "echo", 7), genericCall(4, "other", 7),
			call(5, "echo", 1), call(6, "other", 1), call(7, "other", 7),
			genericCall(8, " echo", 1), // Java cuts the blank off: undecodable
		} {
			if _, err := c.Write(frame); err != nil {
				t.Fatal(err)
			}
			f, err := readFrame(c)
			if err != nil {
				t.Fatal(err)
			}
			if h, _ := dubbo.ParseHeader(f); h.ID != uint64(i+1) || h.Status != dubbo.StatusOK {
				t.Fatalf("request %d is answered by %d with status %d", i+1, h.ID, h.Status)
			}
		}
		for line, n := range map[string]int{
			"echo generic=true route=1 echo": 2, "echo generic=false route=1 echo": 1,
			"other generic=true route=2 body": 1, "other generic=true route=9": 1,
			"other generic=false route=2 body": 1, "other generic=false route=9": 1,
			" generic=false route=9": 1,
		} {
			if static {
				// The same without the rule for arguments.
				if line == "other generic=true route=2 body" || line == "other generic=false route=2 body" {
					line = line[:len(line)-len("2 body")] + "9"
				}
			}
			want[line] += n
		}
	}
	waitFor(t, "all records", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return maps.Equal(m.calls, want)
	})
}

// route publishes routes with one condition each, in the order of their names,
// before one for everything. A static table has those on names only.
func (r *rig) route(static bool, conditions map[string]snapshot.HeaderMatch) {
	s := *r.snap.Load()
	all := s.Routes["r"].VirtualHosts[0].Routes
	last := *all[len(all)-1]
	last.Name = "9"
	var routes []*snapshot.Route
	for _, name := range []string{"1 echo", "2 body"} {
		condition := conditions[name]
		if static && condition.Source != snapshot.SourceName {
			continue
		}
		one := last
		one.Name, one.Match.Headers = name, []snapshot.HeaderMatch{condition}
		routes = append(routes, &one)
	}
	table := &snapshot.RouteConfig{Name: "r", Static: static, VirtualHosts: []*snapshot.VirtualHost{{
		Name: "v", Domains: []string{"*"}, Routes: append(routes, &last),
	}}}
	l := *s.Listeners[0]
	l.Route = table
	s.Listeners, s.Routes = []*snapshot.Listener{&l}, map[string]*snapshot.RouteConfig{"r": table}
	s.Generation++
	r.snap.Store(s.Seal())
}
