package jsonb

// What an open object wants; an open array wants a number of values.
const (
	objectKey   = -1 // a key, or the end
	objectValue = -2 // a value
)

// Skip returns the size of the value at the start of b, with all that is in it.
func Skip(b []byte) (size int, err error) {
	var open [MaxDepth]int32 // what each open container still wants
	depth := 0
	for {
		n, opens, err := value(b[size:])
		if err != nil {
			return 0, err
		}
		size += n
		if opens != 0 {
			if depth == MaxDepth {
				return 0, ErrLimit
			}
			open[depth] = opens
			depth++
		}
		for depth > 0 {
			wants := &open[depth-1]
			if *wants == objectKey && size < len(b) && b[size] == ObjectEnd {
				size++
				*wants = 0
			}
			if *wants != 0 {
				*wants = next(*wants)
				break
			}
			depth--
		}
		if depth == 0 {
			return size, nil
		}
	}
}

// next returns what a container wants after the value that is read now.
func next(wants int32) int32 {
	switch wants {
	case objectKey:
		return objectValue
	case objectValue:
		return objectKey
	}
	return wants - 1
}

// value returns the size of the scalar, or of the container's head, at the
// start of b; and what the container wants, 0 if it is empty or no container.
func value(b []byte) (size int, opens int32, err error) {
	if size, err = SkipType(b); err != nil {
		return 0, 0, err
	}
	b = b[size:]
	if len(b) == 0 {
		return 0, 0, ErrMalformed
	}
	switch tag := b[0]; {
	case tag == Object:
		return size + 1, objectKey, nil
	case tagArray0 <= tag && tag < tagArray:
		return size + 1, int32(tag - tagArray0), nil
	case tag == tagArray:
		count, n, err := length(b[1:])
		return size + 1 + n, int32(count), err
	}
	n, err := scalar(b)
	return size + n, 0, err
}

// SkipType returns the size of the type that may stand before a value; 0 if
// none does.
func SkipType(b []byte) (size int, err error) {
	if len(b) == 0 || b[0] != tagTyped {
		return 0, nil
	}
	n, err := name(b[1:])
	return 1 + n, err
}

// name returns the size of a type or a symbol behind its tag: a string and its
// number, or the number of one that was named before.
func name(b []byte) (size int, err error) {
	if len(b) > 0 && IsText(b[0]) {
		head, n, err := textHead(b)
		if err != nil {
			return 0, err
		}
		size = head + n
	}
	_, n, err := Int(b[size:])
	return size + n, err
}

// scalar returns the size of a value that holds no other.
func scalar(b []byte) (size int, err error) {
	tag := b[0]
	switch {
	case intSize(tag) > 0:
		_, size, err = Int(b)
		return size, err
	case IsText(tag):
		head, n, err := textHead(b)
		return head + n, err
	case tag == tagSymbol:
		size, err = name(b[1:])
		return 1 + size, err
	case tag == tagBinary || tag == tagBigInt:
		n, head, err := length(b[1:])
		if err != nil || len(b)-1-head < n {
			return 0, ErrMalformed
		}
		return 1 + head + n, nil
	}
	s := shapes[tag]
	if !s.known || len(b) < 1+s.bytes {
		return 0, ErrMalformed
	}
	size = 1 + s.bytes
	for range s.ints {
		_, n, err := Int(b[size:])
		if err != nil {
			return 0, err
		}
		size += n
	}
	if s.last == 0 {
		return size, nil
	}
	return last(b, size, s.last)
}

// last adds the one part of a scalar that is neither fixed nor a number.
func last(b []byte, size int, kind byte) (int, error) {
	rest := b[size:]
	if kind == tagText {
		head, n, err := textHead(rest)
		return size + head + n, err
	}
	if len(rest) > 0 && rest[0] == tagBigInt {
		n, head, err := length(rest[1:])
		if err != nil || len(rest)-1-head < n {
			return 0, ErrMalformed
		}
		return size + 1 + head + n, nil
	}
	_, n, err := Int(rest)
	return size + n, err
}

// shape is what follows a scalar's tag: bytes, then whole numbers, then a text
// or a big integer.
type shape struct {
	known bool
	bytes int
	ints  int
	last  byte // tagText, tagBigInt or 0
}

var shapes = [256]shape{
	Null:         {known: true},
	False:        {known: true},
	True:         {known: true},
	tagChar:      {known: true, ints: 1},
	tagReference: {known: true, last: tagText},
	tagLocalTime: {known: true, bytes: 3, ints: 1},
	0xa8:         {known: true, bytes: 7, ints: 1}, // local date and time
	tagLocalDate: {known: true, bytes: 4},
	tagZoned:     {known: true, bytes: 7, ints: 1, last: tagText},
	0xab:         {known: true, bytes: 8}, // milliseconds
	0xac:         {known: true, bytes: 4}, // seconds
	0xad:         {known: true, bytes: 4}, // minutes
	tagInstant:   {known: true, ints: 2},
	tagDouble0:   {known: true},
	tagDouble1:   {known: true},
	tagDoubleInt: {known: true, ints: 1},
	tagDouble:    {known: true, bytes: 8},
	tagFloatInt:  {known: true, ints: 1},
	tagFloat:     {known: true, bytes: 4},
	0xb8:         {known: true, ints: 1}, // decimal that is whole
	tagDecimal:   {known: true, ints: 1, last: tagBigInt},
	0xba:         {known: true, ints: 1}, // big integer that is a long
}
