// Package field holds what every field of its kind in a message is checked by, whoever sent
// it.
package field

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Limits, in bytes.
const (
	MaxName = 512 // of a uid, a name, a namespace
	MaxText = 4096
)

// Prefix refuses prefixes with bits beyond their length.
func Prefix(p netip.Prefix) error {
	if !p.IsValid() {
		return errors.New("prefix is missing")
	}
	if err := Addr("prefix", p.Addr()); err != nil {
		return err
	}
	if p != p.Masked() {
		return fmt.Errorf("prefix %s has bits beyond its length", p)
	}
	return nil
}

// AddrPort is Addr of an address with a port.
func AddrPort(what string, a netip.AddrPort) error {
	if a.Port() == 0 {
		return fmt.Errorf("%s %s: port is missing", what, a)
	}
	return Addr(what, a.Addr())
}

// Addr refuses the forms that would let one address have two spellings: v4-mapped
// addresses and zones. Who has one normalises it first.
func Addr(what string, a netip.Addr) error {
	switch {
	case !a.IsValid():
		return fmt.Errorf("%s is missing", what)
	case a.Is4In6():
		return fmt.Errorf("%s %s is v4-mapped", what, a)
	case a.Zone() != "":
		return fmt.Errorf("%s %s has a zone", what, a)
	}
	return nil
}

// Name wants a short text without control characters.
func Name(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%s is missing", what)
	case len(s) > MaxName:
		return fmt.Errorf("%s is %d bytes long", what, len(s))
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%s has control characters", what)
	}
	return nil
}

// Text bounds what is for people.
func Text(what, s string) error {
	if len(s) > MaxText {
		return fmt.Errorf("%s is %d bytes long", what, len(s))
	}
	return nil
}
