package plan

import (
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/phrase"
	"github.com/dubway/dubway/l7proxy/postscript"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// Edited returns the frame of the request of the last Edge with the changes that its
// route makes, and with the context of its span, which may be nil: the frame itself if
// there are none, or if its attachments cannot be read.
func (p *Planner) Edited(frame []byte, span rpc.Span) []byte {
	if len(p.edits) == 0 && span == nil {
		return frame
	}
	of, ok := p.facts(frame)
	if !ok {
		return frame
	}
	of.Span = span
	edits := phrase.Request(p.edits, &of)
	out, err := p.body.AppendEdited(make([]byte, 0, len(frame)+64*len(edits)), frame, edits...)
	switch {
	case err == nil:
		return out
	case span != nil && len(p.edits) > 0:
		return p.Edited(frame, nil) // what carries the context cannot be changed
	}
	return frame
}

// Span begins the span of the request of the last Edge, whose frame this is; nil: it is
// not sampled. Of a workload that is only observed nothing may change, and none is.
func (p *Planner) Span(frame []byte) rpc.Span {
	if p.listener == nil || !p.listener.Tracing.On() || p.observed || p.env.Tracer == nil {
		return nil
	}
	of, ok := p.facts(frame)
	if !ok {
		return nil
	}
	return p.env.Tracer.Begin(p.listener.Tracing, of.Body, p.source.Inbound, snapshot.Draw(p.random, p.lead.Span))
}

// facts are those of a request by its frame, which is opened; false if it cannot be.
func (p *Planner) facts(frame []byte) (of phrase.Facts, ok bool) {
	of = phrase.Facts{Consumer: p.source.Workload.Peer, Remote: p.source.Remote, Original: p.source.Original}
	h, err := p.protocol.Frames.ParseHeader(frame)
	if err != nil {
		return of, false
	}
	prefix, state := p.protocol.Requests.Prefix(h, frame[h.Head:])
	if state != codec.Complete {
		return of, false
	}
	p.open(h, frame[h.Head:], prefix)
	of.Prefix, of.Body = prefix, p.body
	return of, true
}

// Answers returns what becomes of the answer to the request of the last Edge, whose
// frame this is; nil: it stays as it is.
func (p *Planner) Answers(e *upstream.Edge, frame []byte) *postscript.Edits {
	if e.Answers == nil || !e.Answers.Asks {
		return e.Answers
	}
	of, _ := p.facts(frame)
	of.Call, of.Reads = e.Remote, e.Answers.Reads
	return phrase.Answer(p.answers, &of)
}

// answersOf is what becomes of the answers by an edge, as far as it is the same for all.
func (p *Planner) answersOf(pl *plan, e *upstream.Edge) *postscript.Edits {
	return phrase.Answer(p.answers, &phrase.Facts{
		Prefix:   codec.Prefix{Path: pl.iface, Method: pl.method, Version: pl.version},
		Consumer: p.source.Workload.Peer, Remote: p.source.Remote, Original: p.source.Original,
		Call: e.Remote, Reads: pl.attached,
	})
}

// attemptAttachment says how often the mesh has sent a request, from the second time
// on.
const attemptAttachment = "dubway-attempt"

// Marked returns a frame, which is the caller's own, as try n of its request.
func (p *Planner) Marked(frame []byte, n string) []byte {
	before := p.edits
	p.edits = []snapshot.Edit{{Name: attemptAttachment, Value: []snapshot.Piece{{Text: n}}}}
	out := p.Edited(frame, nil)
	p.edits = before
	return out
}
