package views_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds"
	"github.com/dubway/dubway/l7proxy/xds/views"
)

// plane tells each pod of one cluster, whose name is the pod's node id without the address
// and the pod.
type plane struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	mu    sync.Mutex
	nodes []string // of the streams so far
	live  map[string]int
}

// DeltaAggregatedResources answers clusters, and nothing else.
func (p *plane) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	var node string
	for n := 0; ; n++ {
		r, err := s.Recv()
		if err != nil {
			p.mu.Lock()
			p.live[node]--
			p.mu.Unlock()
			return nil //nolint:nilerr // the client has gone
		}
		if n == 0 {
			node = r.GetNode().GetId()
			p.mu.Lock()
			p.nodes = append(p.nodes, node)
			p.live[node]++
			p.mu.Unlock()
		}
		if r.GetResponseNonce() != "" {
			continue
		}
		answer := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: r.GetTypeUrl(), Nonce: fmt.Sprint(n)}
		if r.GetTypeUrl() == xds.TypeCluster {
			c := &clusterv3.Cluster{Name: node[strings.LastIndexByte(node, '~')+1:]}
			body, err := anypb.New(c)
			if err != nil {
				return err
			}
			answer.Resources = []*discoveryv3.Resource{{Name: c.GetName(), Resource: body}}
		}
		if err := s.Send(answer); err != nil {
			return err
		}
	}
}

// asked returns the streams so far, and how many of each node are open.
func (p *plane) asked() ([]string, map[string]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	live := make(map[string]int)
	for node, n := range p.live {
		if n > 0 {
			live[node] = n
		}
	}
	return slices.Clone(p.nodes), live
}

// serve starts a control plane and returns its address and what ends it.
func serve(t *testing.T) (p *plane, address string, stop func()) {
	t.Helper()
	p = &plane{live: make(map[string]int)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, p)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return p, l.Addr().String(), server.Stop
}

// follow starts a Set, which calls changed.
func follow(t *testing.T, address, dir string, changed func()) (s *views.Set, stop func()) {
	t.Helper()
	s, err := views.New(views.Options{
		Server: address, Domain: "cluster.local", Locality: "r1/z1", Dir: dir, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.OnChange(changed)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(stop)
	return s, stop
}

func pod(n int, namespace string, labels ...string) *views.Workload {
	w := &views.Workload{
		UID: fmt.Sprintf("%s/%d", namespace, n), Name: fmt.Sprintf("pod-%d", n), Namespace: namespace, ServiceAccount: "default",
		Labels: make(map[string]string), Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}),
	}
	for _, l := range labels {
		k, v, _ := strings.Cut(l, "=")
		w.Labels[k] = v
	}
	return w
}

func node(w *views.Workload) string {
	return fmt.Sprintf("sidecar~%s~%s.%s~%s.svc.cluster.local", w.Address, w.Name, w.Namespace, w.Namespace)
}

func put(t *testing.T, s *views.Set, pods ...*views.Workload) {
	t.Helper()
	for _, w := range pods {
		if err := s.Put(w); err != nil {
			t.Fatal(err)
		}
	}
}

// sees returns what a workload is told: the names of its clusters, and its view.
func sees(s *views.Set, uid string) (string, *snapshot.View) {
	for _, v := range s.Seen() {
		if slices.Contains(v.Workloads, uid) {
			for name := range v.Snapshot.Clusters {
				return name, &v
			}
			return "", &v
		}
	}
	return "", nil
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waited in vain: %s", what)
}

// TestSharing: pods that differ only by what identifies them are asked for once, as one
// of them.
func TestSharing(t *testing.T) {
	p, address, _ := serve(t)
	changes := make(chan struct{}, 1000)
	s, _ := follow(t, address, t.TempDir(), func() { changes <- struct{}{} })
	for n := range 100 {
		put(t, s, pod(n+1, "shop", "app=db", fmt.Sprintf("apps.kubernetes.io/pod-index=%d", n),
			fmt.Sprintf("statefulset.kubernetes.io/pod-name=db-%d", n), "controller-revision-hash=1",
			fmt.Sprintf("batch.kubernetes.io/job-completion-index=%d", n), fmt.Sprintf("pod-template-hash=%d", n)))
	}
	other := pod(200, "shop", "app=web")
	account := pod(201, "shop", "app=db")
	account.ServiceAccount = "other"
	foreign := pod(202, "bank", "app=db")
	put(t, s, other, account, foreign)
	eventually(t, "what pods of both namespaces see", func() bool {
		mine, _ := sees(s, "shop/77")
		theirs, _ := sees(s, foreign.UID)
		return mine == "shop.svc.cluster.local" && theirs == "bank.svc.cluster.local"
	})
	eventually(t, "four streams", func() bool { return s.Totals().Connected == 4 })
	if nodes, _ := p.asked(); len(nodes) != 4 || len(s.Seen()) != 4 {
		t.Errorf("asked for %q, there are %d views", nodes, len(s.Seen()))
	}
	_, first := sees(s, "shop/1")
	_, last := sees(s, "shop/100")
	if first.Snapshot != last.Snapshot || len(first.Workloads) != 100 {
		t.Errorf("pods of a kind see different snapshots, or are in different views: %d", len(first.Workloads))
	}
	eventually(t, "somebody to be told", func() bool { return len(changes) > 0 })
}

