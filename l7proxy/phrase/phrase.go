// Package phrase works out the values that a route's edits give attachments, from what
// is known of a request, its consumer and its provider. It reads and changes no frame.
package phrase

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/edit"
	"github.com/dubway/dubway/l7proxy/postscript"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Facts are what values are made of. What is not there is nothing.
type Facts struct {
	Prefix           codec.Prefix
	Body             codec.Body // of the request; nil: its attachments are not known
	Consumer         *rpc.Peer
	Remote, Original netip.AddrPort // the consumer, and what it dialled
	Span             rpc.Span       // of a request that is sampled
	// Of answers: the way that the request went, and whether its consumer reads answers
	// with attachments.
	Call  *rpc.Call
	Reads bool
}

// hows are snapshot's ways to change an attachment, in its order.
var hows = [...]edit.How{
	snapshot.EditSet: edit.Set, snapshot.EditAppend: edit.Append, snapshot.EditAdd: edit.Add,
	snapshot.EditReplace: edit.Replace, snapshot.EditRemove: edit.Remove,
}

// Request returns a route's edits of a request, and behind them those by which it tells
// its provider of its span. The values may alias its body.
func Request(list []snapshot.Edit, of *Facts) []edit.Edit {
	edits := make([]edit.Edit, 0, len(list)+1)
	for i := range list {
		e := &list[i]
		edits = append(edits, edit.Edit{Name: e.Name, How: hows[e.How], Value: value(e.Value, of)})
	}
	if of.Span != nil {
		for name, value := range of.Span.Context() {
			edits = append(edits, edit.Edit{Name: name, How: edit.Set, Value: value})
		}
	}
	return edits
}

// Answer returns a route's edits of answers, as far as they can be told before there is
// one; nil if there are none.
func Answer(list []snapshot.Edit, of *Facts) *postscript.Edits {
	if len(list) == 0 {
		return nil
	}
	out := &postscript.Edits{Reads: of.Reads, List: make([]postscript.Edit, len(list))}
	for i := range list {
		e := &list[i]
		out.Asks = out.Asks || slices.ContainsFunc(e.Value, func(p snapshot.Piece) bool { return p.Own() })
		out.List[i] = postscript.Edit{Name: e.Name, How: hows[e.How], Parts: parts(e.Value, of)}
	}
	return out
}

// parts joins what lies between attachments of the answer itself.
func parts(pieces []snapshot.Piece, of *Facts) (list []postscript.Part) {
	asked := func(p snapshot.Piece) bool { return p.Kind == snapshot.PieceAnswer }
	for len(pieces) > 0 {
		if asked(pieces[0]) {
			list = append(list, postscript.Part{Text: pieces[0].Text, Asked: true})
			pieces = pieces[1:]
			continue
		}
		n := slices.IndexFunc(pieces, asked)
		if n < 0 {
			n = len(pieces)
		}
		// It outlives the request's frame.
		list = append(list, postscript.Part{Text: strings.Clone(value(pieces[:n], of))})
		pieces = pieces[n:]
	}
	return list
}

// value concatenates the pieces of an attachment's new value.
func value(pieces []snapshot.Piece, of *Facts) string {
	if len(pieces) == 1 {
		return text(&pieces[0], of)
	}
	var b strings.Builder
	for i := range pieces {
		b.WriteString(text(&pieces[i], of))
	}
	return b.String()
}

func text(piece *snapshot.Piece, of *Facts) string {
	switch piece.Kind {
	case snapshot.PieceText:
		return piece.Text
	case snapshot.PieceRequest:
		return asked(piece, of)
	case snapshot.PieceRemote:
		return of.Remote.String()
	case snapshot.PieceRemoteIP:
		return of.Remote.Addr().String()
	case snapshot.PieceLocal:
		return of.Original.String()
	case snapshot.PieceSource:
		return field(of.Consumer, piece.Text)
	case snapshot.PieceUpstream:
		return of.Call.Endpoint.String()
	case snapshot.PieceUpstreamIP:
		return of.Call.Endpoint.Addr().String()
	case snapshot.PieceCluster:
		return of.Call.Cluster
	case snapshot.PieceRoute:
		return of.Call.Route
	case snapshot.PieceDestination:
		return field(of.Call.Destination, piece.Text)
	case snapshot.PieceAnswer: // known when it comes
	}
	return ""
}

// asked is an attribute of the request.
func asked(piece *snapshot.Piece, of *Facts) string {
	switch piece.Text {
	case "interface":
		return of.Prefix.Path
	case "method":
		return of.Prefix.Method
	case "version":
		return of.Prefix.Version
	}
	if of.Body == nil {
		return ""
	}
	value, _, _ := of.Body.Lookup(piece.Text) // what cannot be read is not changed either
	return value
}

// field is one of a workload; nothing of one that is not known.
func field(peer *rpc.Peer, name string) string {
	if peer == nil {
		return ""
	}
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
