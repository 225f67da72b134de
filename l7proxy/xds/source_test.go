package xds

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// route is a file with one route configuration that leads to a cluster.
func route(name, cluster string) string {
	return fmt.Sprintf(`resources:
- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: %s
  virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: v%s}}]}]
`, name, cluster)
}

// listener is a file with one opaque listener.
func listener(name, address, cluster string) string {
	return fmt.Sprintf(`resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: %s
  address: {socket_address: {address: %s, port_value: 20880}}
  filter_chains:
  - filters:
    - name: tcp
      typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: x, cluster: %s}
`, name, address, cluster)
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	temporary := filepath.Join(dir, ".new")
	if err := os.WriteFile(temporary, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temporary, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// routeFile prints what a snapshot's route configurations lead to.
func routeFile(s *snapshot.Snapshot) string {
	var list []string
	for _, name := range []string{"a", "b", "c"} {
		if r := s.Routes[name]; r != nil {
			list = append(list, name+">"+strings.TrimPrefix(r.VirtualHosts[0].Routes[0].Action.Clusters[0].Cluster, "v"))
		}
	}
	return strings.Join(list, " ")
}

// step is one change of the directory and what follows from it.
type step struct {
	what     string
	change   func(t *testing.T, dir string)
	routes   string
	rejected string // kind name field, of each
	same     bool   // no snapshot is published
}

// TestLastGoodStays goes through the life of a directory.
func TestLastGoodStays(t *testing.T) {
	steps := []step{
		{what: "two files", routes: "a>1 b>1", change: func(t *testing.T, dir string) {
			write(t, dir, "a.yaml", route("a", "1"))
			write(t, dir, "b.yaml", route("b", "1"))
		}},
		{what: "nothing changed", routes: "a>1 b>1", same: true, change: func(*testing.T, string) {}},
		{what: "the same text again", routes: "a>1 b>1", same: true, change: func(t *testing.T, dir string) { write(t, dir, "a.yaml", route("a", "1")) }},
		{what: "another order of words", routes: "a>1 b>1", same: true, change: func(t *testing.T, dir string) { write(t, dir, "a.yaml", "# a comment\n"+route("a", "1")) }},
		{what: "one changes", routes: "a>2 b>1", change: func(t *testing.T, dir string) { write(t, dir, "a.yaml", route("a", "2")) }},
		{what: "a bad version, beside a good change", routes: "a>2 b>2", rejected: "RouteConfiguration a virtual_hosts[0].routes[0].route.hedge_policy",
			change: func(t *testing.T, dir string) {
				write(t, dir, "a.yaml", route("a", "3, hedge_policy: {}"))
				write(t, dir, "b.yaml", route("b", "2"))
			}},
		{what: "the bad one moves to another file", routes: "a>2 b>2", same: true, rejected: "RouteConfiguration a virtual_hosts[0].routes[0].route.hedge_policy",
			change: func(t *testing.T, dir string) {
				if err := os.Rename(filepath.Join(dir, "a.yaml"), filepath.Join(dir, "c.yaml")); err != nil {
					t.Fatal(err)
				}
			}},
		{what: "that file breaks", routes: "a>2 b>2", same: true, rejected: "File c.yaml ", change: func(t *testing.T, dir string) { write(t, dir, "c.yaml", "resources: [") }},
		{what: "good again", routes: "a>4 b>2", change: func(t *testing.T, dir string) { write(t, dir, "c.yaml", route("a", "4")) }},
		{what: "an empty file", routes: "a>4 b>2", same: true, rejected: "File b.yaml ", change: func(t *testing.T, dir string) { write(t, dir, "b.yaml", "\n# nothing\n") }},
		{what: "a misspelt response", routes: "a>4 b>2", same: true, rejected: "File b.yaml resource", change: func(t *testing.T, dir string) { write(t, dir, "b.yaml", "resource: []") }},
		{what: "an entry without a type", routes: "a>4 b>2", same: true, rejected: "File b.yaml resources[0]", change: func(t *testing.T, dir string) { write(t, dir, "b.yaml", "resources: [{name: b}]") }},
		{what: "a key twice", routes: "a>4 b>2", same: true, rejected: "File b.yaml ", change: func(t *testing.T, dir string) { write(t, dir, "b.yaml", "resources: []\nresources: []") }},
		{what: "a directory in a file's place", routes: "a>4 b>2", same: true, rejected: "", change: func(t *testing.T, dir string) {
			if err := os.Mkdir(filepath.Join(dir, "d.yaml"), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, dir, "b.yaml", route("b", "2"))
		}},
		{what: "a link to nowhere", routes: "a>4 b>2", same: true, rejected: "File b.yaml ", change: func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, "b.yaml"))
			if err := os.Symlink("nowhere", filepath.Join(dir, "b.yaml")); err != nil {
				t.Fatal(err)
			}
		}},
		{what: "a name twice: the first file's", routes: "a>5 b>4", rejected: "RouteConfiguration a name", change: func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, "b.yaml"))
			write(t, dir, "b.yaml", route("b", "4"))
			write(t, dir, "a.yaml", route("a", "5"))
		}},
		{what: "the first file goes: the other's, untouched", routes: "a>4 b>4", change: func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "a.yaml")) }},
		{what: "the first file comes again", routes: "a>5 b>4", rejected: "RouteConfiguration a name", change: func(t *testing.T, dir string) { write(t, dir, "a.yaml", route("a", "5")) }},
		{what: "an explicit nothing", routes: "a>5", change: func(t *testing.T, dir string) {
			write(t, dir, "b.yaml", "resources: []")
			write(t, dir, "c.yaml", "resources: []")
		}},
		{what: "what is removed goes", routes: "", change: func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "a.yaml")) }},
	}
	dir := t.TempDir()
	s := NewSource(dir, slog.New(slog.DiscardHandler))
	var published []uint64
	s.OnChange(func(n *snapshot.Snapshot) {
		if s.Snapshot() != n {
			t.Error("OnChange comes before Snapshot")
		}
		published = append(published, n.Generation)
	})
	for _, step := range steps {
		t.Run(step.what, func(t *testing.T) {
			before := len(published)
			step.change(t, dir)
			s.Reload()
			if got := routeFile(s.Snapshot()); got != step.routes {
				t.Errorf("routes %q, want %q", got, step.routes)
			}
			if got := brief(s.Rejections()); got != step.rejected {
				t.Errorf("rejected %q, want %q", got, step.rejected)
			}
			if same := len(published) == before; same != step.same {
				t.Errorf("published nothing: %t, want %t", same, step.same)
			}
		})
	}
	for i, g := range published {
		if g != uint64(i+1) {
			t.Errorf("generations %v", published)
			break
		}
	}
	stats := s.Stats()
	if stats.Reloads != uint64(len(steps)) || stats.Published != uint64(len(published)) || stats.Rejections == 0 || len(stats.Resources) != 0 {
		t.Errorf("stats %+v", stats)
	}
}

