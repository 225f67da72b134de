package files

import (
	"crypto/sha256"
	"fmt"
	"io"
	"strings"

	udpav1 "github.com/cncf/xds/go/udpa/type/v1"
	xdsv3 "github.com/cncf/xds/go/xds/type/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/xds/problems"
	"github.com/dubway/dubway/l7proxy/xds/typed"
)

// unreadable is the field that a configuration has which cannot be looked into: of a type
// that this program was not built with, in protobuf's own form. Where every field of the
// type is accepted it changes nothing.
const unreadable = "(unreadable)"

// legible holds, beside builtin, the types whose configuration somebody looks into.
var legible = registry((*udpav1.TypedStruct)(nil), (*xdsv3.TypedStruct)(nil))

var marshal = protojson.MarshalOptions{Resolver: legible}

// Sent returns a resource as a control plane sends it, under the name that it is sent by.
// Nothing of it is read before Open. Its Sum is that of its bytes: resources with equal
// sums are equal, and equal ones mostly have equal sums.
func Sent(name string, body *anypb.Any) Resource {
	typ := typeName(body.GetTypeUrl())
	sum := sha256.New()
	_, _ = io.WriteString(sum, string(typ)+"\n") // a sum takes everything
	_, _ = sum.Write(body.GetValue())
	r := Resource{Type: body.GetTypeUrl(), Kind: KindOf(string(typ)), Name: name, wire: body}
	sum.Sum(r.Sum[:0])
	return r
}

// Wire returns what the resource was made of by Sent, which nobody may change.
func (r *Resource) Wire() *anypb.Any { return r.wire }

// Open reads the message of a resource that was Sent; others are open. What Parse makes
// of JSON it makes of protobuf, so that both mean the same.
func (r *Resource) Open() {
	if r.wire == nil || r.Message != nil || len(r.Problems) > 0 {
		return
	}
	typ := typeName(r.wire.GetTypeUrl())
	kind, ok := kinds[typ]
	if !ok {
		r.Problems.Addf("@type", "%s: not a resource that is implemented", r.Type)
		return
	}
	m := kind.message.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(r.wire.GetValue(), m); err != nil {
		r.Problems.Addf("", "%v", err)
		return
	}
	var w walk
	w.message("", m.ProtoReflect())
	field := m.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(kind.name[0]))
	if name := m.ProtoReflect().Get(field).String(); name != r.Name {
		w.Addf(kind.name[0], "%q, but it was sent as %q", name, r.Name)
	}
	if r.Problems = w.List; len(w.List) == 0 {
		r.Message = m
	}
}

func typeName(url string) protoreflect.FullName {
	return protoreflect.FullName(url[strings.LastIndexByte(url, '/')+1:])
}

// walk makes the Anys in a message what they are after Parse.
type walk struct {
	problems.List

	changed bool
}

func (w *walk) message(path string, m protoreflect.Message) {
	if !w.Enter(path, m) {
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := problems.Join(path, fd.Name())
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() == nil {
				break
			}
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				w.value(fmt.Sprintf("%s[%q]", at, k.String()), v.Message())
				return true
			})
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				w.value(fmt.Sprintf("%s[%d]", at, i), v.List().Get(i).Message())
			}
		default:
			w.value(at, v.Message())
		}
		return true
	})
}

func (w *walk) value(path string, m protoreflect.Message) {
	a, ok := m.Interface().(*anypb.Any)
	if !ok {
		w.message(path, m)
		return
	}
	typ := string(typeName(a.GetTypeUrl()))
	if typ == "" {
		return // for package fields to reject
	}
	if isBuiltin(typ) {
		w.builtin(path, a)
		return
	}
	tree := typed.Opaque(treeOf(a), isBuiltin)
	a.Reset()
	if err := read(tree, a); err != nil {
		w.Addf(path, "%s", reason(err))
	}
	w.changed = true
}

// builtin looks into an Any of a type that is built in.
func (w *walk) builtin(path string, a *anypb.Any) {
	t, err := builtin.FindMessageByURL(a.GetTypeUrl())
	if err != nil {
		return // it is built in
	}
	m := t.New().Interface()
	if err := proto.Unmarshal(a.GetValue(), m); err != nil {
		w.Addf(path, "%v", err)
		return
	}
	outer := w.changed
	w.changed = false
	w.message(path, m.ProtoReflect())
	if w.changed {
		if a.Value, err = proto.Marshal(m); err != nil {
			w.Addf(path, "%v", err)
		}
	}
	w.changed = w.changed || outer
}

// treeOf returns an Any as decoded JSON. Of a type that cannot be told it has the type,
// and says whether there is more.
func treeOf(a *anypb.Any) any {
	if text, err := marshal.Marshal(a); err == nil {
		if tree, err := decodeJSON(text); err == nil {
			return tree
		}
	}
	tree := map[string]any{"@type": a.GetTypeUrl()}
	if len(a.GetValue()) > 0 {
		tree[unreadable] = float64(len(a.GetValue()))
	}
	return tree
}
