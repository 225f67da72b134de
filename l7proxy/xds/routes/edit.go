package routes

import (
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// operator is one of Envoy's format that has a meaning here, or one of ours.
type operator struct {
	kind     snapshot.PieceKind
	argument argument
	answers  bool // it has a meaning in answers alone
}

// argument is what an operator wants between parentheses.
type argument uint8

const (
	argumentNone argument = iota
	argumentName
	argumentField // of a workload
)

var operators = map[string]operator{
	"REQ":                                    {snapshot.PieceRequest, argumentName, false},
	"DOWNSTREAM_REMOTE_ADDRESS":              {snapshot.PieceRemote, argumentNone, false},
	"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": {snapshot.PieceRemoteIP, argumentNone, false},
	"DOWNSTREAM_LOCAL_ADDRESS":               {snapshot.PieceLocal, argumentNone, false},
	"DUBWAY_SOURCE":                          {snapshot.PieceSource, argumentField, false},
	"RESP":                                   {snapshot.PieceAnswer, argumentName, true},
	"UPSTREAM_HOST":                          {snapshot.PieceUpstream, argumentNone, true},
	"UPSTREAM_REMOTE_ADDRESS":                {snapshot.PieceUpstream, argumentNone, true},
	"UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":   {snapshot.PieceUpstreamIP, argumentNone, true},
	"UPSTREAM_CLUSTER":                       {snapshot.PieceCluster, argumentNone, true},
	"ROUTE_NAME":                             {snapshot.PieceRoute, argumentNone, true},
	"DUBWAY_DESTINATION":                     {snapshot.PieceDestination, argumentField, true},
}

// workloadFields are what DUBWAY_SOURCE and DUBWAY_DESTINATION tell of a workload.
var workloadFields = []string{"pod", "workload", "namespace", "service_account", "app", "version"}

// edited is a message with edits of headers: a RouteConfiguration, a VirtualHost, a
// Route or a ClusterWeight.
type edited interface {
	GetRequestHeadersToAdd() []*corev3.HeaderValueOption
	GetRequestHeadersToRemove() []string
	GetResponseHeadersToAdd() []*corev3.HeaderValueOption
	GetResponseHeadersToRemove() []string
}

// edits converts those of one message.
func edits(p *problems.List, path string, m edited) snapshot.Edits {
	if path != "" {
		path += "."
	}
	requests := side{p, path + "request_headers_to_", false}
	answers := side{p, path + "response_headers_to_", true}
	return snapshot.Edits{
		Requests: requests.edits(m.GetRequestHeadersToRemove(), m.GetRequestHeadersToAdd()),
		Answers:  answers.edits(m.GetResponseHeadersToRemove(), m.GetResponseHeadersToAdd()),
	}
}

// joined puts lists of edits one behind the other.
func joined(lists ...snapshot.Edits) (all snapshot.Edits) {
	for _, l := range lists {
		all.Requests, all.Answers = append(all.Requests, l.Requests...), append(all.Answers, l.Answers...)
	}
	return all
}

// shape gives an action the edits that hold for all of it, behind those of its clusters.
func shape(a *snapshot.Action, all snapshot.Edits) {
	a.Edits, a.Answers = all.Requests, all.Answers
	for i := range a.Clusters {
		if own := a.Clusters[i].Edits; own != nil {
			*own = joined(*own, all)
		}
	}
}

// needsWhole tells whether an action's edits need requests whole.
func needsWhole(a *snapshot.Action) bool {
	needs := func(e snapshot.Edits) bool {
		return len(e.Requests) > 0 || slices.ContainsFunc(e.Answers, func(one snapshot.Edit) bool {
			return slices.ContainsFunc(one.Value, func(p snapshot.Piece) bool { return p.Own() })
		})
	}
	return needs(snapshot.Edits{Requests: a.Edits, Answers: a.Answers}) ||
		slices.ContainsFunc(a.Clusters, func(c snapshot.WeightedCluster) bool { return c.Edits != nil && needs(*c.Edits) })
}

// side is one direction of a message's edits.
type side struct {
	*problems.List

	path    string
	answers bool
}

// edits are in Envoy's order: what is removed goes first.
func (s side) edits(remove []string, add []*corev3.HeaderValueOption) []snapshot.Edit {
	var out []snapshot.Edit
	for i, name := range remove {
		s.checkName(fmt.Sprintf("%sremove[%d]", s.path, i), name)
		out = append(out, snapshot.Edit{Name: name, How: snapshot.EditRemove})
	}
	for i, o := range add {
		at := fmt.Sprintf("%sadd[%d]", s.path, i)
		text := o.GetHeader().GetValue()
		if raw := o.GetHeader().GetRawValue(); len(raw) > 0 {
			text = string(raw)
		}
		s.checkName(at+".header.key", o.GetHeader().GetKey())
		e := snapshot.Edit{Name: o.GetHeader().GetKey(), How: how(o), Value: s.pieces(at+".header.value", text)}
		if len(text) > 0 || o.GetKeepEmptyValue() {
			out = append(out, e)
		}
	}
	return out
}

// checkName refuses what is no attachment, or what the call would be another without.
func (s side) checkName(path, name string) {
	switch {
	case name == "":
		s.Addf(path, "required")
	case strings.HasPrefix(name, ":") && s.answers:
		s.Addf(path, "%q: a Dubbo answer has no such attribute", name)
	case strings.HasPrefix(name, ":"):
		s.Addf(path, "%q: a Dubbo request has no such attribute", name)
	case !s.answers && slices.Contains([]string{"path", "interface", "method", "version"}, name):
		s.Addf(path, "%q: the call itself is not changed", name)
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
func (s side) pieces(path, text string) []snapshot.Piece {
	var out []snapshot.Piece
	add := func(t string) {
		if n := len(out); n > 0 && out[n-1].Kind == snapshot.PieceText {
			out[n-1].Text += t
		} else if t != "" {
			out = append(out, snapshot.Piece{Text: t})
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
			s.Addf(path, "a %% that begins no operator is written %%%%")
			return nil
		case inside == "":
			add("%")
			continue
		}
		if piece, ok := s.piece(path, inside); ok {
			out = append(out, piece)
		}
	}
	return out
}

func (s side) piece(path, text string) (snapshot.Piece, bool) {
	name, rest, has := strings.Cut(text, "(")
	op, ok := operators[name]
	if has {
		var closed bool
		rest, closed = strings.CutSuffix(rest, ")")
		ok = ok && closed
	}
	switch {
	case !ok, has != (op.argument != argumentNone), has && rest == "":
		s.Addf(path, "%%%s%%: not implemented", text)
	case op.answers && !s.answers:
		s.Addf(path, "%%%s%%: not implemented for requests: only answers have it", text)
	case op.argument == argumentField && !slices.Contains(workloadFields, rest):
		s.Addf(path, "%%%s%%: the field is one of %s", text, strings.Join(workloadFields, ", "))
	case op.argument == argumentName && strings.ContainsAny(rest, "?:"):
		s.Addf(path, "%%%s%%: not implemented: only a name", text)
	default:
		return snapshot.Piece{Kind: op.kind, Text: rest}, true
	}
	return snapshot.Piece{}, false
}
