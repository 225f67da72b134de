package phrase

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/codec/edit"
	"github.com/dubway/dubway/l7proxy/postscript"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// facts are of a request with the attachment trace.
func facts(t *testing.T, open bool) *Facts {
	t.Helper()
	peer := func(of string) *rpc.Peer {
		return &rpc.Peer{Pod: of + "-pod", Workload: of, Namespace: of + "-ns", ServiceAccount: of + "-sa", App: of + "-app", Version: of + "-v"}
	}
	f := &Facts{
		Consumer: peer("from"), Remote: netip.MustParseAddrPort("192.0.2.9:40000"), Original: netip.MustParseAddrPort("198.51.100.1:20880"),
		Call: &rpc.Call{
			Endpoint: netip.MustParseAddrPort("192.0.2.1:20880"), Cluster: "c", Route: "r", Destination: peer("to"),
		},
	}
	body := []byte("\x052.0.2\x07org.x.S\x051.0.0\x04echo\x00H\x05trace\x021aZ")
	prefix, state := dubbo.ParsePrefix(dubbo.Hessian2, body)
	if state != codec.Complete {
		t.Fatal(state)
	}
	if f.Prefix = prefix; open {
		f.Body = new(dubbo.Body)
		f.Body.Reset(codec.Header{Flags: dubbo.Hessian2}, body, prefix)
	}
	return f
}

func TestValues(t *testing.T) {
	of, shut := facts(t, true), facts(t, false)
	unknown := *of
	unknown.Consumer, unknown.Call = nil, &rpc.Call{}
	for _, tt := range []struct {
		name string
		kind snapshot.PieceKind
		text string
		of   *Facts
		want string
	}{
		{"text", snapshot.PieceText, "as it is", of, "as it is"},
		{"interface", snapshot.PieceRequest, "interface", of, "org.x.S"},
		{"method", snapshot.PieceRequest, "method", shut, "echo"},
		{"version", snapshot.PieceRequest, "version", shut, "1.0.0"},
		{"attachment", snapshot.PieceRequest, "trace", of, "1a"},
		{"attachment that is not there", snapshot.PieceRequest, "none", of, ""},
		{"attachment of a request that is not read", snapshot.PieceRequest, "trace", shut, ""},
		{"remote", snapshot.PieceRemote, "", of, "192.0.2.9:40000"},
		{"remote ip", snapshot.PieceRemoteIP, "", of, "192.0.2.9"},
		{"local", snapshot.PieceLocal, "", of, "198.51.100.1:20880"},
		{"source pod", snapshot.PieceSource, "pod", of, "from-pod"},
		{"source workload", snapshot.PieceSource, "workload", of, "from"},
		{"source of nobody", snapshot.PieceSource, "pod", &unknown, ""},
		{"upstream", snapshot.PieceUpstream, "", of, "192.0.2.1:20880"},
		{"upstream ip", snapshot.PieceUpstreamIP, "", of, "192.0.2.1"},
		{"cluster", snapshot.PieceCluster, "", of, "c"},
		{"route", snapshot.PieceRoute, "", of, "r"},
		{"destination namespace", snapshot.PieceDestination, "namespace", of, "to-ns"},
		{"destination account", snapshot.PieceDestination, "service_account", of, "to-sa"},
		{"destination app", snapshot.PieceDestination, "app", of, "to-app"},
		{"destination version", snapshot.PieceDestination, "version", of, "to-v"},
		{"destination that nobody knows", snapshot.PieceDestination, "pod", &unknown, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			piece := snapshot.Piece{Kind: tt.kind, Text: tt.text}
			got := Request([]snapshot.Edit{{Name: "a", How: snapshot.EditAppend, Value: []snapshot.Piece{{Text: "<"}, piece, {Text: ">"}}}}, tt.of)
			if want := (edit.Edit{Name: "a", Value: "<" + tt.want + ">", How: edit.Append}); len(got) != 1 || got[0] != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			list := Answer([]snapshot.Edit{{Name: "a", Value: []snapshot.Piece{piece}}}, tt.of)
			if want := []postscript.Part{{Text: tt.want}}; !reflect.DeepEqual(list.List[0].Parts, want) {
				t.Errorf("%+v, want %+v", list.List[0], want)
			}
		})
	}
}

// TestAnswer: what the answer has is left for when it comes, and what differs from
// request to request is told.
func TestAnswer(t *testing.T) {
	of := facts(t, true)
	of.Reads = true
	if Answer(nil, of) != nil {
		t.Error("edits of nothing")
	}
	asked := snapshot.Piece{Kind: snapshot.PieceAnswer, Text: "was"}
	got := Answer([]snapshot.Edit{
		{Name: "gone", How: snapshot.EditRemove},
		{Name: "a", How: snapshot.EditReplace, Value: []snapshot.Piece{{Text: "<"}, {Kind: snapshot.PieceCluster}, asked, asked, {Text: ">"}}},
	}, of)
	want := &postscript.Edits{Reads: true, List: []postscript.Edit{
		{Name: "gone", How: edit.Remove},
		{Name: "a", How: edit.Replace, Parts: []postscript.Part{{Text: "<c"}, {Text: "was", Asked: true}, {Text: "was", Asked: true}, {Text: ">"}}},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	for name, asks := range map[string]bool{"method": false, "interface": false, "version": false, "group": true, "trace": true} {
		list := []snapshot.Edit{{Name: "a", Value: []snapshot.Piece{{Kind: snapshot.PieceRequest, Text: name}}}}
		if got := Answer(list, of); got.Asks != asks {
			t.Errorf("%s: asks is %v", name, got.Asks)
		}
	}
}
