package expression

import (
	"fmt"
	"strings"
	"testing"
)

// show writes a node with all its brackets.
func (n *Node) show() string {
	var of []string
	for i := range n.Of {
		of = append(of, n.Of[i].show())
	}
	switch n.Kind {
	case Text:
		return fmt.Sprintf("%q", n.Text)
	case Number:
		return fmt.Sprint(n.Number)
	case Attribute:
		if n.Keyed {
			return n.Text + "[" + n.Key + "]"
		}
		return n.Text
	case Operator, Call:
		return n.Text + "(" + strings.Join(of, " ") + ")"
	case Bool:
	}
	return n.Text
}

func TestRead(t *testing.T) {
	tests := []struct{ text, want string }{
		{"response.code >= 400", ">=(response.code 400)"},
		{"'a' == \"b\"", `==("a" "b")`},
		{"request.headers['x-y']", "request.headers[x-y]"},
		{"!a && b || c.d == -5", "||(&&(!(a) b) ==(c.d -5))"},
		{"a || b && c", "||(a &&(b c))"},
		{"!(a || true)", "!(||(a true))"},
		{"has(response.code)", "has(response.code)"},
		{"request.headers['x'].startsWith('a')", `startsWith(request.headers[x] "a")`},
		{"request.duration > duration('1s')", `>(request.duration duration("1s"))`},
		{"f()", "f()"},
		{" f ( a , 'b' ) ", `f(a "b")`},
	}
	for _, test := range tests {
		n, err := Read(test.text)
		if err != nil || n.show() != test.want {
			t.Errorf("%s is %s, %v; want %s", test.text, n.show(), err, test.want)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "too early",
		"a ==":                    "too early",
		"(a":                      "too early",
		"a)":                      `")" is not read`,
		"a b":                     `"b" is not read`,
		"'a":                      "does not end",
		`'a\n'`:                   "backslash",
		"a ? b : c":               "is not read",
		"a + b":                   "is not read",
		"a[0]":                    "only a text",
		"a['x'].y":                "is not read there",
		"a['x']['y']":             "is not read there",
		"a.b.(c)":                 "is not read there",
		"1.5":                     "is not read",
		"99999999999999999999":    "no whole number",
		"-'a'":                    "is not read",
		"&& a":                    "is not read",
		strings.Repeat("!", 100):  "nests deeper",
		strings.Repeat("(", 100):  "nests deeper",
		strings.Repeat("f(", 100): "nests deeper",
		strings.Repeat("a", 5000): "more than 4096",
	} {
		if n, err := Read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s is %v, %v; want %q", text, n, err, want)
		}
	}
}

// FuzzRead: no text makes the reader fail otherwise than by an error that says something.
func FuzzRead(f *testing.F) {
	for _, text := range []string{"response.code >= 400", "!a && b['c'].f('d') || (e)", "f(a, 'b') == -1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := Read(text)
		if err != nil && strings.TrimSpace(err.Error()) == "" {
			t.Error("an error says nothing")
		}
		if err == nil && n.Kind == Operator && len(n.Of) == 0 {
			t.Errorf("%q is an operator of nothing", text)
		}
	})
}
