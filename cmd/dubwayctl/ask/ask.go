// Package ask is what a command that asks one of the node's two processes takes from
// dubwayctl.
package ask

import (
	"context"

	"github.com/dubway/dubway/internal/admin"
)

// Params are whom a command asks, and how it answers.
type Params struct {
	Client func() *admin.Client // to be closed by whoever asked
	// Write writes a document, or the rows of its table, of which the first is the
	// heading.
	Write func(document any, rows [][]any) error
}

// Get asks one question; the answer goes into into.
func (p *Params) Get(ctx context.Context, path string, into any) error {
	client := p.Client()
	defer client.Close()
	return client.Get(ctx, path, into)
}

// Post says something, and asks what became of it.
func (p *Params) Post(ctx context.Context, path string, body, into any) error {
	client := p.Client()
	defer client.Close()
	return client.Post(ctx, path, body, into)
}
