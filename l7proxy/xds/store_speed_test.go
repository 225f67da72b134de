package xds

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"
)

// perService is the endpoints of each service of a mesh.
const perService = 5

// mesh is services as istiod sends them: a listener and a route configuration for the port
// that is named dubbo, a cluster and its endpoints. The rest of what a sidecar gets is
// left out.
func mesh(tb testing.TB, services int) []Update {
	tb.Helper()
	var all []Update
	for _, kind := range []string{"clusters", "endpoints", "listeners", "routes"} {
		text, err := os.ReadFile("testdata/istiod/plain-name-dubbo/" + kind + ".json")
		if err != nil {
			tb.Fatal(err)
		}
		u := Update{}
		for _, one := range sent(tb, text) {
			if r := one.Changed[0]; strings.Contains(r.Name, "20880") {
				u.Type = one.Type
				for i := range services {
					u.Changed = append(u.Changed, service(tb, one.Type, r, i))
				}
			}
		}
		all = append(all, u)
	}
	return all
}

// service is a resource of the recorded service, as one of the service at an index. Names
// and addresses are as long as the recorded ones, so that no length changes.
func service(tb testing.TB, typ string, r Resource, index int) Resource {
	tb.Helper()
	if typ == TypeEndpoint {
		return assigned(tb, index, 1)
	}
	edit := strings.NewReplacer("provider", fmt.Sprintf("s%07d", index), "198.19.0.20", vip(index))
	body := proto.CloneOf(r.Body)
	body.Value = []byte(edit.Replace(string(body.GetValue())))
	return Resource{Name: edit.Replace(r.Name), Body: body}
}

func vip(index int) string {
	return fmt.Sprintf("%d.19.%d.%d", 150+index/900, index/90%10, 10+index%90)
}

// assigned is the endpoints of the service at an index; weight is that of the first.
func assigned(tb testing.TB, index int, weight uint32) Resource {
	tb.Helper()
	text, err := os.ReadFile("testdata/istiod/plain-name-dubbo/endpoints.json")
	if err != nil {
		tb.Fatal(err)
	}
	m := new(endpointv3.ClusterLoadAssignment)
	recorded := sent(tb, text)[0].Changed[0]
	if err := recorded.Body.UnmarshalTo(m); err != nil {
		tb.Fatal(err)
	}
	m.ClusterName = strings.ReplaceAll(m.GetClusterName(), "provider", fmt.Sprintf("s%07d", index))
	group := m.GetEndpoints()[0]
	first := group.GetLbEndpoints()[0]
	group.LbEndpoints = nil
	for i := range perService {
		e := proto.CloneOf(first)
		at := index*perService + i
		e.GetEndpoint().GetAddress().GetSocketAddress().Address = fmt.Sprintf("10.%d.%d.%d", at>>16, at>>8&255, at&255)
		if e.GetLoadBalancingWeight().Value = 1; i == 0 {
			e.GetLoadBalancingWeight().Value = weight
		}
		group.LbEndpoints = append(group.GetLbEndpoints(), e)
	}
	m.Endpoints = m.GetEndpoints()[:1]
	return Resource{Name: m.GetClusterName(), Body: pack(tb, m)}
}

// live is the bytes of the heap that are in use.
func live() uint64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// received is updates as another stream would bring them: bytes of their own.
func received(all []Update) []Update {
	var again []Update
	for _, u := range all {
		one := Update{Type: u.Type}
		for _, r := range u.Changed {
			one.Changed = append(one.Changed, Resource{Name: strings.Clone(r.Name), Version: r.Version, Body: proto.CloneOf(r.Body)})
		}
		again = append(again, one)
	}
	return again
}

func newStore(library *Library) *Store {
	return NewStore(library, "test", netip.Addr{}, slog.New(slog.DiscardHandler))
}

// holding is Stores of one Library that have taken the same.
func holding(n int, all []Update) []*Store {
	library := new(Library)
	var stores []*Store
	for range n {
		s := newStore(library)
		for _, u := range received(all) {
			s.Take(u)
		}
		s.Publish()
		stores = append(stores, s)
	}
	return stores
}

// BenchmarkStore is what a mesh costs: taken the first time, one of its endpoints changed,
// and the heap that Stores of the same mesh need together.
func BenchmarkStore(b *testing.B) {
	for _, services := range []int{1_000, 10_000} {
		all := mesh(b, services)
		b.Run(fmt.Sprintf("first/%d", services), func(b *testing.B) {
			for b.Loop() {
				s := newStore(new(Library))
				for _, u := range all {
					if rejected := s.Take(u); len(rejected) > 0 {
						b.Fatalf("%d are rejected: %+v", len(rejected), rejected[0])
					}
				}
				s.Publish()
			}
		})
		b.Run(fmt.Sprintf("endpoint/%d", services), func(b *testing.B) {
			s := newStore(new(Library))
			for _, u := range all {
				s.Take(u)
			}
			s.Publish()
			weight := uint32(1)
			var changes []Resource
			for range 10 {
				weight++
				changes = append(changes, assigned(b, services/2, weight))
			}
			i := 0
			for b.Loop() {
				s.Take(Update{Type: TypeEndpoint, Changed: changes[i%10 : i%10+1]})
				s.Publish()
				i++
			}
			if s.Snapshot().Generation < 2 {
				b.Fatal("nothing was published")
			}
		})
		for _, stores := range []int{1, 10, 50} {
			b.Run(fmt.Sprintf("heap/%d/stores=%d", services, stores), func(b *testing.B) {
				before := live()
				for b.Loop() {
					held := holding(stores, all)
					b.ReportMetric(float64(live()-before), "heap-bytes")
					runtime.KeepAlive(held)
				}
			})
		}
	}
}
