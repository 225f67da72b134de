// Package expression reads the forms of CEL that Istio's Telemetry is written with:
// attributes, headers, texts and whole numbers, compared and joined. It is no CEL: what it
// does not read it refuses, by where it stands. It evaluates nothing.
package expression

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Node is an expression. Of its fields those are set that its Kind says.
type Node struct {
	Kind Kind
	// Text is the name of an attribute, as "request.headers", of an operator or of a
	// function, or the text of a literal.
	Text   string
	Key    string // of an attribute that is indexed: request.headers['Key']
	Keyed  bool
	Number int64
	Of     []Node // of an operator, and of a function: what it is called on is the first
}

// Kind tells what a Node is.
type Kind uint8

// The kinds.
const (
	Text Kind = iota
	Number
	Bool      // Text is "true" or "false"
	Attribute // Text, and perhaps Key
	Operator  // Text is !, &&, ||, ==, !=, <, <=, > or >=
	Call      // Text is the function's name
)

// The bounds of an expression: bytes, and how deep it nests.
const (
	maxBytes = 4 << 10
	maxDepth = 32
)

// errEnd says that an expression ends too early.
var errEnd = errors.New("it ends too early")

// Read returns what text says, or why it cannot be read.
func Read(text string) (Node, error) {
	if len(text) > maxBytes {
		return Node{}, fmt.Errorf("it has %d bytes, more than %d", len(text), maxBytes)
	}
	tokens, err := split(text)
	if err != nil {
		return Node{}, err
	}
	r := reader{tokens: tokens}
	n, err := r.binary(0)
	if err == nil && len(r.tokens) > 0 {
		err = fmt.Errorf("%q is not read", r.tokens[0].text)
	}
	return n, err
}

// token is a part of an expression; quoted are texts.
type token struct {
	text   string
	quoted bool
}

// signs are the operators and brackets, longer ones first.
var signs = []string{"&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", "[", "]", ".", ",", "-"}

