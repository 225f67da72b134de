//go:build !race

package xds

import (
	"runtime"
	"testing"
)

// TestViewsShareHeap: ten equal views of 1,000 services are in memory as one is, and a
// little more. What is lost when an object stops being shared is seen here, whichever it is.
func TestViewsShareHeap(t *testing.T) {
	all := mesh(t, 1_000)
	heap := func(stores int) uint64 {
		before := live()
		held := holding(stores, all)
		after := live()
		runtime.KeepAlive(held)
		return after - min(before, after)
	}
	heap(1) // what is made once for the process
	one, ten := heap(1), heap(10)
	if one < 1<<20 {
		t.Fatalf("1,000 services are %d bytes: nothing is measured", one)
	}
	if ten > one*3/2 {
		t.Errorf("ten equal views need %d bytes, one %d: they do not share what they have in common", ten, one)
	}
}
