package xds

import (
	"github.com/dubway/dubway/l7proxy/snapshot/table"
	"github.com/dubway/dubway/l7proxy/xds/shelf"
)

// Library has what became of resources, each once, for all Stores of a process: views of
// one mesh are mostly the same. A cluster that is equal in two of them, with its endpoints,
// is one object in their snapshots. What no Store and no snapshot holds any more goes. The
// zero Library is empty; it is safe for concurrent use.
type Library struct {
	shelf    shelf.Shelf
	versions table.Pool[string, string]
	claims   table.Pool[claim, string]
	names    table.Lists[string]
}

// Len returns how many objects there are that a Store or a snapshot holds.
func (l *Library) Len() int { return l.shelf.Len() + l.versions.Len() + l.claims.Len() + l.names.Len() }

// AskedAs is how a control plane is asked for a route configuration that a listener names.
func AskedAs(route string) string { return shelf.AskedAs(route) }
