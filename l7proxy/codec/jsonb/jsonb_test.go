package jsonb

import (
	"encoding/hex"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

// javaValues are the values that Java wrote.
func javaValues(tb testing.TB) map[string][]byte {
	tb.Helper()
	text, err := os.ReadFile("testdata/java.txt")
	if err != nil {
		tb.Fatal(err)
	}
	all := map[string][]byte{}
	for line := range strings.Lines(string(text)) {
		name, digits, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || name == "#" {
			continue
		}
		if all[name], err = hex.DecodeString(digits); err != nil {
			tb.Fatalf("%s: %v", name, err)
		}
	}
	if len(all) < 80 {
		tb.Fatalf("only %d values", len(all))
	}
	return all
}

func TestSkipWhatJavaWrites(t *testing.T) {
	for name, b := range javaValues(t) {
		n, err := Skip(append(slices.Clip(b), 0x00))
		if err != nil || n != len(b) {
			t.Errorf("%s: ends at %d of %d, %v: % x", name, n, len(b), err, b)
		}
		for cut := range b {
			if n, err := Skip(b[:cut:cut]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s cut at %d: %d, %v", name, cut, n, err)
			}
		}
	}
}

func TestInt(t *testing.T) {
	values := javaValues(t)
	for name, want := range map[string]int64{
		"int-1": -1, "int47": 47, "int48": 48, "int-16": -16, "int-17": -17,
		"int2047": 2047, "int-2048": -2048, "int2048": 2048,
		"int262143": 262143, "int262144": 262144, "int-262144": -262144, "intmin": math.MinInt32,
		"long-8": -8, "long-9": -9, "long15": 15, "long16": 16,
		"long2047": 2047, "long-2048": -2048, "long2048": 2048,
		"long262143": 262143, "long-262144": -262144, "long262144": 262144,
		"long2147483647": math.MaxInt32, "long1099511627776": 1 << 40,
		"long-9223372036854775808": math.MinInt64, "short": -3, "byte": -3,
	} {
		got, n, err := Int(values[name])
		if got != want || n != len(values[name]) || err != nil {
			t.Errorf("%s: %d, %d bytes, %v", name, got, n, err)
		}
	}
	for _, in := range []string{"", "\xaf", "\x4ax", "\xa6\xa5", "\xb5\x00"} {
		if v, _, err := Int([]byte(in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("% x: %d, %v", in, v, err)
		}
	}
}

func TestText(t *testing.T) {
	tests := []struct {
		name     string
		in       string
		want     string
		err      error // of Text
		appended error // of AppendText
	}{
		{"empty", "\x49", "", nil, nil},
		{"short", "\x4aab", "a", nil, nil},
		{"long", "\x79\x02abc", "ab", nil, nil},
		{"utf-8", "\x7a\x04\xf0\x9f\x98\x80", "😀", nil, nil},
		{"latin-1", "\x4a\xe9", "é", ErrForm, nil},
		{"long latin-1", "\x79\x01\xe9", "é", ErrForm, nil},
		{"utf-16, little end first", "\x7c\x06y\x00\x3d\xd8\x00\xde", "y😀", ErrForm, nil},
		{"utf-16, big end first", "\x7d\x02\x4e\x2d", "中", ErrForm, nil},
		{"lone high surrogate", "\x7c\x02\x3d\xd8", "\ufffd", ErrForm, nil},
		{"lone low surrogate", "\x7c\x04\x00\xdea\x00", "\ufffda", ErrForm, nil},
		{"high surrogate before a letter", "\x7c\x04\x3d\xd8a\x00", "\ufffda", ErrForm, nil},
		{"odd utf-16", "\x7c\x01a", "", ErrForm, ErrMalformed},
		{"utf-16 with a mark", "\x7b\x02\xff\xfe", "", ErrForm, ErrMalformed},
		{"gb18030", "\x7e\x01a", "", ErrForm, ErrMalformed},
		{"invalid utf-8", "\x7a\x01\xff", "", ErrMalformed, ErrMalformed},
		{"negative length", "\x79\xffa", "", ErrMalformed, ErrMalformed},
		{"length that is a string", "\x79\x4aa", "", ErrMalformed, ErrMalformed},
		{"huge length", "\x79\x48\x7f\xff\xff\xff", "", ErrMalformed, ErrMalformed},
		{"cut", "\x4b" + "a", "", ErrMalformed, ErrMalformed},
		{"null", "\xaf", "", ErrMalformed, ErrMalformed},
		{"nothing", "", "", ErrMalformed, ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text, n, err := Text([]byte(tt.in))
			if !errors.Is(err, tt.err) || err == nil && string(text) != tt.want {
				t.Errorf("Text: %q, %d, %v", text, n, err)
			}
			text, m, err := AppendText([]byte("-"), []byte(tt.in))
			if !errors.Is(err, tt.appended) || string(text) != "-"+tt.want {
				t.Errorf("AppendText: %q, %d, %v", text, m, err)
			}
			if tt.err == nil && n != m {
				t.Errorf("sizes %d and %d", n, m)
			}
		})
	}
}

func TestSkipDepth(t *testing.T) {
	for _, head := range []string{"\x95", "\xa6\x00", "\x92\x00\xa6\x00"} {
		end := "\x00" + strings.Repeat("\xa5", MaxDepth)
		b := strings.Repeat(head, MaxDepth) + end
		if _, err := Skip([]byte(b)); err != nil {
			t.Errorf("% x at the limit: %v", head, err)
		}
		if _, err := Skip([]byte(head + b)); !errors.Is(err, ErrLimit) {
			t.Errorf("% x over the limit: %v", head, err)
		}
	}
}

func TestSkipRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"the end of an object":     "\xa5",
		"a key without a value":    "\xa6\x00\xa5",
		"a type without a value":   "\x92\x00",
		"a type that is an object": "\x92\xa6\xa5\x00",
		"binary without a length":  "\x91\xaf",
		"an array without length":  "\xa4\xaf",
		"a negative array":         "\xa4\xff",
		"a short array":            "\xa4\x48\x7f\xff\xff\xff\x00",
	} {
		if n, err := Skip([]byte(in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}

// FuzzSkip: no panic, no step outside, what is accepted ends at its last byte.
func FuzzSkip(f *testing.F) {
	for _, b := range javaValues(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := Skip(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrLimit) {
				t.Fatalf("unknown error %v", err)
			}
			return
		}
		if n < 1 || n > len(b) {
			t.Fatalf("ends at %d of %d", n, len(b))
		}
		if m, err := Skip(b[:n:n]); err != nil || m != n {
			t.Fatalf("what follows matters: %d, %v; not %d", m, err, n)
		}
		if m, err := Skip(b[: n-1 : n-1]); err == nil {
			t.Fatalf("without its last byte it ends at %d", m)
		}
		if _, m, err := Int(b); err == nil && m != n {
			t.Fatalf("Int ends at %d, Skip at %d", m, n)
		}
		text, m, err := Text(b)
		if err != nil {
			return
		}
		again, k, err := AppendText(nil, b)
		if m != n || k != n || err != nil || string(again) != string(text) {
			t.Fatalf("Text: %q, %d; AppendText: %q, %d, %v", text, m, again, k, err)
		}
	})
}
