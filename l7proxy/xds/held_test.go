package xds

import (
	"log/slog"
	"slices"
	"testing"
)

// TestFilesHeld: of files, what holds is listed as it stands in them, and nothing else: no
// rejected resource, and none that has changed since.
func TestFilesHeld(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", route("a", "1"))
	write(t, dir, "b.yaml", route("b", "1"))
	write(t, dir, "c.yaml", listener("l", "10.0.0.1", "x"))
	write(t, dir, "d.yaml", listener("m", "10.0.0.1", "x")) // the address is taken
	s := NewSource(dir, slog.New(slog.DiscardHandler))
	s.Reload()
	write(t, dir, "b.yaml", route("b", "2")) // nobody has read it yet
	var got []string
	for typ, r := range s.Held() {
		if typ != r.Body.GetTypeUrl() {
			t.Errorf("%s is listed as a %s", r.Body.GetTypeUrl(), typ)
		}
		got = append(got, keyOf(typ, "").kind+" "+r.Name)
	}
	if want := []string{"Listener l", "RouteConfiguration a"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