func split(text string) ([]token, error) {
	var list []token
	for {
		text = strings.TrimLeft(text, " \t\r\n")
		if text == "" {
			return list, nil
		}
		if c := text[0]; c == '\'' || c == '"' {
			end := strings.IndexByte(text[1:], c)
			if end < 0 {
				return nil, errors.New("a text does not end")
			}
			if strings.ContainsAny(text[1:1+end], "\\\n") {
				return nil, errors.New("a text with a backslash or a line's end is not read")
			}
			list, text = append(list, token{text[1 : 1+end], true}), text[end+2:]
			continue
		}
		n := strings.IndexFunc(text, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
		if n < 0 {
			n = len(text)
		}
		for _, sign := range signs {
			if n == 0 && strings.HasPrefix(text, sign) {
				n = len(sign)
			}
		}
		if n == 0 {
			return nil, fmt.Errorf("%q is not read", []rune(text)[0])
		}
		list, text = append(list, token{text[:n], false}), text[n:]
	}
}

// reader reads tokens from the first on.
type reader struct {
	tokens []token
	depth  int
}

// next tells whether the next token is one of the signs, and takes it.
func (r *reader) next(signs ...string) (string, bool) {
	for _, sign := range signs {
		if len(r.tokens) > 0 && !r.tokens[0].quoted && r.tokens[0].text == sign {
			r.tokens = r.tokens[1:]
			return sign, true
		}
	}
	return "", false
}

// levels are the operators with two sides, the loosest first.
var levels = [][]string{{"||"}, {"&&"}, {"==", "!=", "<=", ">=", "<", ">"}}

func (r *reader) binary(level int) (Node, error) {
	if level == len(levels) {
		return r.unary()
	}
	left, err := r.binary(level + 1)
	for err == nil {
		sign, ok := r.next(levels[level]...)
		if !ok {
			break
		}
		var right Node
		right, err = r.binary(level + 1)
		left = Node{Kind: Operator, Text: sign, Of: []Node{left, right}}
	}
	return left, err
}

func (r *reader) unary() (Node, error) {
	if r.depth++; r.depth > maxDepth {
		return Node{}, fmt.Errorf("it nests deeper than %d", maxDepth)
	}
	defer func() { r.depth-- }()
	if _, ok := r.next("!"); ok {
		n, err := r.unary()
		return Node{Kind: Operator, Text: "!", Of: []Node{n}}, err
	}
	if _, ok := r.next("("); ok {
		n, err := r.binary(0)
		if err == nil {
			err = r.expect(")")
		}
		return n, err
	}
	return r.operand()
}

func (r *reader) expect(sign string) error {
	if _, ok := r.next(sign); ok {
		return nil
	}
	if len(r.tokens) == 0 {
		return errEnd
	}
	return fmt.Errorf("%q stands where %q is missing", r.tokens[0].text, sign)
}

// operand reads a literal, or a name with what is behind it.
func (r *reader) operand() (Node, error) {
	_, negative := r.next("-")
	if len(r.tokens) == 0 {
		return Node{}, errEnd
	}
	t := r.tokens[0]
	r.tokens = r.tokens[1:]
	switch c := []rune(t.text + " ")[0]; {
	case t.quoted && !negative:
		return Node{Kind: Text, Text: t.text}, nil
	case !t.quoted && unicode.IsDigit(c):
		n, err := strconv.ParseInt(t.text, 10, 64)
		if err != nil {
			return Node{}, fmt.Errorf("%q is no whole number", t.text)
		}
		if negative {
			n = -n
		}
		return Node{Kind: Number, Number: n}, nil
	case t.quoted || negative || !isName(t.text):
		return Node{}, fmt.Errorf("%q is not read", t.text)
	case t.text == "true" || t.text == "false":
		return Node{Kind: Bool, Text: t.text}, nil
	}
	return r.name(Node{Kind: Attribute, Text: t.text})
}

// isName tells whether a token is a name.
func isName(text string) bool {
	return text != "" && (text[0] == '_' || unicode.IsLetter([]rune(text)[0]))
}

// name reads what is behind a name: fields, a key, calls.
func (r *reader) name(n Node) (Node, error) {
	for {
		sign, ok := r.next("(", "[", ".")
		switch {
		case !ok:
			return n, nil
		case sign == "(" && n.Kind == Attribute && !n.Keyed && !strings.Contains(n.Text, "."):
			args, err := r.arguments()
			if err != nil {
				return n, err
			}
			n = Node{Kind: Call, Text: n.Text, Of: args}
		case sign == "[" && n.Kind == Attribute && !n.Keyed:
			if len(r.tokens) == 0 || !r.tokens[0].quoted {
				return n, fmt.Errorf("%s[...]: only a text is read as a key", n.Text)
			}
			n.Key, n.Keyed, r.tokens = r.tokens[0].text, true, r.tokens[1:]
			if err := r.expect("]"); err != nil {
				return n, err
			}
		case sign == "." && len(r.tokens) > 0 && !r.tokens[0].quoted && isName(r.tokens[0].text):
			member := r.tokens[0].text
			r.tokens = r.tokens[1:]
			if _, called := r.next("("); called {
				args, err := r.arguments()
				if err != nil {
					return n, err
				}
				n = Node{Kind: Call, Text: member, Of: append([]Node{n}, args...)}
				continue
			}
			if n.Kind != Attribute || n.Keyed {
				return n, fmt.Errorf("%q is not read there", "."+member)
			}
			n.Text += "." + member
		default:
			return n, fmt.Errorf("%q is not read there", sign)
		}
	}
}

// arguments reads what is between brackets, behind the first one.
func (r *reader) arguments() ([]Node, error) {
	if r.depth++; r.depth > maxDepth {
		return nil, fmt.Errorf("it nests deeper than %d", maxDepth)
	}
	defer func() { r.depth-- }()
	var list []Node
	if _, ok := r.next(")"); ok {
		return nil, nil
	}
	for {
		n, err := r.binary(0)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
		if _, ok := r.next(","); !ok {
			return list, r.expect(")")
		}
	}
}
