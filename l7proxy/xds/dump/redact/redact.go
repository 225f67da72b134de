// Package redact takes the secrets out of a message of Envoy's API, so that it may be shown
// to whoever reads a bug report. When in doubt it takes out more: what is left is for people
// to read, not for a proxy to use.
//
// A secret is what Envoy's API itself marks as sensitive; what is called like one (a field,
// a header, a key of a Struct); and what looks like one wherever it stands. What cannot be
// looked into, since this program was not built with its type, is left out as a whole.
package redact

import (
	"regexp"
	"strings"

	"github.com/cncf/xds/go/udpa/annotations"
	xdsv3 "github.com/cncf/xds/go/xds/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// Mark stands where a secret stood; Envoy writes the same.
const Mark = "[redacted]"

// maxDepth bounds how deep messages are looked into: what is deeper goes.
const maxDepth = 100

// Message takes the secrets out of m, which it changes.
func Message(m proto.Message) { message(m.ProtoReflect(), 0) }

// Text is what is shown of a text that is no part of a message.
func Text(s string) string { return text(s, false) }

func message(m protoreflect.Message, depth int) {
	if depth > maxDepth {
		clearAll(m)
		return
	}
	m.SetUnknown(nil)
	switch known := m.Interface().(type) {
	case *anypb.Any:
		inside(known, depth)
		return
	case *structpb.Struct:
		for key, v := range known.GetFields() {
			known.Fields[key] = value(key, v, false, depth+1)
		}
		return
	case *structpb.Value:
		known.Kind = &structpb.Value_StringValue{StringValue: Mark} // outside of a Struct nothing says what it is
		return
	}
	named := calledSecret(nameIn(m))
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		secret := sensitive(fd) || calledSecret(string(fd.Name())) || named && isValue(fd)
		switch {
		case fd.IsMap():
			mapped(fd, v.Map(), secret, depth)
		case fd.IsList():
			listed(fd, v.List(), secret, depth)
		case fd.Message() == nil:
			if isText(fd) {
				m.Set(fd, shown(fd, v, secret))
			}
		case sensitive(fd), secret && isData(fd.Message()):
			m.Set(fd, protoreflect.ValueOfMessage(marked(v.Message())))
		default:
			message(v.Message(), depth+1)
		}
		return true
	})
}

// mapped looks into a map: a key may be called like a secret too.
func mapped(fd protoreflect.FieldDescriptor, all protoreflect.Map, secret bool, depth int) {
	of := fd.MapValue()
	all.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		own := secret || calledSecret(k.String())
		switch {
		case of.Message() == nil && isText(of):
			all.Set(k, shown(of, v, own))
		case of.Message() != nil && (own && isData(of.Message()) || sensitive(fd)):
			all.Set(k, protoreflect.ValueOfMessage(marked(v.Message())))
		case of.Message() != nil:
			message(v.Message(), depth+1)
		}
		return true
	})
}

func listed(fd protoreflect.FieldDescriptor, all protoreflect.List, secret bool, depth int) {
	for i := range all.Len() {
		switch {
		case fd.Message() == nil && isText(fd):
			all.Set(i, shown(fd, all.Get(i), secret))
		case fd.Message() != nil && (sensitive(fd) || secret && isData(fd.Message())):
			all.Set(i, protoreflect.ValueOfMessage(marked(all.Get(i).Message())))
		case fd.Message() != nil:
			message(all.Get(i).Message(), depth+1)
		}
	}
}

// inside looks into an Any. One of a type that is not known keeps its name alone.
func inside(a *anypb.Any, depth int) {
	m, err := a.UnmarshalNew()
	if err == nil {
		message(m.ProtoReflect(), depth+1)
		if a.Value, err = proto.Marshal(m); err == nil {
			return
		}
	}
	hidden := &xdsv3.TypedStruct{TypeUrl: a.GetTypeUrl(), Value: &structpb.Struct{Fields: map[string]*structpb.Value{
		Mark: structpb.NewStringValue("of a type that cannot be looked into"),
	}}}
	if err := a.MarshalFrom(hidden); err != nil {
		a.Reset()
	}
}

// value is what is shown of a value of a Struct: of one that is called like a secret, or is
// part of one that is, no text.
func value(key string, v *structpb.Value, secret bool, depth int) *structpb.Value {
	secret = secret || calledSecret(key)
	if depth > maxDepth {
		return structpb.NewStringValue(Mark)
	}
	switch kind := v.GetKind().(type) {
	case nil:
		return structpb.NewNullValue()
	case *structpb.Value_StringValue:
		return structpb.NewStringValue(text(kind.StringValue, secret))
	case *structpb.Value_NumberValue:
		if secret {
			return structpb.NewStringValue(Mark)
		}
	case *structpb.Value_ListValue:
		for i, one := range kind.ListValue.GetValues() {
			kind.ListValue.Values[i] = value(key, one, secret, depth+1)
		}
	case *structpb.Value_StructValue:
		fields := kind.StructValue.GetFields()
		named := secret // {"key": "authorization", "value": "..."}, as headers are
		for _, name := range []string{"key", "name", "header_name", "headerName"} {
			named = named || calledSecret(fields[name].GetStringValue())
		}
		for k, one := range fields {
			fields[k] = value(k, one, secret || named && isValueName(k), depth+1)
		}
	}
	return v
}