func brief(rejected []Rejection) string {
	var list []string
	for _, r := range rejected {
		list = append(list, r.Kind+" "+r.Name+" "+r.Field)
	}
	return strings.Join(list, "; ")
}

// TestAddressesAreExclusive moves two listeners over each other's address.
func TestAddressesAreExclusive(t *testing.T) {
	dir := t.TempDir()
	s := NewSource(dir, slog.New(slog.DiscardHandler))
	check := func(want, rejected string) {
		t.Helper()
		s.Reload()
		var list []string
		for _, l := range s.Snapshot().Listeners {
			list = append(list, l.Name+"@"+l.Prefix.Addr().String())
		}
		if got := strings.Join(list, " "); got != want {
			t.Errorf("listeners %q, want %q", got, want)
		}
		if got := brief(s.Rejections()); got != rejected {
			t.Errorf("rejected %q, want %q", got, rejected)
		}
	}
	write(t, dir, "a.yaml", listener("a", "10.0.0.1", "x"))
	write(t, dir, "b.yaml", listener("b", "10.0.0.2", "x"))
	check("a@10.0.0.1 b@10.0.0.2", "")
	write(t, dir, "b.yaml", listener("b", "10.0.0.1", "x"))
	check("a@10.0.0.1 b@10.0.0.2", "Listener b address")
	write(t, dir, "a.yaml", listener("a", "10.0.0.2", "x"))
	check("a@10.0.0.2 b@10.0.0.1", "")
	write(t, dir, "a.yaml", listener("a", "10.0.0.1", "x"))
	write(t, dir, "b.yaml", listener("b", "127.0.0.1", "x"))
	check("a@10.0.0.1", "Listener b address.socket_address.address; Listener b address")
}

