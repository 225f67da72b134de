package identity

import "errors"

// errNone says what an operator must know who finds it in a log.
var errNone = errors.New("nothing gives this proxy certificates: mutual TLS needs a control plane that signs them")

// None is the Source of a proxy without identities.
type None struct{}

var _ Source = None{}

// Bundle has none. Part of Source.
func (None) Bundle(Account) (*Bundle, error) { return nil, errNone }
