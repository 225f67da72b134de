package stale

import (
	"strings"
	"testing"
)

// TestNames: what could not be read has a name, and none is too long for a list.
func TestNames(t *testing.T) {
	var s List
	s.Count(Key{Interface: strings.Repeat("x", 5000)}).Add()
	s.Count(Key{}).Add()
	if len(s.All()) != 2 || s.Total() != 2 {
		t.Errorf("%+v is listed", s.All())
	}
	for _, a := range s.All() {
		if a.Key.Interface == "" || len(a.Key.Interface) > maxName {
			t.Errorf("interface %q", a.Key.Interface)
		}
	}
}
