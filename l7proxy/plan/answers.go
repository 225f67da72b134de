package plan

import (
	"slices"
	"strings"

	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/postscript"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// Answers returns what becomes of the answer to the request of the last Edge, whose
// frame this is; nil: it stays as it is.
func (p *Planner) Answers(e *upstream.Edge, frame []byte) *postscript.Edits {
	if e.Answers == nil || !e.Answers.Asks {
		return e.Answers
	}
	of := told{call: e.Remote, attached: e.Answers.Reads}
	if h, err := dubbo.ParseHeader(frame); err == nil {
		var state dubbo.State
		if of.prefix, state = dubbo.ParsePrefix(h.Serialization(), frame[dubbo.HeaderLen:]); state == dubbo.Complete {
			p.open(h, frame[dubbo.HeaderLen:], of.prefix)
			of.own = true
		}
	}
	return p.compose(of)
}

// compose works out what becomes of answers, as far as it can be told.
func (p *Planner) compose(of told) *postscript.Edits {
	if len(p.answers) == 0 {
		return nil
	}
	out := &postscript.Edits{Reads: of.attached, List: make([]postscript.Edit, len(p.answers))}
	for i := range p.answers {
		e := &p.answers[i]
		out.Asks = out.Asks || slices.ContainsFunc(e.Value, func(piece snapshot.Piece) bool { return piece.Own() })
		out.List[i] = postscript.Edit{Name: e.Name, How: hows[e.How], Parts: p.parts(e.Value, &of)}
	}
	return out
}

// parts joins what lies between attachments of the answer itself.
func (p *Planner) parts(pieces []snapshot.Piece, of *told) []postscript.Part {
	parts := []postscript.Part{}
	for len(pieces) > 0 {
		if pieces[0].Kind == snapshot.PieceAnswer {
			parts = append(parts, postscript.Part{Text: pieces[0].Text, Asked: true})
			pieces = pieces[1:]
			continue
		}
		n := slices.IndexFunc(pieces, func(one snapshot.Piece) bool { return one.Kind == snapshot.PieceAnswer })
		if n < 0 {
			n = len(pieces)
		}
		// What is asked for outlives the request's frame.
		parts = append(parts, postscript.Part{Text: strings.Clone(p.value(pieces[:n], of))})
		pieces = pieces[n:]
	}
	return parts
}
