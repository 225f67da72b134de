// Package edit works out what changes make of a request's attachments. It knows no
// wire format: package dubbo writes what comes out.
package edit

import (
	"errors"
	"slices"
)

// errEdit: later values may name the attachment, which is then not to be moved.
var errEdit = errors.New("the attachment is no text, number or boolean")

// How says what an Edit does.
type How uint8

// The ways to change an attachment.
const (
	Set     How = iota // overwrite it, or add it
	Append             // add to its text behind a comma, as of a header's values; or add it
	Add                // unless it is there
	Replace            // if it is there
	Remove
)

// Edit changes one attachment of a request. Names are compared as they are.
type Edit struct {
	Name, Value string
	How         How
}

// Attachment is one that a request has.
type Attachment struct {
	Name, Value string
	OK          bool // it is a text, a number or a boolean
}

// Change is what becomes of an attachment that a request has.
type Change struct {
	At    int // its index
	Drop  bool
	Value string
}

// Plan finds what becomes of the attachments that a request has, in their order, and
// which ones come to them, when edits are made in their order. Of several with one
// name the last counts; a change leaves one. An error means that one which is to be
// changed cannot be.
func Plan(have []Attachment, edits []Edit) (changes []Change, added []Edit, err error) {
	state := make(map[int]Change)
	for _, e := range edits {
		at := find(have, state, e.Name)
		here := slices.IndexFunc(added, func(a Edit) bool { return a.Name == e.Name })
		there := at >= 0 || here >= 0
		switch {
		case e.How == Add && there, e.How == Replace && !there, e.How == Remove && !there:
		case at >= 0:
			if err := alter(have, state, at, e); err != nil {
				return nil, nil, err
			}
		case e.How == Remove:
			added = slices.Delete(added, here, here+1)
		case here >= 0:
			added[here].Value = joined(added[here].Value, e)
		default:
			added = append(added, e)
		}
	}
	for i := range have {
		if c, ok := state[i]; ok {
			changes = append(changes, c)
		}
	}
	return changes, added, nil
}

// alter applies an edit to the attachment that counts, and drops others of its name.
func alter(have []Attachment, state map[int]Change, at int, e Edit) error {
	for i := range have {
		if have[i].Name != e.Name {
			continue
		}
		if !have[i].OK {
			return errEdit
		}
		if i != at {
			state[i] = Change{At: i, Drop: true}
		}
	}
	before := have[at].Value
	if c, ok := state[at]; ok {
		before = c.Value
	}
	state[at] = Change{At: at, Drop: e.How == Remove, Value: joined(before, e)}
	return nil
}

// find returns the attachment of a name that counts, and is still there.
func find(have []Attachment, state map[int]Change, name string) int {
	for i, a := range slices.Backward(have) {
		if a.Name == name && !state[i].Drop {
			return i
		}
	}
	return -1
}

func joined(before string, e Edit) string {
	if e.How == Append {
		return before + "," + e.Value
	}
	return e.Value
}
