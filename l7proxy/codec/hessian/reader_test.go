package hessian

import (
	"encoding/hex"
	"errors"
	"os"
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
	if len(all) < 20 {
		tb.Fatalf("only %d values", len(all))
	}
	return all
}

func TestSkipWhatJavaWrites(t *testing.T) {
	var r Reader
	for name, b := range javaValues(t) {
		r.Reset(b)
		if err := r.Skip(); err != nil || r.Offset() != len(b) {
			t.Errorf("%s: ends at %d of %d, %v", name, r.Offset(), len(b), err)
		}
		cuts(t, &r, b)
	}
}

// What the specification has and neither Java nor the oracle writes, and what
// it does not have.
func TestSkipForms(t *testing.T) {
	tests := []struct {
		name string
		in   string
		size int // of the value; the rest is another's
		want error
	}{
		{"list until the end", "\x57\x91\x92Z\x90", 4, nil},
		{"typed list until the end", "U\x01a\x91Z\x90", 5, nil},
		{"typed list, type by number", "U\x90\x91Z", 4, nil},
		{"fixed list", "V\x01a\x92\x91\x92", 6, nil},
		{"fixed list without type", "X\x92\x91\x92", 4, nil},
		{"short typed list", "\x72\x01a\x91\x92", 5, nil},
		{"empty lists in a list", "\x7c\x78\x70\x90WZX\x90\x91", 8, nil},
		{"map in a map as a key", "HH\x91\x92Z\x93Z", 7, nil},
		{"object by number", "C\x01a\x92\x01b\x01cO\x90\x91\x92", 12, nil},
		{"two definitions before a value", "C\x01a\x90C\x01b\x91\x01x\x61\x91", 12, nil},
		{"definition before an int", "C\x01a\x90\x91", 5, nil},
		{"reference", "Q\x90", 2, nil},
		{"chunked string", "R\x00\x02abS\x00\x01c", 9, nil},
		{"chunked string, short end", "R\x00\x02ab\x01c", 7, nil},
		{"chunked binary", "A\x00\x02abB\x00\x01c", 9, nil},
		{"chunked binary, short end", "A\x00\x02ab\x21c", 7, nil},
		{"binary of two bytes", "\x34\x02ab", 4, nil},
		{"lone surrogate", "\x01\xed\xa0\x80", 4, nil},
		{"dates", "J\x00\x00\x00\x00\x00\x00\x00\x00", 9, nil},
		{"date of minutes", "K\x00\x00\x00\x00", 5, nil},

		{"nothing", "", 0, ErrMore},
		{"reserved 0x40", "\x40", 0, ErrMalformed},
		{"reserved E", "E", 0, ErrMalformed},
		{"reserved G", "G", 0, ErrMalformed},
		{"reserved P", "P", 0, ErrMalformed},
		{"end without a beginning", "Z", 0, ErrMalformed},
		{"key without a value", "H\x91Z", 0, ErrMalformed},
		{"object of no class", "\x60", 0, ErrMalformed},
		{"object of a later class", "C\x01a\x90O\x91", 0, ErrMalformed},
		{"negative class", "O\x8f", 0, ErrMalformed},
		{"negative length", "X\x8f", 0, ErrMalformed},
		{"length that is a string", "X\x01a", 0, ErrMalformed},
		{"length that is a long", "X\xe1\x91", 0, ErrMalformed},
		{"class name that is an int", "C\x91\x90", 0, ErrMalformed},
		{"field name that is an int", "C\x01a\x91\x91", 0, ErrMalformed},
		{"string goes on with an int", "R\x00\x01a\x91", 0, ErrMalformed},
		{"binary goes on with a string", "A\x00\x01a\x01b", 0, ErrMalformed},
		{"continuation byte first", "\x01\x80", 0, ErrMalformed},
		{"no continuation byte", "\x01\xc3a", 0, ErrMalformed},
		{"overlong, two bytes", "\x01\xc1\xa1", 0, ErrMalformed},
		{"overlong, three bytes", "\x01\xe0\x81\xa1", 0, ErrMalformed},
		{"four bytes", "\x02\xf0\x9f\x98\x80", 0, ErrMalformed},
		{"list too long to read", "X" + "I\x7f\xff\xff\xff", 0, ErrLimit},
		{"class too large to read", "C\x01a" + "I\x7f\xff\xff\xff", 0, ErrLimit},
	}
	var r Reader
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r.Reset([]byte(tt.in))
			err := r.Skip()
			if !errors.Is(err, tt.want) {
				t.Fatalf("Skip: %v, want %v", err, tt.want)
			}
			if tt.want == nil && r.Offset() != tt.size {
				t.Errorf("ends at %d, want %d", r.Offset(), tt.size)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	many := strings.Repeat
	tests := []struct {
		name  string
		inner string // repeated
		end   string
		most  int // that is read
	}{
		{"depth of lists", "W", many("Z", MaxDepth), MaxDepth},
		{"depth of short lists", "\x79", "\x91", MaxDepth},
		{"depth of maps", "H\x91", "\x91" + many("Z", MaxDepth), MaxDepth},
		{"classes", "C\x01a\x90", "\x60", MaxClasses},
	}
	var r Reader
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r.Reset([]byte(many(tt.inner, tt.most) + tt.end))
			if err := r.Skip(); err != nil {
				t.Errorf("at the limit: %v", err)
			}
			r.Reset([]byte(many(tt.inner, tt.most+1) + tt.end))
			if err := r.Skip(); !errors.Is(err, ErrLimit) {
				t.Errorf("over the limit: %v", err)
			}
		})
	}
	t.Run("values", func(t *testing.T) {
		b := []byte("W" + many("\x91", MaxValues-1) + "Z")
		r.Reset(b)
		if err := r.Skip(); err != nil || r.Offset() != len(b) {
			t.Errorf("at the limit: %v", err)
		}
		r.Reset([]byte("W" + many("\x91", MaxValues) + "Z"))
		if err := r.Skip(); !errors.Is(err, ErrLimit) {
			t.Errorf("over the limit: %v", err)
		}
	})
}