// TestPosing: when the pod that a view is asked for goes, it is asked for another, and
// what its pods see stays as it is.
func TestPosing(t *testing.T) {
	p, address, _ := serve(t)
	s, _ := follow(t, address, t.TempDir(), func() {})
	a, b := pod(1, "shop"), pod(2, "shop")
	put(t, s, a, b)
	eventually(t, "the first stream", func() bool { _, live := p.asked(); return live[node(a)] == 1 && s.Totals().Connected == 1 })
	eventually(t, "what it says", func() bool { name, _ := sees(s, b.UID); return name != "" })
	_, before := sees(s, b.UID)
	s.Remove(a.UID)
	eventually(t, "the other pod's stream", func() bool { _, live := p.asked(); return len(live) == 1 && live[node(b)] == 1 })
	eventually(t, "its answer", func() bool { return s.Totals().Connected == 1 })
	if _, now := sees(s, b.UID); now == nil || now.Snapshot != before.Snapshot {
		t.Error("what the other pod sees has changed")
	}
	if name, _ := sees(s, a.UID); name != "" {
		t.Errorf("the pod that has gone sees %q", name)
	}
}

// TestMoving: a pod whose labels change sees another view, once that was told; until then
// it sees what it saw.
func TestMoving(t *testing.T) {
	_, address, _ := serve(t)
	s, _ := follow(t, address, t.TempDir(), func() {})
	put(t, s, pod(1, "shop", "version=v1"))
	eventually(t, "the first view", func() bool { name, _ := sees(s, "shop/1"); return name != "" })
	put(t, s, pod(1, "shop", "version=v2"))
	eventually(t, "the second view", func() bool {
		name, v := sees(s, "shop/1")
		if name == "" {
			t.Error("for a moment the pod sees nothing")
		}
		return v != nil && strings.HasSuffix(v.Key, "version=v2")
	})
	for _, v := range s.Seen() {
		if strings.HasSuffix(v.Key, "version=v1") && len(v.Workloads) > 0 {
			t.Errorf("and in %+v", v)
		}
	}
}

// TestKept: a proxy that is started while the control plane is away has what each view was
// told last.
func TestKept(t *testing.T) {
	_, address, away := serve(t)
	dir := t.TempDir()
	s, stop := follow(t, address, dir, func() {})
	put(t, s, pod(1, "shop"), pod(2, "bank"))
	eventually(t, "both views", func() bool {
		a, _ := sees(s, "shop/1")
		b, _ := sees(s, "bank/2")
		return a != "" && b != ""
	})
	stop()
	away()
	again, _ := follow(t, address, dir, func() {})
	put(t, again, pod(3, "shop"), pod(4, "bank"), pod(5, "other"))
	for uid, want := range map[string]string{"shop/3": "shop.svc.cluster.local", "bank/4": "bank.svc.cluster.local", "other/5": ""} {
		if got, _ := sees(again, uid); got != want {
			t.Errorf("%s sees %q, want %q", uid, got, want)
		}
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*.kept")); len(files) != 2 {
		t.Errorf("%d files are kept, want 2", len(files))
	}
}

// TestKeptElsewhere: views are kept in files of their own in a directory that is made.
func TestKeptElsewhere(t *testing.T) {
	_, address, _ := serve(t)
	dir := filepath.Join(t.TempDir(), "a", "b")
	s, stop := follow(t, address, dir, func() {})
	put(t, s, pod(1, "shop"))
	eventually(t, "the view", func() bool { name, _ := sees(s, "shop/1"); return name != "" })
	stop()
	if files, err := filepath.Glob(filepath.Join(dir, "*.kept")); err != nil || len(files) != 1 {
		t.Errorf("kept %v, %v", files, err)
	}
}

func TestNoAddress(t *testing.T) {
	_, address, _ := serve(t)
	s, _ := follow(t, address, t.TempDir(), func() {})
	w := pod(1, "shop")
	w.Address = netip.Addr{}
	if err := s.Put(w); err == nil || !strings.Contains(err.Error(), "no address") {
		t.Errorf("Put = %v", err)
	}
}
