// Package claim tells whose a connection is that several may share. It knows no
// connection, and does not lock.
package claim

// Claim is the claims of owners on one connection, each with what it wants there.
// The zero Claim is nobody's; O's zero value is no owner.
type Claim[O comparable, W any] struct {
	alone O    // whose alone it is, for good
	only  O    // who alone has used it so far
	want  W    // of only's first use
	many  bool // several have; for good, because the peer does not forget
}

// Of is a connection that is owner's alone.
func Of[O comparable, W any](owner O) Claim[O, W] { return Claim[O, W]{alone: owner} }

// Shared is a connection that is nobody's alone any more.
func Shared[O comparable, W any]() Claim[O, W] { return Claim[O, W]{many: true} }

// Use notes a user; false if the connection is another's alone.
func (c *Claim[O, W]) Use(owner O, want W) bool {
	var none O
	switch {
	case c.alone != none:
		return c.alone == owner
	case c.many, c.only == owner:
	case c.only == none:
		c.only, c.want = owner, want
	default:
		*c = Shared[O, W]()
	}
	return true
}

// Free tells whether the connection may become owner's alone: no other has used it.
func (c *Claim[O, W]) Free(owner O) bool {
	var none O
	return !c.many && c.alone == none && (c.only == none || c.only == owner)
}

// Alone returns whose alone the connection is.
func (c *Claim[O, W]) Alone() O { return c.alone }

// Only returns who alone has used a connection that is nobody's, and what for.
func (c *Claim[O, W]) Only() (O, W) { return c.only, c.want }