// TestDirectoryGone keeps everything while the directory cannot be read.
func TestDirectoryGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "xds")
	s := NewSource(dir, slog.New(slog.DiscardHandler))
	if s.Snapshot() == nil || s.Snapshot().Generation != 0 {
		t.Fatal("no empty snapshot before the first reload")
	}
	s.Reload()
	if s.Snapshot().Generation != 1 || brief(s.Rejections()) != "File xds " {
		t.Errorf("generation %d, rejected %q", s.Snapshot().Generation, brief(s.Rejections()))
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "a.yaml", route("a", "1"))
	s.Reload()
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	s.Reload()
	if got := routeFile(s.Snapshot()); got != "a>1" || brief(s.Rejections()) != "File xds " {
		t.Errorf("routes %q, rejected %q", got, brief(s.Rejections()))
	}
}

// TestSharedWithOlderSnapshots changes what a published snapshot refers to.
func TestSharedWithOlderSnapshots(t *testing.T) {
	dir := t.TempDir()
	s := NewSource(dir, slog.New(slog.DiscardHandler))
	text := func(route, address string) string {
		return fmt.Sprintf(`
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: l
  address: {socket_address: {address: 10.0.0.1, port_value: 20880}}
  filter_chains:
  - filters:
    - name: hcm
      typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: x, rds: {route_config_name: a}}
- {"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: c, type: EDS, eds_cluster_config: {}}
- "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
  cluster_name: c
  endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: 1}}}}]}]
- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: a
  virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: v%s}}]}]
`, address, route)
	}
	write(t, dir, "x.yaml", text("1", "10.0.1.1"))
	s.Reload()
	first := s.Snapshot()
	printed := dump(first)
	write(t, dir, "x.yaml", text("2", "10.0.1.2"))
	s.Reload()
	second := s.Snapshot()
	if dump(first) != printed {
		t.Error("a published snapshot changed")
	}
	if second.Listeners[0].Route != second.Routes["a"] || second.Routes["a"] == first.Routes["a"] {
		t.Error("the listener does not lead to its new route configuration")
	}
	if got := second.Clusters["c"].Localities[0].Endpoints[0].Address.String(); got != "10.0.1.2:1" {
		t.Errorf("endpoint %s", got)
	}
}

// running starts a Source of dir and returns its snapshots.
func running(t *testing.T, dir string) (*Source, <-chan *snapshot.Snapshot) {
	t.Helper()
	return runningAt(t, dir, times{quiet, patience, poll})
}

func runningAt(t *testing.T, dir string, at times) (*Source, <-chan *snapshot.Snapshot) {
	t.Helper()
	s := NewSource(dir, slog.New(slog.DiscardHandler))
	s.times = at
	changes := make(chan *snapshot.Snapshot, 100)
	s.OnChange(func(n *snapshot.Snapshot) { changes <- n })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("Run does not end")
		}
	})
	return s, changes
}

// expect waits until a snapshot has these routes; every one before it must be
// among those of between.
func expect(t *testing.T, changes <-chan *snapshot.Snapshot, want string, between ...string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case n := <-changes:
			got := routeFile(n)
			if got == want {
				return
			}
			if !slices.Contains(between, got) {
				t.Errorf("while waiting for %q: %q", want, got)
			}
		case <-deadline:
			t.Fatalf("no snapshot with %q", want)
		}
	}
}

func TestWatchRename(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", route("a", "1"))
	_, changes := runningAt(t, dir, times{quiet, patience, time.Hour}) // an event tells
	expect(t, changes, "a>1")
	write(t, dir, "a.yaml", route("a", "2"))
	expect(t, changes, "a>2")
	remove(t, filepath.Join(dir, "a.yaml"))
	expect(t, changes, "")
}

