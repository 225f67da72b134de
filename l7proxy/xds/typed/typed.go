// Package typed tells which message is inside an Any: of types that this program was
// not built with, and inside a TypedStruct, which is how EnvoyFilters carry them. It
// knows no type's fields.
package typed

import (
	"maps"
	"strings"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// typeKey is where Opaque keeps the type's name.
const typeKey = "@type"

// Opaque replaces, in decoded JSON, each Any whose type is not among the known
// ones by an Any of a Struct that holds its JSON: types that this program was
// not built with stay readable, so that they can be told apart and rejected by
// name. A TypedStruct of a known type, which is how EnvoyFilters carry them,
// becomes an Any of that type. The tree is changed in place.
func Opaque(tree any, known func(typ string) bool) any {
	switch v := tree.(type) {
	case []any:
		for i := range v {
			v[i] = Opaque(v[i], known)
		}
	case map[string]any:
		v = unwrapped(v, known)
		typ, isAny := v[typeKey].(string)
		if isAny && !known(typeName(typ)) {
			return map[string]any{typeKey: "type.googleapis.com/google.protobuf.Struct", "value": v}
		}
		for k := range v {
			v[k] = Opaque(v[k], known)
		}
		return v
	}
	return tree
}

// unwrapped returns what a TypedStruct holds as an Any of its own type, and
// anything else as it is.
func unwrapped(v map[string]any, known func(typ string) bool) map[string]any {
	outer, _ := v[typeKey].(string)
	if !isTypedStruct(typeName(outer)) {
		return v
	}
	var url string
	inner := make(map[string]any)
	for key, part := range v {
		text, isText := part.(string)
		value, isObject := part.(map[string]any)
		switch {
		case key == typeKey:
		case isText && (key == "type_url" || key == "typeUrl"):
			url = text
		case isObject && key == "value":
			maps.Copy(inner, value)
		default:
			return v
		}
	}
	if _, typed := inner[typeKey]; typed || !known(typeName(url)) || typeName(url) == "google.protobuf.Struct" {
		return v
	}
	inner[typeKey] = url
	return inner
}

func isTypedStruct(typ string) bool {
	return typ == "udpa.type.v1.TypedStruct" || typ == "xds.type.v3.TypedStruct"
}

// TypeOf returns the full name of the message in a: what is inside a
// TypedStruct, and what Opaque hid. Its configuration is given as a Struct for
// a type that is not built in, with the path to it.
func TypeOf(a *anypb.Any) (typ string, config *structpb.Struct, path string) {
	s := new(structpb.Struct)
	if !a.MessageIs(s) || a.UnmarshalTo(s) != nil {
		return typeName(a.GetTypeUrl()), nil, ""
	}
	typ = typeName(s.GetFields()[typeKey].GetStringValue())
	config = &structpb.Struct{Fields: maps.Clone(s.GetFields())}
	delete(config.GetFields(), typeKey)
	if !strings.HasSuffix(typ, ".TypedStruct") {
		return typ, config, ""
	}
	for _, key := range []string{"type_url", "typeUrl"} {
		if url := config.GetFields()[key].GetStringValue(); url != "" {
			typ = typeName(url)
		}
	}
	return typ, config.GetFields()["value"].GetStructValue(), ".value"
}

// typeName cuts the host off a type URL.
func typeName(url string) string { return url[strings.LastIndexByte(url, '/')+1:] }
