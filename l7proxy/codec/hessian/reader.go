package hessian

import (
	"math"
)

// Reader skips the values of one body, which share class definitions. The zero
// Reader reads nothing; Reset gives it a body. A Reader is about 2 KiB and meant
// to be kept and reset; it is not safe for concurrent use.
type Reader struct {
	b       []byte
	pos     int
	budget  int     // values that may still be read
	taken   int     // of Taken, before Reset
	classes []int32 // number of fields, by definition
	depth   int
	open    [MaxDepth]int32 // what each open container still wants
}

// Endless is List's number for a list that ends with 'Z'.
const Endless = -1

// What an open container wants, when it is not a number of values.
const (
	listEnd  = Endless // values until 'Z'
	mapKey   = -2      // a key, or 'Z'
	mapValue = -3      // a value; 'Z' is malformed here
)

// Reset makes the Reader start at the beginning of b, which it aliases until
// the next Reset.
func (r *Reader) Reset(b []byte) {
	r.taken += r.values()
	r.b, r.pos, r.depth, r.budget = b, 0, 0, MaxValues
	r.classes = r.classes[:0]
}

// Taken returns how many values have been read since it was called last, whatever was
// Reset, counted as MaxValues does.
func (r *Reader) Taken() int {
	n := r.taken + r.values()
	r.taken = -r.values() // they are not to be counted again
	return n
}

// values is what has been read since Reset.
func (r *Reader) values() int {
	if r.b == nil {
		return 0
	}
	return MaxValues - r.budget
}

// Offset returns how far the Reader has come.
func (r *Reader) Offset() int { return r.pos }

// Rest returns what has not been read.
func (r *Reader) Rest() []byte { return r.b[r.pos:] }

// Advance says that the caller has read n bytes of Rest itself: whole values
// without class definitions, or the marks of a container around values.
func (r *Reader) Advance(n int) { r.pos += n }

// Skip reads one value, with all that is in it. After an error the Reader must
// be Reset; after ErrMore, with more of the body.
func (r *Reader) Skip() error {
	r.depth = 0
	if err := r.value(); err != nil {
		return err
	}
	for r.depth > 0 {
		wants := &r.open[r.depth-1]
		switch {
		case *wants == 0:
			r.depth--
			continue
		case *wants > 0:
			*wants--
		default:
			if r.pos >= len(r.b) {
				return ErrMore
			}
			if *wants != mapValue && r.b[r.pos] == 'Z' {
				r.pos++
				r.depth--
				continue
			}
			*wants = afterwards(*wants)
		}
		if err := r.value(); err != nil {
			return err
		}
	}
	return nil
}