// marked is a message of the same kind that says nothing but Mark.
func marked(m protoreflect.Message) protoreflect.Message {
	fresh := m.New()
	fields := fresh.Descriptor().Fields()
	for _, name := range []protoreflect.Name{"inline_string", "value", "exact", "regex"} {
		if fd := fields.ByName(name); fd != nil && !fd.IsList() && !fd.IsMap() && fd.Kind() == protoreflect.StringKind {
			fresh.Set(fd, protoreflect.ValueOfString(Mark))
			break
		}
	}
	return fresh
}

func clearAll(m protoreflect.Message) {
	m.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		m.Clear(fd)
		return true
	})
}

// sensitive tells whether Envoy's API marks a field.
func sensitive(fd protoreflect.FieldDescriptor) bool {
	is, _ := proto.GetExtension(fd.Options(), annotations.E_Sensitive).(bool)
	return is
}

// isData tells whether a message is a text or bytes in another form.
func isData(d protoreflect.MessageDescriptor) bool {
	switch d.FullName() {
	case "envoy.config.core.v3.DataSource", "google.protobuf.StringValue", "google.protobuf.BytesValue",
		"envoy.type.matcher.v3.StringMatcher", "envoy.type.matcher.v3.RegexMatcher", "google.protobuf.Value":
		return true
	}
	return false
}

func isText(fd protoreflect.FieldDescriptor) bool {
	return fd.Kind() == protoreflect.StringKind || fd.Kind() == protoreflect.BytesKind
}

// shown is what is shown of a text.
func shown(fd protoreflect.FieldDescriptor, v protoreflect.Value, secret bool) protoreflect.Value {
	if fd.Kind() == protoreflect.StringKind {
		return protoreflect.ValueOfString(text(v.String(), secret))
	}
	return protoreflect.ValueOfBytes([]byte(text(string(v.Bytes()), secret)))
}

func text(s string, secret bool) string {
	if s != "" && (secret || looksSecret.MatchString(s)) {
		return Mark
	}
	return s
}

// looksSecret is what a secret looks like: a private key, in PEM or as a JWK, a JSON web
// token, credentials of HTTP, those in a URL, keys of clouds.
var looksSecret = regexp.MustCompile(`(?is)PRIVATE KEY-----|` +
	`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.|` +
	`\b(?:bearer|basic|negotiate)\s+[A-Za-z0-9+/=._~-]{6,}|` +
	`://[^/\s:@]*:[^/\s@]+@|` +
	`"(?:d|k|private_key|client_secret|password)"\s*:\s*"|` +
	`\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|` +
	`(?:password|passwd|pwd|secret|token|api_?key)=[^&\s]+`)

// calledSecret tells whether a field, a header or a key is called like a secret.
func calledSecret(name string) bool {
	flat := strings.NewReplacer("_", "", "-", "", ".", "", ":", "").Replace(strings.ToLower(name))
	if countsTokens(flat) {
		return false
	}
	for _, part := range secretParts {
		if strings.Contains(flat, part) {
			return true
		}
	}
	return false
}

var secretParts = []string{
	"password", "passwd", "passphrase", "secret", "token", "privatekey", "apikey", "accesskey", "credential",
	"authorization", "cookie", "jsonkey", "hmac", "signature", "sessionticketkey", "encryptionkey",
}

// countsTokens tells of the words of a limit, whose tokens are no secret.
func countsTokens(name string) bool {
	flat := strings.ReplaceAll(strings.ToLower(name), "_", "")
	return flat == "tokenbucket" || flat == "maxtokens" || flat == "tokensperfill"
}

// nameIn is what a message that is a name and a value is called: a HeaderValue, a
// HeaderMatcher, and their like.
func nameIn(m protoreflect.Message) string {
	fields := m.Descriptor().Fields()
	for _, name := range []protoreflect.Name{"key", "name", "header_name"} {
		if fd := fields.ByName(name); fd != nil && fd.Kind() == protoreflect.StringKind && !fd.IsList() {
			return m.Get(fd).String()
		}
	}
	return ""
}

// isValue tells whether a field is the value of a message that has a name.
func isValue(fd protoreflect.FieldDescriptor) bool { return isValueName(string(fd.Name())) }

func isValueName(name string) bool {
	switch strings.ReplaceAll(strings.ToLower(name), "_", "") {
	case "value", "rawvalue", "stringvalue", "exact", "prefix", "suffix", "contains", "regex", "saferegex", "exactmatch", "prefixmatch",
		"suffixmatch", "containsmatch", "saferegexmatch", "stringmatch", "inlinestring", "inlinebytes", "expectvalue", "defaultvalue":
		return true
	}
	return false
}
