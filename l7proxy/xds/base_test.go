package xds

import (
	"log/slog"
	"net/netip"
)

func newStore(l *slog.Logger) *Store { return NewStore(new(Library), "x", netip.Addr{}, l) }

func heldBy(n int, all []Update) any {
	var list []*Store
	library := new(Library)
	for range n {
		s := NewStore(library, "x", netip.Addr{}, slog.New(slog.DiscardHandler))
		for _, u := range received(all) {
			s.Take(u)
		}
		s.Publish()
		list = append(list, s)
	}
	return list
}
