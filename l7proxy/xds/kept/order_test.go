package kept

import (
	"slices"
	"testing"

	"github.com/dubway/dubway/l7proxy/xds/shelf"
)

// TestOrder: what a Store may hold can be kept, of every type.
func TestOrder(t *testing.T) {
	for _, typ := range shelf.Types {
		if !slices.Contains(order, typ) {
			t.Errorf("%s is in no part", typ)
		}
	}
	if len(order) != len(shelf.Types) {
		t.Errorf("%d types in order, a Store has %d", len(order), len(shelf.Types))
	}
}
