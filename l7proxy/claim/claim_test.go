package claim

import "testing"

func TestClaim(t *testing.T) {
	var c Claim[string, int]
	if !c.Free("a") || c.Alone() != "" {
		t.Error("a new connection is somebody's")
	}
	if !c.Use("a", 1) || !c.Use("a", 2) {
		t.Error("its only user may not use it")
	}
	if only, want := c.Only(); only != "a" || want != 1 {
		t.Errorf("the only user is %q for %d, want a for its first use", only, want)
	}
	if !c.Free("a") || c.Free("b") {
		t.Error("it is free for its only user, and for no other")
	}
	if !c.Use("b", 3) {
		t.Error("a connection that is nobody's is not shared")
	}
	if only, _ := c.Only(); only != "" || c.Free("a") || c.Free("b") {
		t.Error("a peer forgets none of its users")
	}
	c = Of[string, int]("a")
	if !c.Use("a", 1) || c.Use("b", 1) || c.Free("a") || c.Alone() != "a" {
		t.Error("what is one's alone is used by another, or claimed twice")
	}
	c = Shared[string, int]()
	if !c.Use("a", 1) || c.Free("a") {
		t.Error("what was shared becomes one's alone")
	}
}
