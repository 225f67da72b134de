package kept_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dubway/dubway/l7proxy/xds"
	"github.com/dubway/dubway/l7proxy/xds/kept"
)

// cluster is a cluster that differs by its time limit.
func cluster(t *testing.T, name string, limit time.Duration) xds.Resource {
	t.Helper()
	body, err := anypb.New(&clusterv3.Cluster{
		Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST},
		LbPolicy: clusterv3.Cluster_CLUSTER_PROVIDED, ConnectTimeout: durationpb.New(limit),
	})
	if err != nil {
		t.Fatal(err)
	}
	return xds.Resource{Name: name, Version: limit.String(), Body: body}
}

func store() *xds.Store {
	return xds.NewStore(new(xds.Library), "test", netip.Addr{}, slog.New(slog.DiscardHandler))
}

// view is a store of a mesh in which some clusters have changed.
func view(t *testing.T, changed ...int) *xds.Store {
	t.Helper()
	u := xds.Update{Type: xds.TypeCluster}
	for i := range 3000 {
		limit := time.Second
		if slices.Contains(changed, i) {
			limit = 2 * time.Second
		}
		u.Changed = append(u.Changed, cluster(t, fmt.Sprintf("cluster-%d", i), limit))
	}
	s := store()
	if rejected := s.Take(u); len(rejected) > 0 {
		t.Fatalf("rejected %+v", rejected[0])
	}
	return s
}

func parts(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*.part"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestShared: equal views are on disk once; a change is one part more, for the view that
// has it; what no view has goes, also what an earlier process left.
func TestShared(t *testing.T) {
	dir := t.TempDir()
	k := kept.In(dir)
	save := func(name string, s *xds.Store) {
		t.Helper()
		if err := k.Save(name, "me", s.Good()); err != nil {
			t.Fatal(err)
		}
	}
	save("a", view(t))
	whole := parts(t, dir)
	if len(whole) < 4 {
		t.Fatalf("3,000 clusters are %d parts", len(whole))
	}
	save("b", view(t))
	if got := parts(t, dir); !slices.Equal(got, whole) {
		t.Errorf("an equal view is %d parts more", len(got)-len(whole))
	}
	save("b", view(t, 7))
	if got := parts(t, dir); len(got) != len(whole)+1 {
		t.Errorf("another cluster in one view makes %d parts of %d", len(got), len(whole))
	}

	k = kept.In(dir) // the next process
	for name, want := range map[string]time.Duration{"a": time.Second, "b": 2 * time.Second} {
		s := store()
		some, err := k.Load(name, "me", func(u xds.Update) { s.Take(u) })
		if err != nil || !some {
			t.Fatalf("load %s: %t, %v", name, some, err)
		}
		s.Publish()
		if n := len(s.Snapshot().Clusters); n != 3000 {
			t.Errorf("view %s has %d clusters", name, n)
		}
		if got := s.Versions(xds.TypeCluster)["cluster-7"]; got != want.String() {
			t.Errorf("view %s has a cluster of %s, want %s", name, got, want)
		}
	}
	save("a", view(t, 7))
	if got := parts(t, dir); len(got) != len(whole) {
		t.Errorf("%d parts are kept of equal views, want %d", len(got), len(whole))
	}
	k.Forget("a")
	if got := parts(t, dir); len(got) != len(whole) {
		t.Errorf("%d parts are kept of one view, want %d", len(got), len(whole))
	}
	kept.In(dir).Sweep(nil)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("of no view %v is left, %v", left, err)
	}
}

// TestNothing: there is no view, or it is another's.
func TestNothing(t *testing.T) {
	k := kept.In(filepath.Join(t.TempDir(), "not", "there"))
	none := func(xds.Update) { t.Error("something is taken") }
	if some, err := k.Load("a", "me", none); some || err != nil {
		t.Errorf("load what is not there: %t, %v", some, err)
	}
	if err := k.Save("a", "me", view(t).Good()); err != nil {
		t.Fatal(err)
	}
	if some, err := k.Load("a", "you", none); some || err == nil {
		t.Errorf("load another's: %t, %v", some, err)
	}
}
