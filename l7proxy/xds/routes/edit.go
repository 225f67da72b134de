package routes

import (
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/fields"
)

// The operators of Envoy's format that have a meaning here, and the one of ours.
var operators = map[string]snapshot.PieceKind{
	"REQ":                                    snapshot.PieceRequest,
	"DOWNSTREAM_REMOTE_ADDRESS":              snapshot.PieceRemote,
	"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": snapshot.PieceRemoteIP,
	"DOWNSTREAM_LOCAL_ADDRESS":               snapshot.PieceLocal,
	"DUBWAY_SOURCE":                          snapshot.PieceSource,
}

// sourceFields are what DUBWAY_SOURCE tells of the consumer's workload.
var sourceFields = []string{"pod", "workload", "namespace", "service_account", "app", "version"}

// edited is a message with edits of request headers: a RouteConfiguration, a
// VirtualHost or a Route.
type edited interface {
	GetRequestHeadersToAdd() []*corev3.HeaderValueOption
	GetRequestHeadersToRemove() []string
}

// edits converts those of one message, in Envoy's order: what is removed goes first.
func edits(p *fields.Problems, path string, m edited) []snapshot.Edit {
	var out []snapshot.Edit
	if path != "" {
		path += "."
	}
	for i, name := range m.GetRequestHeadersToRemove() {
		checkName(p, fmt.Sprintf("%srequest_headers_to_remove[%d]", path, i), name)
		out = append(out, snapshot.Edit{Name: name, How: snapshot.EditRemove})
	}
	for i, o := range m.GetRequestHeadersToAdd() {
		at := fmt.Sprintf("%srequest_headers_to_add[%d]", path, i)
		text := o.GetHeader().GetValue()
		if raw := o.GetHeader().GetRawValue(); len(raw) > 0 {
			text = string(raw)
		}
		checkName(p, at+".header.key", o.GetHeader().GetKey())
		e := snapshot.Edit{
			Name: o.GetHeader().GetKey(), How: how(o), Value: pieces(p, at+".header.value", text),
		}
		if len(text) > 0 || o.GetKeepEmptyValue() {
			out = append(out, e)
		}
	}
	return out
}

// checkName refuses what is no attachment, or what the call would be another without.
func checkName(p *fields.Problems, path, name string) {
	switch {
	case name == "":
		p.Addf(path, "required")
	case strings.HasPrefix(name, ":"):
		p.Addf(path, "%q: a Dubbo request has no such attribute", name)
	case slices.Contains([]string{"path", "interface", "method", "version"}, name):
		p.Addf(path, "%q: the call itself is not changed", name)
	}
}

func how(o *corev3.HeaderValueOption) snapshot.EditHow {
	if a := o.GetAppend(); a != nil && !a.GetValue() { // deprecated, and sent by istiod
		return snapshot.EditSet
	}
	switch o.GetAppendAction() {
	case corev3.HeaderValueOption_ADD_IF_ABSENT:
		return snapshot.EditAdd
	case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
		return snapshot.EditSet
	case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS:
		return snapshot.EditReplace
	case corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
	}
	return snapshot.EditAppend
}

// pieces reads a value in Envoy's format: text, %% for a %, and %OPERATOR(argument)%.
func pieces(p *fields.Problems, path, text string) []snapshot.Piece {
	var out []snapshot.Piece
	add := func(s string) {
		if n := len(out); n > 0 && out[n-1].Kind == snapshot.PieceText {
			out[n-1].Text += s
		} else if s != "" {
			out = append(out, snapshot.Piece{Text: s})
		}
	}
	for text != "" {
		before, rest, found := strings.Cut(text, "%")
		add(before)
		if !found {
			break
		}
		inside, after, closed := strings.Cut(rest, "%")
		text = after
		switch {
		case !closed:
			p.Addf(path, "a %% that begins no operator is written %%%%")
			return nil
		case inside == "":
			add("%")
			continue
		}
		if piece, ok := operator(p, path, inside); ok {
			out = append(out, piece)
		}
	}
	return out
}

func operator(p *fields.Problems, path, text string) (snapshot.Piece, bool) {
	name, argument, has := strings.Cut(text, "(")
	kind, ok := operators[name]
	if has {
		var closed bool
		argument, closed = strings.CutSuffix(argument, ")")
		ok = ok && closed
	}
	wants := kind == snapshot.PieceRequest || kind == snapshot.PieceSource
	switch {
	case !ok, has != wants, wants && argument == "":
		p.Addf(path, "%%%s%%: not implemented", text)
	case kind == snapshot.PieceSource && !slices.Contains(sourceFields, argument):
		p.Addf(path, "%%%s%%: the field is one of %s", text, strings.Join(sourceFields, ", "))
	case kind == snapshot.PieceRequest && strings.ContainsAny(argument, "?:"):
		p.Addf(path, "%%%s%%: not implemented: only a name", text)
	default:
		return snapshot.Piece{Kind: kind, Text: argument}, true
	}
	return snapshot.Piece{}, false
}
