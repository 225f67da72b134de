package ads

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/dubway/dubway/l7proxy/xds"
)

// TestBlind: what came first does not hold while the listeners were not told, however long
// that takes: nothing would be steered by it. Later they are those that hold.
func TestBlind(t *testing.T) {
	s, err := New(Options{
		Server: "127.0.0.1:1", Node: Node{ID: "sidecar~198.18.1.20~a.shop~shop.svc.cluster.local"}, Path: filepath.Join(t.TempDir(), "kept"), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	one := &stream{source: s, missing: make(map[string]names)}
	one.miss(xds.TypeRoute, "a")
	if one.blind() {
		t.Error("for a route that is missing nothing holds")
	}
	one.miss(xds.TypeListener, all)
	if !one.blind() {
		t.Error("without listeners the rest holds")
	}
	one.found(xds.TypeListener, all)
	if one.blind() {
		t.Error("with listeners nothing holds")
	}
	one.miss(xds.TypeListener, all)
	s.Publish()
	if one.blind() {
		t.Error("the listeners that hold do not count")
	}
}
