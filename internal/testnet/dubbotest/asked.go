package dubbotest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// asked is a request as a Provider reads it. All is of the body.
type asked struct{ iface, method, argument, rest []byte }

// parseRequest finds the interface, the method and the argument's bytes in a request's
// body, and what follows the argument.
func parseRequest(body []byte) (ask asked, err error) {
	var words [5][]byte // version, interface, service version, method, descriptor
	rest := body
	for i := range words {
		if words[i], rest, err = text(rest); err != nil {
			return ask, err
		}
	}
	if len(words[4]) == 0 {
		return asked{words[1], words[3], []byte{'N'}, rest}, nil
	}
	if string(words[3]) == "$invoke" {
		if rest, err = argumentsOf(rest); err != nil {
			return ask, err
		}
	}
	after, err := skipValue(rest)
	if err != nil {
		return ask, err
	}
	return asked{words[1], words[3], rest[:len(rest)-len(after)], after}, nil
}

// argumentsOf returns what follows the head of the arguments of a generic call: it
// has a name, null for the types, and a short list.
func argumentsOf(b []byte) ([]byte, error) {
	for range 2 {
		var err error
		if b, err = skipValue(b); err != nil {
			return nil, err
		}
	}
	if len(b) == 0 || b[0] <= listOf || b[0] > listOf+7 {
		return nil, fmt.Errorf("%w: no list of arguments", errBody)
	}
	return b[1:], nil
}

// attached answers with the attachments that follow the arguments.
func (s *served) attached(id uint64, b []byte) error {
	for len(b) > 0 && b[0] != 'H' { // a second argument
		var err error
		if b, err = skipValue(b); err != nil {
			return err
		}
	}
	document, err := json.Marshal(attachments(b))
	if err != nil {
		return fmt.Errorf("write attachments: %w", err)
	}
	s.answer(func(b []byte) []byte { return s.echo(b, id, appendBytes(nil, document)) })
	return nil
}

// failsNow tells whether a call of flakyN, which is counted already, is one of the N
// that fail.
func (p *Provider) failsNow(method string) bool {
	number, flaky := strings.CutPrefix(method, "flaky")
	n, err := strconv.ParseInt(number, 10, 64)
	if !flaky || err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.methods[method]%(n+1) != 0
}