// TestWatchWriteInPlace truncates and writes in steps, as an editor may.
func TestWatchWriteInPlace(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", route("a", "1"))
	_, changes := runningAt(t, dir, times{time.Second, time.Hour, time.Hour}) // longer than a step may take
	expect(t, changes, "a>1")
	f, err := os.Create(filepath.Join(dir, "a.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := route("a", "2")
	for i := 0; i < len(text); i += 40 {
		if _, err := f.WriteString(text[i:min(i+40, len(text))]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(quiet / 10)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, changes, "a>2")
}

// TestWatchConfigMap swaps the link ..data, as kubelet does: two files change
// as one.
func TestWatchConfigMap(t *testing.T) {
	dir := t.TempDir()
	version := func(n string) string {
		v := filepath.Join(dir, "..v"+n)
		if err := os.Mkdir(v, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, v, "a.yaml", route("a", n))
		write(t, v, "b.yaml", route("b", n))
		return "..v" + n
	}
	link(t, version("1"), filepath.Join(dir, "..data"))
	link(t, "..data/a.yaml", filepath.Join(dir, "a.yaml"))
	link(t, "..data/b.yaml", filepath.Join(dir, "b.yaml"))
	_, changes := running(t, dir)
	expect(t, changes, "a>1 b>1")
	for _, n := range []string{"2", "3"} {
		link(t, version(n), filepath.Join(dir, "..data"))
		expect(t, changes, "a>"+n+" b>"+n)
	}
}

// TestWatchLinkedDirectory swaps the directory itself.
func TestWatchLinkedDirectory(t *testing.T) {
	base := t.TempDir()
	for _, n := range []string{"1", "2"} {
		if err := os.Mkdir(filepath.Join(base, n), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(base, n), "a.yaml", route("a", n))
	}
	dir := filepath.Join(base, "xds")
	link(t, "1", dir)
	_, changes := running(t, dir)
	expect(t, changes, "a>1")
	link(t, "2", dir)
	expect(t, changes, "a>2")
	write(t, filepath.Join(base, "2"), "a.yaml", route("a", "3"))
	expect(t, changes, "a>3")
}

// TestWatchLateDirectory starts before the directory exists, and has it made
// anew.
func TestWatchLateDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "xds")
	_, changes := running(t, dir)
	expect(t, changes, "")
	for _, n := range []string{"1", "2"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, dir, "a.yaml", route("a", n))
		expect(t, changes, "a>"+n, "") // it may be seen while it is empty
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * quiet)
	}
}

// TestWatchLinkedFile edits a file that is only linked: no event comes, polling
// finds it.
func TestWatchLinkedFile(t *testing.T) {
	elsewhere, dir := t.TempDir(), t.TempDir()
	write(t, elsewhere, "a.yaml", route("a", "1"))
	link(t, filepath.Join(elsewhere, "a.yaml"), filepath.Join(dir, "a.yaml"))
	_, changes := running(t, dir)
	expect(t, changes, "a>1")
	write(t, elsewhere, "a.yaml", route("a", "2"))
	expect(t, changes, "a>2")
}

// link makes or replaces a symbolic link in one step.
func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestLoadPaths(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", route("a", "1"))
	write(t, dir, "b.conf", route("b", "1"))
	write(t, dir, "c.json", `{"@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "name": "c", "virtualHosts": [{"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "v1"}}]}]}`)
	s, rejected := Load([]string{dir, filepath.Join(dir, "b.conf"), filepath.Join(dir, "a.yaml")})
	if got := routeFile(s); got != "a>1 b>1 c>1" || len(rejected) > 0 {
		t.Errorf("routes %q, rejected %v", got, rejected)
	}
	missing := Check([]string{filepath.Join(dir, "missing.yaml")})
	if brief(missing) != "File missing.yaml " || !strings.Contains(missing[0].Reason, "no such file") {
		t.Errorf("rejected %v", missing)
	}
}
