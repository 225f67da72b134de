package hessian

import (
	"bytes"
	"errors"
	"math"
	"testing"

	oracle "github.com/apache/dubbo-go-hessian2"
)

// FuzzSkip: no panic, no step outside, an error is one of the three; what is
// cut asks for more; and where the oracle reads the value too, without having
// to know a class, both end at the same place.
func FuzzSkip(f *testing.F) {
	for _, b := range javaValues(f) {
		f.Add(b)
	}
	for _, v := range samples(f) {
		if b := encode(f, v); len(b) < 3000 {
			f.Add(b)
		}
	}
	var r Reader
	f.Fuzz(func(t *testing.T, b []byte) {
		r.Reset(b)
		err := r.Skip()
		if err != nil {
			if !errors.Is(err, ErrMore) && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrLimit) {
				t.Fatalf("unknown error %v", err)
			}
			return
		}
		end := r.Offset()
		if end < 1 || end > len(b) {
			t.Fatalf("ends at %d of %d", end, len(b))
		}
		r.Reset(b[:end-1])
		if err := r.Skip(); !errors.Is(err, ErrMore) {
			t.Fatalf("without its last byte: %v", err)
		}
		r.Reset(append(b[:end:end], 0xff))
		if err := r.Skip(); err != nil || r.Offset() != end {
			t.Fatalf("what follows matters: ends at %d, not %d, %v", r.Offset(), end, err)
		}
		if IsText(b[0]) {
			checkText(t, b[:end])
		}
		if where, ok := oracleEnd(b); ok && where != end {
			t.Fatalf("ends at %d, for the oracle at %d: % x", end, where, b)
		}
		if values, ok, err := walk(&r, b); ok && (err != nil || r.Offset() != end) {
			t.Fatalf("as a list of %d it ends at %d, not %d, %v", values, r.Offset(), end, err)
		}
		checkDouble(t, b[:end])
	})
}

// checkText: the text of an accepted string is written again as a value with
// the same text, and both readers of strings agree.
func checkText(t *testing.T, b []byte) {
	t.Helper()
	text, n, err := AppendText(nil, b)
	if err != nil || n != len(b) {
		t.Fatalf("AppendText: %d of %d, %v", n, len(b), err)
	}
	again, _, err := AppendText(nil, AppendString(nil, string(text)))
	if err != nil || !bytes.Equal(text, again) {
		t.Fatalf("%q comes back as %q, %v", text, again, err)
	}
	aliased, n, err := Text(b)
	if err == nil && (n != len(b) || !bytes.Equal(aliased, text)) {
		t.Fatalf("Text: %q, %d of %d; AppendText: %q", aliased, n, len(b), text)
	}
}

// checkDouble: a double is the oracle's, but for the last digit of the form in
// thousandths: the oracle divides where Java multiplies.
func checkDouble(t *testing.T, b []byte) {
	t.Helper()
	got, n, err := Double(b)
	if err != nil {
		return
	}
	v, err := oracle.NewDecoder(b).Decode()
	want, ok := v.(float64)
	near := b[0] == 0x5f && math.Abs(got-want) <= 1e-9
	if n != len(b) || err != nil || !ok || !near && math.Float64bits(got) != math.Float64bits(want) {
		t.Fatalf("% x: %v, %d bytes; the oracle reads %v, %v", b, got, n, v, err)
	}
}

// oracleEnd returns where the oracle ends reading, if it reads the value and we
// may believe it: after a high surrogate it takes three bytes for the low one,
// whatever they are.
func oracleEnd(b []byte) (end int, ok bool) { return oracleEndOf(b, 1) }

// oracleEndOf is oracleEnd of the last of several values.
func oracleEndOf(b []byte, values int) (end int, ok bool) {
	// Of a class that it knows the oracle reads the fields of its own Go type,
	// whatever the definition before it says.
	if bytes.Contains(b, []byte("java.")) {
		return 0, false
	}
	for i, c := range b[:len(b)-1] {
		if c == 0xed && b[i+1] >= 0xa0 {
			return 0, false
		}
	}
	defer func() {
		if recover() != nil { // the oracle's own, on hostile input
			end, ok = 0, false
		}
	}()
	d := oracle.NewDecoder(b)
	for range values {
		if _, err := d.Decode(); err != nil {
			return 0, false
		}
	}
	for rest := 0; ; rest++ {
		if _, err := d.ReadByte(); err != nil {
			return len(b) - rest, true
		}
	}
}
