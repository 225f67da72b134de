package values

import (
	"cmp"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	decoder "github.com/apache/dubbo-go-hessian2"
)

// The limits of what is shown of one body.
const (
	maxDepth = 8
	maxItems = 64  // of one list, map or object
	maxNodes = 512 // of all
	maxText  = 256 // bytes of one text
)

// class is the field by which decoder tells the class of an object whose class
// it does not know, and by which all classes are shown.
const class = "_class"

// shower makes JSON's values of decoded ones, until they are too many.
type shower struct {
	left int
}

func newShower() *shower { return &shower{left: maxNodes} }

// value returns v as nil, a bool, a number, a string, []any or map[string]any.
func (s *shower) value(v any) any { return s.show(reflect.ValueOf(v), maxDepth) }

// cut stands for what is not shown.
func cut(what string) string { return "... " + what }

func (s *shower) show(v reflect.Value, depth int) any {
	for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer && !isNamed(v) {
		if v.IsNil() {
			return nil
		}
		if depth--; depth < 0 {
			return cut("deeper") // pointers may go in circles
		}
		v = v.Elem()
	}
	if s.left--; s.left < 0 {
		return cut("more")
	}
	if !v.IsValid() {
		return nil
	}
	if v.CanInterface() {
		if at, ok := reflect.TypeAssert[time.Time](v); ok {
			return at.UTC().Format(time.RFC3339Nano)
		}
	}
	switch v.Kind() {
	case reflect.Bool:
		return v.Bool()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return v.Uint()
	case reflect.Float32, reflect.Float64:
		return number(v.Float())
	case reflect.String:
		return text(v.String())
	default:
		if depth == 0 {
			return cut("deeper")
		}
		return s.container(v, depth)
	}
}

func (s *shower) container(v reflect.Value, depth int) any {
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 && v.Kind() == reflect.Slice {
			return text(string(v.Bytes()))
		}
		return s.list(v, depth)
	case reflect.Map:
		return s.table(v, depth)
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return s.object(v.Elem(), javaClass(v), depth)
	case reflect.Struct:
		return s.object(v, javaClass(v), depth)
	default:
		return cut(v.Kind().String())
	}
}

func (s *shower) list(v reflect.Value, depth int) any {
	shown := make([]any, 0, min(v.Len(), maxItems))
	for i := range v.Len() {
		if i == maxItems || s.left <= 0 {
			return append(shown, cut(fmt.Sprintf("%d more", v.Len()-i)))
		}
		shown = append(shown, s.show(v.Index(i), depth-1))
	}
	return shown
}

func (s *shower) table(v reflect.Value, depth int) any {
	shown := make(map[string]any, min(v.Len(), maxItems))
	keys := v.MapKeys()
	names := make(map[int]string, len(keys))
	order := make([]int, len(keys))
	for i, key := range keys {
		names[i], order[i] = text(fmt.Sprint(s.show(key, 1))), i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(names[a], names[b]) })
	for i, at := range order {
		if i == maxItems || s.left <= 0 {
			shown[cut("more")] = len(keys) - i
			break
		}
		shown[names[at]] = s.field(names[at], v.MapIndex(keys[at]), depth)
	}
	return shown
}

func (s *shower) object(v reflect.Value, name string, depth int) any {
	if v.Kind() != reflect.Struct {
		return s.show(v, depth-1)
	}
	shown := make(map[string]any)
	if name != "" {
		shown[class] = text(name)
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		if len(shown) == maxItems || s.left <= 0 {
			shown[cut("more")] = v.NumField() - i
			break
		}
		java := strings.ToLower(f.Name[:1]) + f.Name[1:]
		shown[java] = s.field(java, v.Field(i), depth)
	}
	return shown
}

// field shows a field; of a Throwable's stack, how deep it is.
func (s *shower) field(name string, v reflect.Value, depth int) any {
	if name == "stackTrace" {
		for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if v.Kind() == reflect.Slice {
			return cut(fmt.Sprintf("%d frames", v.Len()))
		}
	}
	return s.show(v, depth-1)
}

// isNamed tells whether a pointer is to an object of a Java class.
func isNamed(v reflect.Value) bool { return !v.IsNil() && javaClass(v) != "" }

// javaClass returns the Java class of an object that says it.
func javaClass(v reflect.Value) string {
	if !v.CanInterface() {
		return ""
	}
	if named, ok := reflect.TypeAssert[decoder.POJO](v); ok {
		return named.JavaClassName()
	}
	return ""
}

// number returns what JSON can write of a number.
func number(f float64) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Sprint(f)
	}
	return f
}

// text returns a text that is fit to be shown, or its beginning.
func text(s string) string {
	if len(s) <= maxText {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	end := maxText
	for end > maxText-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return strings.ToValidUTF8(s[:end], "\uFFFD") + cut(fmt.Sprintf("%d bytes", len(s)))
}
