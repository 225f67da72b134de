package dubbo

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	oracle "github.com/apache/dubbo-go-hessian2"

	"github.com/dubway/dubway/l7proxy/codec"
)

type item struct {
	ID   int32
	Name string
}

func (item) JavaClassName() string { return "org.example.Item" }

// oracleArguments are values that the oracle writes, and their texts; "" for
// those that have none.
func oracleArguments(tb testing.TB) (values []any, texts []string) {
	tb.Helper()
	oracle.RegisterPOJO(&item{})
	add := func(v any, text string) { values, texts = append(values, v), append(texts, text) }
	for _, n := range []int64{0, 1, -1, 15, -8, 47, -16, 48, 2047, -2048, 2048, 262143, -262144, 262144, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64} {
		add(n, strconv.FormatInt(n, 10))
		if int64(int32(n)) == n {
			add(int32(n), strconv.FormatInt(n, 10))
		}
	}
	for _, f := range []float64{0, 1, -1, 127, -128, 128, 32767, 32768, 0.001, 12.5, math.Pi, 1e20} {
		add(f, strconv.FormatFloat(f, 'f', -1, 64))
	}
	for _, s := range []string{"x", "jason", "é", "中文", "😀", strings.Repeat("x", 40), strings.Repeat("😀", 600), strings.Repeat("中", 40_000)} {
		add(s, s)
	}
	add(true, "true")
	add(false, "false")
	for _, v := range []any{
		nil, &item{1, "a"}, []any{1, "a"}, map[any]any{"k": 1}, []byte("ab"), []string{"a"}, &item{2, "b"}, math.NaN(), math.Inf(-1),
	} {
		add(v, "")
	}
	add("last", "last")
	return values, texts
}

// TestArgumentsAgreeWithTheOracle reads what the oracle wrote as the arguments of
// a call, and as those of a generic call, asked for in both orders.
func TestArgumentsAgreeWithTheOracle(t *testing.T) {
	values, texts := oracleArguments(t)
	if len(values) > MaxArguments {
		t.Fatal("too many for one call")
	}
	plain := written(t, append([]any{"2.0.2", "shop.Cart", "1.0", "add", strings.Repeat("Ljava/lang/Object;", len(values))}, values...)...)
	types := make([]string, len(values))
	generic := written(t, "2.0.2", "shop.Cart", "1.0", "$invoke",
		"Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;", "add", types, values)
	for name, body := range map[string][]byte{"plain": plain, "generic": generic} {
		p, st := ParsePrefix(Hessian2, body)
		if st != codec.Complete || p.Method != "add" || p.Generic != (name == "generic") {
			t.Fatalf("%s: %v %+v", name, st, p)
		}
		var forth, back Body
		forth.Reset(codec.Header{Flags: Hessian2}, body, p)
		back.Reset(codec.Header{Flags: Hessian2}, body, p)
		for i, want := range texts {
			j := len(texts) - 1 - i
			for _, wrong := range []string{differs(&forth, i, want), differs(&back, j, texts[j])} {
				if wrong != "" {
					t.Errorf("%s: %s", name, wrong)
				}
			}
		}
		if value, ok, err := forth.Lookup("env"); value != "gray" || !ok || err != nil {
			t.Errorf("%s: behind them: %q, %v, %v", name, value, ok, err)
		}
	}
}

// differs says how an argument is not what is wanted; "" if it is.
func differs(b *Body, index int, want string) string {
	got, ok, err := b.Argument(index)
	if got != want || ok != (want != "") || err != nil {
		return fmt.Sprintf("argument %d is %.40q, %v, %v; want %.40q", index, got, ok, err, want)
	}
	return ""
}

// written is a body of values and attachments.
func written(t *testing.T, values ...any) []byte {
	t.Helper()
	e := oracle.NewEncoder()
	for _, v := range append(values, map[string]string{"env": "gray"}) {
		if err := e.Encode(v); err != nil {
			t.Fatalf("encode %T: %v", v, err)
		}
	}
	return e.Buffer()
}

// A body that is cut anywhere has the arguments before the cut and no other.
func TestArgumentsCutAnywhere(t *testing.T) {
	var whole, cut Body
	for _, g := range goldens(t) {
		h, err := ParseHeader(g.frame)
		if err != nil {
			continue
		}
		body := g.frame[HeaderLen:]
		p, st := ParsePrefix(h.Serialization(), body)
		whole.Reset(h, body, p)
		if _, _, err := whole.Lookup("group"); st != codec.Complete || err != nil {
			continue
		}
		for end := p.End; end < len(body); end++ {
			cut.Reset(h, body[:end:end], p)
			for i := range 30 {
				want, exists, _ := whole.Argument(i)
				got, ok, err := cut.Argument(i)
				if ok && (!exists || got != want) || !ok && err == nil && exists {
					t.Fatalf("%s cut at %d: argument %d is %q, %v, %v; want %q", g.name, end, i, got, ok, err, want)
				}
			}
		}
	}
}

func TestSpelling(t *testing.T) {
	body := written(t, "2.0.2", "a", "1", "m", "", map[string]string{"User": "a"})
	// The oracle writes one spelling; a hostile consumer writes several.
	body = body[:len(body)-len("H\x03env\x04grayZ")]
	body = append(body[:len(body)-1], "\x04user\x01b\x04USER\x91\x04user\x01c\x05users\x01d\x04usEr\x78Z"...)
	p, st := ParsePrefix(Hessian2, body)
	if st != codec.Complete {
		t.Fatal(st)
	}
	var b Body
	b.Reset(codec.Header{Flags: Hessian2}, body, p)
	var got []string
	for nth := 0; ; nth++ {
		value, ok, err := b.Spelling("uSEr", nth)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		got = append(got, value)
	}
	if want := "a b 1 c"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
