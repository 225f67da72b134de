package plan

import (
	"strings"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/edit"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// hows are snapshot's ways to change an attachment, in its order.
var hows = [...]edit.How{
	snapshot.EditSet: edit.Set, snapshot.EditAppend: edit.Append, snapshot.EditAdd: edit.Add,
	snapshot.EditReplace: edit.Replace, snapshot.EditRemove: edit.Remove,
}

// Edited returns the frame of the request of the last Edge with the changes that its
// route makes: the frame itself if there are none, or if its attachments cannot be
// read.
func (p *Planner) Edited(frame []byte) []byte {
	if len(p.edits) == 0 {
		return frame
	}
	h, err := p.protocol.Frames.ParseHeader(frame)
	if err != nil {
		return frame
	}
	prefix, state := p.protocol.Requests.Prefix(h, frame[h.Head:])
	if state != codec.Complete {
		return frame
	}
	p.open(h, frame[h.Head:], prefix)
	edits := make([]edit.Edit, len(p.edits))
	for i := range p.edits {
		e := &p.edits[i]
		edits[i] = edit.Edit{Name: e.Name, How: hows[e.How], Value: p.value(e.Value, prefix)}
	}
	out, err := p.body.AppendEdited(make([]byte, 0, len(frame)+64*len(edits)), frame, edits...)
	if err != nil {
		return frame
	}
	return out
}

// value concatenates the pieces of an attachment's new value. What is not there is
// nothing.
func (p *Planner) value(pieces []snapshot.Piece, prefix codec.Prefix) string {
	if len(pieces) == 1 && pieces[0].Kind == snapshot.PieceText {
		return pieces[0].Text
	}
	var b strings.Builder
	for _, piece := range pieces {
		switch piece.Kind {
		case snapshot.PieceText:
			b.WriteString(piece.Text)
		case snapshot.PieceRequest:
			b.WriteString(p.asked(piece.Text, prefix))
		case snapshot.PieceRemote:
			b.WriteString(p.source.Remote.String())
		case snapshot.PieceRemoteIP:
			b.WriteString(p.source.Remote.Addr().String())
		case snapshot.PieceLocal:
			b.WriteString(p.source.Original.String())
		case snapshot.PieceSource:
			b.WriteString(field(p.source.Workload.Peer, piece.Text))
		}
	}
	return b.String()
}

// asked is an attribute of the opened request.
func (p *Planner) asked(name string, prefix codec.Prefix) string {
	switch name {
	case "interface":
		return prefix.Path
	case "method":
		return prefix.Method
	case "version":
		return prefix.Version
	}
	value, _, _ := p.body.Lookup(name) // what cannot be read is not changed either
	return value
}

func field(peer *rpc.Peer, name string) string {
	switch name {
	case "pod":
		return peer.Pod
	case "workload":
		return peer.Workload
	case "namespace":
		return peer.Namespace
	case "service_account":
		return peer.ServiceAccount
	case "app":
		return peer.App
	}
	return peer.Version
}

// attemptAttachment says how often the mesh has sent a request, from the second time
// on.
const attemptAttachment = "dubway-attempt"

// Marked returns a frame, which is the caller's own, as try n of its request.
func (p *Planner) Marked(frame []byte, n string) []byte {
	before := p.edits
	p.edits = []snapshot.Edit{{Name: attemptAttachment, Value: []snapshot.Piece{{Text: n}}}}
	out := p.Edited(frame)
	p.edits = before
	return out
}
