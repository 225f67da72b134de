package hessian

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	oracle "github.com/apache/dubbo-go-hessian2"
	"github.com/apache/dubbo-go-hessian2/java_exception"
	dubbobig "github.com/dubbogo/gost/math/big"
)

// order is a Java object to the oracle.
type order struct {
	Name   string
	Price  float64
	Count  int32
	Parts  []*order
	Parent *order
	Extra  map[string]any
	When   time.Time
	Raw    []byte
}

func (order) JavaClassName() string { return "org.example.Order" }

type empty struct{}

func (empty) JavaClassName() string { return "org.example.Empty" }

// samples are values of every kind that the oracle can write.
func samples(tb testing.TB) map[string]any {
	tb.Helper()
	oracle.RegisterPOJO(&order{})
	parent := &order{Name: "parent", Price: 12.5, Count: 3, Raw: []byte{1, 2, 3}, When: time.UnixMilli(1700000000123)}
	child := &order{Name: "child 😀", Parent: parent, Extra: map[string]any{"k": int64(1), "中文": nil}}
	parent.Parts = []*order{child, {Name: strings.Repeat("long ", 300)}, child}
	var decimal dubbobig.Decimal
	if err := decimal.FromBytes([]byte("12345678901234567890.0987654321")); err != nil {
		tb.Fatal(err)
	}
	var integer dubbobig.Integer
	if err := integer.FromString("123456789012345678901234567890"); err != nil {
		tb.Fatal(err)
	}
	all := map[string]any{
		"null": nil, "true": true, "false": false,
		"object": parent, "object twice": []any{parent, parent, child}, "empty object": &empty{},
		"exception":   java_exception.NewRuntimeException("boom"),
		"throwable":   java_exception.NewThrowable("boom"),
		"decimal":     &decimal,
		"big integer": &integer,
		"untyped list": []any{
			int32(1), "two", 3.0, nil, []any{[]any{}}, map[any]any{"k": []any{1}},
		},
		"typed list":    []string{"a", "b", ""},
		"ints":          []int32{1, 2, 300000},
		"longs":         make([]int64, 100),
		"objects":       []*order{parent, child},
		"bools":         []bool{true, false},
		"doubles":       []float64{0, 1, 2, 3.25, 1e300},
		"untyped map":   map[any]any{"a": 1, int32(2): "b", "m": map[any]any{}},
		"string map":    map[string]string{"a": "b", "c": strings.Repeat("d", 100)},
		"generic":       []any{"echo", []string{"java.lang.String"}, []any{"x", &order{}}},
		"date":          time.UnixMilli(1700000000123),
		"date, minutes": time.Unix(1700000040, 0),
	}
	for _, n := range []int64{0, 1, -1, 15, -8, -9, 16, 47, 48, -16, -17, 2047, -2048, 2048, 262143, -262144, 262144, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64} {
		all[fmt.Sprint("long ", n)] = n
		if int64(int32(n)) == n {
			all[fmt.Sprint("int ", n)] = int32(n)
		}
	}
	for _, f := range []float64{0, 1, -1, 127, -128, 128, 32767, -32768, 32768, 0.001, 12.5, math.Pi, math.Inf(1), math.NaN()} {
		all[fmt.Sprint("double ", f)] = f
	}
	for _, n := range []int{0, 1, 15, 16, 31, 32, 1023, 1024, 4095, 4096, 4097, 9000, 70000} {
		all[fmt.Sprint("binary ", n)] = make([]byte, n)
		for _, unit := range []string{"x", "é", "中", "😀"} {
			all[fmt.Sprint("string ", n, unit)] = strings.Repeat(unit, n)
		}
	}
	return all
}

func encode(tb testing.TB, values ...any) []byte {
	tb.Helper()
	e := oracle.NewEncoder()
	for _, v := range values {
		if err := e.Encode(v); err != nil {
			tb.Fatalf("encode %T: %v", v, err)
		}
	}
	return e.Buffer()
}

func TestSkipEndsWhereTheOracleEnds(t *testing.T) {
	var r Reader
	for name, v := range samples(t) {
		t.Run(name, func(t *testing.T) {
			b := encode(t, v)
			size := len(b)
			r.Reset(append(b[:size:size], "\x91rest"...))
			if err := r.Skip(); err != nil {
				t.Fatalf("%v in % x", err, clip(b))
			}
			if r.Offset() != size {
				t.Fatalf("ends at %d of %d: % x", r.Offset(), size, clip(b))
			}
			cuts(t, &r, b)
		})
	}
}

// cuts reads every beginning of a value: each must ask for more. Of a large one
// it reads all short beginnings and a sample of the others.
func cuts(t *testing.T, r *Reader, b []byte) {
	t.Helper()
	step := 1
	for cut := 0; cut < len(b); cut += step {
		r.Reset(b[:cut:cut])
		if err := r.Skip(); !errors.Is(err, ErrMore) {
			t.Fatalf("cut at %d of %d: %v", cut, len(b), err)
		}
		if cut > 1500 {
			step = max(997, len(b)/500)
		}
	}
}

