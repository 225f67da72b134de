package table

import (
	"fmt"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/internal/handoff"
)

// Parts puts the parts of a generation together. Not for concurrent use.
type Parts struct {
	next *Generation // nil between generations
}

// Add takes the next part, and returns the generation with its last one; nil before.
// What no proxy says is an error.
func (p *Parts) Add(d *handoff.Destinations) (*Generation, error) {
	if p.next == nil {
		p.next = &Generation{Table: datapath.Table{Number: d.Table, Generation: d.Generation}}
	}
	g := p.next
	if g.Number != d.Table || g.Generation != d.Generation {
		return nil, fmt.Errorf("receive destinations: part of generation %d of table %d within %d of table %d",
			d.Generation, d.Table, g.Generation, g.Number)
	}
	if n := len(g.Destinations) + len(d.Entries); n > maxEntries {
		return nil, fmt.Errorf("receive destinations: more than %d entries", maxEntries)
	}
	if n := len(g.Workloads) + len(d.Workloads); n > maxWorkloads {
		return nil, fmt.Errorf("receive destinations: more than %d workloads", maxWorkloads)
	}
	g.Workloads = append(g.Workloads, d.Workloads...)
	for _, e := range d.Entries {
		g.Destinations = append(g.Destinations, datapath.Destination{Prefix: e.Prefix, Port: e.Port, Lane: e.Lane})
	}
	if !d.Last {
		return nil, nil
	}
	p.next = nil
	g.Unknown = unknownOf(d.Unknown)
	return g, nil
}

func unknownOf(u handoff.Unknown) datapath.Unknown {
	switch u {
	case handoff.UnknownCount:
		return datapath.CountUnknown
	case handoff.UnknownRefuse:
		return datapath.RefuseUnknown
	case handoff.UnknownPass:
	}
	return datapath.PassUnknown
}
