package plan

import (
	"strings"

	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/edit"
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
	h, err := dubbo.ParseHeader(frame)
	if err != nil {
		return frame
	}
	prefix, state := dubbo.ParsePrefix(h.Serialization(), frame[dubbo.HeaderLen:])
	if state != dubbo.Complete {
		return frame
	}
	p.open(h, frame[dubbo.HeaderLen:], prefix)
	edits := make([]edit.Edit, len(p.edits))
	for i := range p.edits {
		e := &p.edits[i]
		edits[i] = edit.Edit{Name: e.Name, How: hows[e.How], Value: p.value(e.Value, &told{prefix: prefix, own: true})}
	}
	out, err := p.body.AppendEdited(make([]byte, 0, len(frame)+64*len(edits)), frame, edits...)
	if err != nil {
		return frame
	}
	return out
}

// told is what values are made of beside the connection.
type told struct {
	prefix   dubbo.Prefix
	call     *rpc.Call // of an answer: the way that its request went
	own      bool      // the request's attachments can be asked for: it is open
	attached bool      // its consumer reads answers with attachments
}

// value concatenates the pieces of an attachment's new value. What is not there is
// nothing.
func (p *Planner) value(pieces []snapshot.Piece, of *told) string {
	if len(pieces) == 1 {
		return p.text(&pieces[0], of)
	}
	var b strings.Builder
	for i := range pieces {
		b.WriteString(p.text(&pieces[i], of))
	}
	return b.String()
}

func (p *Planner) text(piece *snapshot.Piece, of *told) string {
	switch piece.Kind {
	case snapshot.PieceText:
		return piece.Text
	case snapshot.PieceRequest:
		if piece.Own() && !of.own {
			return ""
		}
		return p.asked(piece.Text, of.prefix)
	case snapshot.PieceRemote:
		return p.source.Remote.String()
	case snapshot.PieceRemoteIP:
		return p.source.Remote.Addr().String()
	case snapshot.PieceLocal:
		return p.source.Original.String()
	case snapshot.PieceSource:
		return field(p.source.Workload.Peer, piece.Text)
	case snapshot.PieceUpstream:
		return of.call.Endpoint.String()
	case snapshot.PieceUpstreamIP:
		return of.call.Endpoint.Addr().String()
	case snapshot.PieceCluster:
		return of.call.Cluster
	case snapshot.PieceRoute:
		return of.call.Route
	case snapshot.PieceDestination:
		return field(of.call.Destination, piece.Text)
	case snapshot.PieceAnswer: // known when it comes
	}
	return ""
}

// asked is an attribute of the opened request.
func (p *Planner) asked(name string, prefix dubbo.Prefix) string {
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
