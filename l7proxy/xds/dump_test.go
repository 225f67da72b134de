package xds

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	telemetry "github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// words are the names of the snapshot's enums, for golden files.
var words = map[reflect.Type][]string{
	reflect.TypeFor[snapshot.PathKind]():       {"prefix", "exact", "regex", "separated-prefix"},
	reflect.TypeFor[snapshot.HeaderKind]():     {"exact", "prefix", "suffix", "contains", "regex", "range", "present"},
	reflect.TypeFor[snapshot.Source]():         {"name", "attachment", "argument"},
	reflect.TypeFor[snapshot.ClusterKind]():    {"static", "eds", "strict-dns", "original-dst"},
	reflect.TypeFor[snapshot.Unknown]():        {"allow-any", "registry-only"},
	reflect.TypeFor[snapshot.Policy]():         {"round-robin", "random", "least-request", "ring-hash", "maglev"},
	reflect.TypeFor[snapshot.ProbeKind]():      {"tcp", "heartbeat", "echo"},
	reflect.TypeFor[snapshot.SubsetFallback](): {"none", "any", "default"},
	reflect.TypeFor[snapshot.RBACAction]():     {"allow", "deny", "log"},
	reflect.TypeFor[snapshot.TermKind](): {
		"never", "any", "and", "or", "not", "header", "principal", "source", "destination", "destination-port",
	},
	reflect.TypeFor[telemetry.Kind](): {
		"always", "not", "and", "or", "code", "millis", "flag", "cluster", "route", "holds",
	},
	reflect.TypeFor[telemetry.ValueKind](): {"text", "interface", "method", "path", "label"},
	reflect.TypeFor[telemetry.Operator]():  {"equals", "starts", "ends", "contains", "matches", "present"},
	reflect.TypeFor[snapshot.RateKind]():   {"generic", "header", "match", "source-cluster", "remote-address"},
}

// dump prints a snapshot: every field that is not zero, maps by their keys. A
// listener's route is printed where it is defined.
func dump(s *snapshot.Snapshot) string {
	var b strings.Builder
	dumpValue(&b, "", reflect.ValueOf(s).Elem())
	return b.String()
}

func dumpValue(b *strings.Builder, indent string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		dumpValue(b, indent, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			_, isEnum := words[f.Type]
			isEnum = isEnum && f.Type != reflect.TypeFor[snapshot.Source]() && f.Type != reflect.TypeFor[snapshot.Unknown]() // nearly all are the first
			if !f.IsExported() || v.Field(i).IsZero() && !isEnum || f.Type == reflect.TypeFor[*snapshot.RouteConfig]() {
				continue
			}
			dumpField(b, indent, f.Name, v.Field(i))
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			dumpField(b, indent, k.String(), v.MapIndex(k))
		}
	case reflect.Slice:
		for i := range v.Len() {
			dumpField(b, indent, fmt.Sprintf("[%d]", i), v.Index(i))
		}
	}
}

// dumpField prints a scalar on its line, and anything else below it.
func dumpField(b *strings.Builder, indent, name string, v reflect.Value) {
	if text, ok := scalar(v); ok {
		fmt.Fprintf(b, "%s%s: %s\n", indent, name, text)
		return
	}
	if (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0 {
		fmt.Fprintf(b, "%s%s: empty\n", indent, name)
		return
	}
	fmt.Fprintf(b, "%s%s\n", indent, name)
	dumpValue(b, indent+"  ", v)
}

func scalar(v reflect.Value) (string, bool) {
	if w, ok := words[v.Type()]; ok {
		return w[v.Uint()], true
	}
	switch x := v.Interface().(type) {
	case time.Duration:
		return x.String(), true
	case telemetry.Set:
		var all []string
		for m := range telemetry.NumMetrics {
			if x.Has(m) {
				all = append(all, m.String())
			}
		}
		return strings.Join(all, " "), true
	case encoding.TextMarshaler:
		text, err := x.MarshalText()
		return string(text), err == nil
	}
	switch v.Kind() {
	case reflect.Struct, reflect.Pointer, reflect.Slice, reflect.Map:
		if list, ok := reflect.TypeAssert[[]string](v); ok {
			return fmt.Sprintf("%q", list), true
		}
		return "", false
	case reflect.String:
		return fmt.Sprintf("%q", v.String()), true
	}
	return fmt.Sprint(v.Interface()), true
}