// Class definitions count through the whole body.
func TestSkipManyValuesOfOneBody(t *testing.T) {
	all := samples(t)
	var values []any
	for _, v := range all {
		values = append(values, v)
	}
	b := encode(t, values...)
	var r Reader
	r.Reset(b)
	for i := range values {
		if err := r.Skip(); err != nil {
			t.Fatalf("value %d: %v", i, err)
		}
	}
	if r.Offset() != len(b) {
		t.Fatalf("ends at %d of %d", r.Offset(), len(b))
	}
}

func TestTextAgreesWithTheOracle(t *testing.T) {
	for name, v := range samples(t) {
		want, ok := v.(string)
		if !ok {
			continue
		}
		for form, b := range map[string][]byte{"oracle": encode(t, want), "own": AppendString(nil, want)} {
			got, n, err := AppendText([]byte("before "), b)
			if err != nil || n != len(b) || string(got) != "before "+want {
				t.Errorf("%s, %s form: %d of %d bytes, %v", name, form, n, len(b), err)
			}
			aliased, n, err := Text(b)
			switch {
			case errors.Is(err, ErrForm):
				if len(want) < 4096 && !strings.Contains(want, "😀") {
					t.Errorf("%s: %v", name, err)
				}
			case err != nil || n != len(b) || string(aliased) != want:
				t.Errorf("%s: Text: %d of %d bytes, %v", name, n, len(b), err)
			}
		}
		back, err := oracle.NewDecoder(AppendString(nil, want)).Decode()
		if err != nil || back != want {
			t.Errorf("%s: the oracle reads ours as %.20q, %v", name, back, err)
		}
	}
}

func TestIntAgreesWithTheOracle(t *testing.T) {
	for name, v := range samples(t) {
		var want int64
		switch v := v.(type) {
		case int32:
			want = int64(v)
		case int64:
			want = v
		default:
			continue
		}
		b := encode(t, v)
		got, n, err := Int(b)
		if got != want || n != len(b) || err != nil {
			t.Errorf("%s: %d, %d of %d bytes, %v", name, got, n, len(b), err)
		}
		for cut := range b {
			if _, _, err := Int(b[:cut:cut]); !errors.Is(err, ErrMore) {
				t.Errorf("%s cut at %d: %v", name, cut, err)
			}
		}
	}
}

func TestDoubleAgreesWithTheOracle(t *testing.T) {
	for name, v := range samples(t) {
		want, ok := v.(float64)
		if !ok {
			continue
		}
		b := encode(t, v)
		got, n, err := Double(b)
		if math.Float64bits(got) != math.Float64bits(want) || n != len(b) || err != nil {
			t.Errorf("%s: %v, %d of %d bytes, %v", name, got, n, len(b), err)
		}
		for cut := range b {
			if _, _, err := Double(b[:cut:cut]); !errors.Is(err, ErrMore) {
				t.Errorf("%s cut at %d: %v", name, cut, err)
			}
		}
	}
	for _, other := range []string{"\x90", "\x01a", "N", "T"} {
		if v, _, err := Double([]byte(other)); !errors.Is(err, ErrMalformed) {
			t.Errorf("% x: %v, %v", other, v, err)
		}
	}
}

// A list that is read value by value has as many as the oracle finds, and ends
// where it ends when it is skipped.
func TestListAgreesWithTheOracle(t *testing.T) {
	var r Reader
	for name, v := range samples(t) {
		list := reflect.ValueOf(v)
		b := encode(t, v)
		values, ok, err := walk(&r, b)
		_, isBytes := v.([]byte)
		switch {
		case v == nil || list.Kind() != reflect.Slice || isBytes:
			if ok || err != nil {
				t.Errorf("%s is taken for a list of %d, %v", name, values, err)
			}
		case !ok || err != nil || values != list.Len() || r.Offset() != len(b):
			t.Errorf("%s: %d values, want %d; ends at %d of %d, %v", name, values, list.Len(), r.Offset(), len(b), err)
		}
	}
}

// walk reads a list value by value and returns their number.
func walk(r *Reader, b []byte) (values int, ok bool, err error) {
	r.Reset(b)
	total, ok, err := r.List()
	if err != nil || !ok {
		return 0, ok, err
	}
	for total == Endless || values < total {
		if rest := r.Rest(); total == Endless && len(rest) > 0 && rest[0] == 'Z' {
			r.Advance(1)
			break
		}
		if err := r.Skip(); err != nil {
			return values, true, err
		}
		values++
	}
	return values, true, nil
}

func clip(b []byte) []byte { return b[:min(len(b), 80)] }
