package dubbo

import (
	"errors"
	"fmt"

	"github.com/dubway/dubway/l7proxy/codec/dubbo/attachments"
	"github.com/dubway/dubway/l7proxy/codec/hessian"
	"github.com/dubway/dubway/l7proxy/codec/jsonb"
)

// MaxArguments is the number of arguments that can be asked for: a Java method
// has no more parameters.
const MaxArguments = 255

// arguments is how far a Body's arguments have been read.
type arguments struct {
	opened bool
	shut   error      // why the first one cannot be reached
	err    error      // why the next one cannot be read
	known  []argument // the first MaxArguments of those before next
	next   int        // index of the argument that is read next
	total  int        // hessian.Endless until the end is seen
	pos    int        // fastjson2: offset of the next one
	end    int        // fastjson2: offset behind them; of a generic call only
}

// argument is one that has been found.
type argument struct {
	start int // offset of its value
	read  bool
	text  string
	ok    bool
}

func (a *arguments) reset() { *a = arguments{known: a.known[:0]} }

// Argument returns the text of the argument at an index from 0, of a generic call
// the argument of the method that it names: of a string as it is, of a number in
// decimal and without an exponent, of a boolean true or false. It is false for
// null, for any other value and where the call has no such argument. An error
// means that the body cannot be read so far.
func (b *Body) Argument(index int) (text string, ok bool, err error) {
	if index < 0 || index >= MaxArguments {
		return "", false, nil
	}
	for b.args.next <= index {
		more, err := b.nextArgument()
		if err != nil || !more {
			return "", false, err
		}
	}
	a := &b.args.known[index]
	if !a.read {
		a.read = true
		a.text, a.ok = b.argumentText(b.body[a.start:])
	}
	return a.text, a.ok, nil
}

func (b *Body) argumentText(value []byte) (string, bool) {
	scalar := b.attached.Hessian
	if b.serialization == Fastjson2 {
		scalar = b.attached.JSONB
	}
	text, size, err := scalar(value)
	return text, size > 0 && err == nil
}

// nextArgument finds one more argument; false behind the last one.
func (b *Body) nextArgument() (bool, error) {
	a := &b.args
	if a.err != nil {
		return false, a.err
	}
	start, more, err := b.findArgument()
	if err != nil {
		a.err = fmt.Errorf("read arguments: %w", err)
		return false, a.err
	}
	if !more {
		return false, nil
	}
	if a.next < MaxArguments {
		a.known = append(a.known, argument{start: start})
	}
	a.next++
	return true, nil
}

// findArgument returns where the next argument begins, and steps over it.
func (b *Body) findArgument() (start int, more bool, err error) {
	switch err := b.openArguments(); {
	case err != nil:
		return 0, false, err
	case b.serialization == Fastjson2:
		return b.fastjsonArgument()
	}
	return b.hessianArgument()
}

// openArguments reads up to the first argument, once.
func (b *Body) openArguments() error {
	a := &b.args
	if a.opened {
		return a.shut
	}
	a.opened = true
	switch {
	case b.prefix.Types > len(b.body):
		a.shut = errBody
	case b.serialization == Hessian2:
		a.shut = b.openHessian()
	case b.serialization == Fastjson2:
		a.shut = b.openFastjson()
	default:
		a.shut = errSerialization
	}
	return a.shut
}

func (b *Body) openHessian() error {
	r := &b.reader
	r.Reset(b.body)
	r.Advance(b.prefix.Types)
	n, size, err := hessianTypes(r.Rest())
	if err != nil {
		return err
	}
	r.Advance(size)
	if b.args.total = n; !b.prefix.Generic {
		return nil
	}
	for range invokeHasArgs {
		if err := r.Skip(); err != nil {
			return err
		}
	}
	n, ok, err := r.List()
	if err != nil {
		return err
	}
	if b.args.total = n; !ok {
		return r.Skip()
	}
	return nil
}

func (b *Body) hessianArgument() (start int, more bool, err error) {
	r, a := &b.reader, &b.args
	if a.total == hessian.Endless && len(r.Rest()) > 0 && r.Rest()[0] == 'Z' {
		r.Advance(1)
		a.total = a.next
	}
	if a.next == a.total {
		return 0, false, nil
	}
	start = r.Offset()
	return start, true, r.Skip()
}

// hessianTypes reads what stands before the arguments, and returns their number
// and its own size. The descriptors of the types tell the number. Dubbox writes an
// int before them: -1, or, for serializations that need no descriptors, the number
// instead of them.
func hessianTypes(b []byte) (args, size int, err error) {
	n, size, err := hessian.Int(b)
	switch {
	case err == nil && n >= 0:
		return int(min(n, hessian.MaxValues+1)), size, nil
	case isCut(err):
		return 0, 0, err
	}
	desc, more, err := hessian.Text(b[size:])
	if err != nil {
		return 0, 0, err
	}
	args, err = descriptors(desc)
	return args, size + more, err
}

// isCut tells that the input ended inside a value.
func isCut(err error) bool { return errors.Is(err, hessian.ErrMore) }

// descriptors counts the JVM type descriptors in desc.
func descriptors(desc []byte) (n int, err error) {
	for i := 0; i < len(desc); n++ {
		for i < len(desc) && desc[i] == '[' {
			i++
		}
		if i == len(desc) {
			return 0, errBody
		}
		switch desc[i] {
		case 'B', 'C', 'D', 'F', 'I', 'J', 'S', 'V', 'Z':
			i++
		case 'L':
			for i < len(desc) && desc[i] != ';' {
				i++
			}
			if i == len(desc) {
				return 0, errBody
			}
			i++
		default:
			return 0, errBody
		}
	}
	return n, nil
}

func (b *Body) openFastjson() error {
	a := &b.args
	n, size, err := fastjsonTypes(b.body[b.prefix.Types:])
	if err != nil {
		return err
	}
	a.total, a.pos = n, b.prefix.Types+size
	if !b.prefix.Generic {
		return nil
	}
	for range invokeHasArgs {
		_, n, err := attachments.Element(b.body[a.pos:])
		if err != nil {
			return err
		}
		a.pos += n
	}
	value, size, err := attachments.Element(b.body[a.pos:])
	if err != nil {
		return err
	}
	a.end = a.pos + size
	a.pos = a.end - len(value)
	n, size, err = jsonb.Array(value)
	if err != nil {
		n, size = 0, len(value) // no array: no arguments
	}
	a.total, a.pos = n, a.pos+size
	return nil
}

func (b *Body) fastjsonArgument() (start int, more bool, err error) {
	a := &b.args
	if a.next == a.total {
		return 0, false, nil
	}
	start = a.pos
	if b.prefix.Generic {
		size, err := jsonb.Skip(b.body[a.pos:a.end])
		a.pos, b.work = a.pos+size, b.work+size
		return start, true, err
	}
	value, size, err := attachments.Element(b.body[a.pos:])
	a.pos += size
	return a.pos - len(value), true, err
}

// fastjsonTypes is hessianTypes for fastjson2, where Dubbox has no part.
func fastjsonTypes(b []byte) (args, size int, err error) {
	e, size, err := attachments.Element(b)
	if err != nil {
		return 0, 0, err
	}
	desc, n, err := jsonb.Text(e)
	if err != nil {
		return 0, 0, err
	}
	if n != len(e) {
		return 0, 0, errBody
	}
	args, err = descriptors(desc)
	return args, size, err
}