func TestTextRefusesOtherForms(t *testing.T) {
	tests := []struct {
		name string
		in   string
		text string
		want error
	}{
		{"short", "\x02abc", "ab", nil},
		{"middle", "\x30\x02abc", "ab", nil},
		{"long", "S\x00\x02abc", "ab", nil},
		{"empty", "\x00", "", nil},
		{"two bytes", "\x02\xc3\xa9a", "éa", nil},
		{"three bytes", "\x01\xe4\xb8\xad", "中", nil},
		{"chunks", "R\x00\x01a\x01b", "", ErrForm},
		{"surrogates", "\x02\xed\xa0\xbd\xed\xb8\x80", "", ErrForm},
		{"null", "N", "", ErrMalformed},
		{"int", "\x91", "", ErrMalformed},
		{"overlong", "\x01\xc1\xa1", "", ErrMalformed},
		{"cut", "\x02a", "", ErrMore},
		{"cut in a character", "\x01\xe4\xb8", "", ErrMore},
		{"nothing", "", "", ErrMore},
	}
	for _, tt := range tests {
		text, n, err := Text([]byte(tt.in))
		if !errors.Is(err, tt.want) || string(text) != tt.text || err == nil && n == 0 {
			t.Errorf("%s: %q, %d, %v", tt.name, text, n, err)
		}
		if cap(text) != len(text) {
			t.Errorf("%s: appending to the text would write into the body", tt.name)
		}
	}
}

func TestAppendTextReplacesLoneSurrogates(t *testing.T) {
	for in, want := range map[string]string{
		"\x01\xed\xa0\xbd":                         "\ufffd",
		"\x02\xed\xa0\xbda":                        "\ufffda",
		"\x01\xed\xb8\x80":                         "\ufffd",
		"\x02\xed\xb8\x80\xed\xa0\xbd":             "\ufffd\ufffd",
		"\x03\xed\xa0\xbd\xed\xa0\xbd\xed\xb8\x80": "\ufffd😀",
	} {
		got, n, err := AppendText(nil, []byte(in))
		if err != nil || n != len(in) || string(got) != want {
			t.Errorf("% x: %q, %d, %v", in, got, n, err)
		}
	}
}

func TestKeptReaderAllocatesNothing(t *testing.T) {
	values := javaValues(t)
	var r Reader
	for _, name := range []string{"obj", "arr", "ex", "attachDeep", "utf300"} {
		n := testing.AllocsPerRun(100, func() {
			r.Reset(values[name])
			if err := r.Skip(); err != nil {
				t.Error(err)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkSkip(b *testing.B) {
	values := javaValues(b)
	for _, name := range []string{"utf300", "arr", "ex"} {
		b.Run(name, func(b *testing.B) {
			var r Reader
			b.SetBytes(int64(len(values[name])))
			for b.Loop() {
				r.Reset(values[name])
				if err := r.Skip(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