// List reads the head of a list, and returns the number of the values that
// follow; Endless if they end with 'Z', which the caller reads. It is false, and
// the value is still to be read, where something else than a list follows.
func (r *Reader) List() (values int, ok bool, err error) {
	if err := r.definitions(); err != nil {
		return 0, false, err
	}
	r.depth = 0
	switch tag := r.b[r.pos]; {
	case 0x70 <= tag && tag <= 0x7f:
		err = r.shortList(tag)
	case tag == 'V' || tag == 'X':
		r.pos++
		err = r.fixedList(tag == 'V')
	case tag == 'U':
		r.pos++
		err = r.typed(listEnd)
	case tag == 'W':
		r.pos++
		err = r.push(listEnd)
	default:
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	r.depth = 0
	return int(r.open[0]), true, nil
}

// afterwards returns what an endless container wants after one more value.
func afterwards(wants int32) int32 {
	switch wants {
	case mapKey:
		return mapValue
	case mapValue:
		return mapKey
	}
	return listEnd
}

// value reads a scalar whole, or the head of a container, which it opens.
func (r *Reader) value() error {
	if err := r.definitions(); err != nil {
		return err
	}
	tag := r.b[r.pos]
	if n := int(sizes[tag]); n > 0 {
		return r.bytes(n)
	}
	switch {
	case IsText(tag):
		return r.text()
	case tag == 'A' || tag == 'B' || 0x34 <= tag && tag <= 0x37:
		return r.binary()
	case 0x60 <= tag && tag <= 0x6f:
		r.pos++
		return r.object(int(tag - 0x60))
	case 0x70 <= tag && tag <= 0x7f:
		return r.shortList(tag)
	}
	r.pos++
	switch tag {
	case 'H':
		return r.push(mapKey)
	case 'M':
		return r.typed(mapKey)
	case 'O':
		class, err := r.count()
		if err != nil {
			return err
		}
		return r.object(class)
	case 'Q':
		_, err := r.count()
		return err
	case 'U':
		return r.typed(listEnd)
	case 'W':
		return r.push(listEnd)
	case 'V', 'X':
		return r.fixedList(tag == 'V')
	}
	return ErrMalformed
}

// definitions reads the class definitions that stand before a value, and leaves
// the Reader at the value's first byte.
func (r *Reader) definitions() error {
	if err := r.spend(1); err != nil {
		return err
	}
	for {
		if r.pos >= len(r.b) {
			return ErrMore
		}
		if r.b[r.pos] != 'C' {
			return nil
		}
		r.pos++
		if err := r.definition(); err != nil {
			return err
		}
	}
}

// definition reads what follows 'C': a name, and the names of the fields.
func (r *Reader) definition() error {
	if len(r.classes) >= MaxClasses {
		return ErrLimit
	}
	if err := r.text(); err != nil {
		return err
	}
	n, err := r.count()
	if err != nil {
		return err
	}
	if err := r.spend(n); err != nil {
		return err
	}
	for range n {
		if err := r.text(); err != nil {
			return err
		}
	}
	r.classes = append(r.classes, int32(n))
	return nil
}

// object opens an instance of a class that must have been defined.
func (r *Reader) object(class int) error {
	if class >= len(r.classes) {
		return ErrMalformed
	}
	return r.push(r.classes[class])
}

// shortList opens 0x70-0x77 (typed) and 0x78-0x7f, whose tag holds the length.
func (r *Reader) shortList(tag byte) error {
	r.pos++
	if tag < 0x78 {
		return r.typed(int32(tag - 0x70))
	}
	return r.push(int32(tag - 0x78))
}

// fixedList opens 'V' (typed) and 'X', whose length follows.
func (r *Reader) fixedList(typed bool) error {
	if typed {
		if err := r.SkipType(); err != nil {
			return err
		}
	}
	n, err := r.count()
	if err != nil {
		return err
	}
	if n > r.budget {
		return ErrLimit
	}
	return r.push(int32(n))
}

// typed opens a container whose type name stands before its values.
func (r *Reader) typed(wants int32) error {
	if err := r.SkipType(); err != nil {
		return err
	}
	return r.push(wants)
}

// SkipType reads the type of a typed list or map: its name, or the number of one that was named before.
func (r *Reader) SkipType() error {
	if r.pos < len(r.b) && IsText(r.b[r.pos]) {
		return r.text()
	}
	_, err := r.count()
	return err
}

func (r *Reader) push(wants int32) error {
	if r.depth == MaxDepth {
		return ErrLimit
	}
	r.open[r.depth] = wants
	r.depth++
	return nil
}

func (r *Reader) text() error {
	n, err := skipText(r.b[r.pos:])
	if err != nil {
		return err
	}
	r.pos += n
	return nil
}

// binary reads chunks of bytes up to the last one.
func (r *Reader) binary() error {
	for {
		b := r.b[r.pos:]
		if len(b) == 0 {
			return ErrMore
		}
		switch tag := b[0]; {
		case 0x20 <= tag && tag <= 0x2f:
			return r.bytes(1 + int(tag-0x20))
		case 0x34 <= tag && tag <= 0x37:
			if len(b) < 2 {
				return ErrMore
			}
			return r.bytes(2 + int(tag-0x34)<<8 + int(b[1]))
		case tag != 'A' && tag != 'B':
			return ErrMalformed
		case len(b) < 3:
			return ErrMore
		}
		n := int(b[1])<<8 | int(b[2])
		if err := r.bytes(3 + n); err != nil || b[0] == 'B' {
			return err
		}
	}
}

// count reads an int that is a length or an index.
func (r *Reader) count() (int, error) {
	if r.pos >= len(r.b) {
		return 0, ErrMore
	}
	if !numbers[r.b[r.pos]].isCount() {
		return 0, ErrMalformed
	}
	v, n, err := Int(r.b[r.pos:])
	if err != nil {
		return 0, err
	}
	if v < 0 || v > math.MaxInt32 {
		return 0, ErrMalformed
	}
	r.pos += n
	return int(v), nil
}

func (r *Reader) bytes(n int) error {
	if len(r.b)-r.pos < n {
		return ErrMore
	}
	r.pos += n
	return nil
}

// spend takes n from the number of values that may still be read.
func (r *Reader) spend(n int) error {
	if n > r.budget {
		return ErrLimit
	}
	r.budget -= n
	return nil
}
