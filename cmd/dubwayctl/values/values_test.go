package values

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	decoder "github.com/apache/dubbo-go-hessian2"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
)

// frames are the golden frames that real Dubbo wrote.
const frames = "../../../l7proxy/codec/dubbo/testdata"

// golden returns the body of a golden frame, and its status.
func golden(tb testing.TB, name string) (*admin.TapBody, uint8) {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(frames, name+".frame"))
	if err != nil {
		tb.Fatal(err)
	}
	_, digits, _ := strings.Cut(string(text), "\n\n")
	frame, err := hex.DecodeString(strings.ReplaceAll(digits, "\n", ""))
	if err != nil {
		tb.Fatal(err)
	}
	h, err := dubbo.ParseHeader(frame)
	if err != nil {
		tb.Fatal(err)
	}
	body := frame[dubbo.HeaderLen:]
	return &admin.TapBody{Serialization: h.Serialization(), Size: h.Body, Data: body}, h.Status
}

func written(tb testing.TB, v any) string {
	tb.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// TestRealFrames decodes what Dubbo Java wrote.
func TestRealFrames(t *testing.T) {
	tests := []struct {
		name  string
		wants []string // in the JSON
	}{
		{"hessian2-echo", []string{`"arguments":["hello"]`, `"remote.application":"probe"`}},
		{"hessian2-echo-answer", []string{`"value":"hello"`, `"dubbo":"2.0.2"`}},
		{"hessian2-attachments", []string{`"arguments":[`}},
		{"hessian2-order", []string{`"_class":"org.example`}},
		{"hessian2-order-answer", []string{`"_class":"org.example`}},
		{"hessian2-generic", []string{`"arguments":["echo",["java.lang.String"],["gx"]]`}},
		{"hessian2-fail-answer", []string{`"exception":{`, `java.lang.IllegalStateException`, `business`, `frames"`}},
		{"hessian2-nothing-answer", []string{`{"attachments":{"dubbo":"2.0.2"}}`}},
		{"hessian2-nothing", []string{`"arguments":[]`}},
		{"hessian2-wrong-version-answer", []string{`"error":"`}},
		{"dubbox-int-before-descriptor", []string{`"arguments":[`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var d Decoder
			body, status := golden(t, test.name)
			var got any
			var err error
			if status == 0 {
				got, err = d.Request(body)
			} else {
				got, err = d.Answer(body, status)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range test.wants {
				if text := written(t, got); !strings.Contains(text, want) {
					t.Errorf("got %s, want it to hold %s", text, want)
				}
			}
		})
	}
}

// TestNotDecoded: what cannot be decoded says why.
func TestNotDecoded(t *testing.T) {
	body := func(b string) *admin.TapBody {
		return &admin.TapBody{Serialization: dubbo.Hessian2, Size: len(b), Data: []byte(b)}
	}
	tests := []struct {
		name, want string
		body       *admin.TapBody
	}{
		{"nothing", "no body", nil},
		{"fastjson2", "fastjson2 (id 23) is not decoded", &admin.TapBody{Serialization: dubbo.Fastjson2}},
		{"a part", "the first 1 of 9 bytes were kept", &admin.TapBody{Serialization: dubbo.Hessian2, Size: 9, Data: []byte("N")}},
		{"empty", "empty", body("")},
		{"no kind of answer", "no kind of answer", body("N")},
		{"a kind of 9", "no kind of answer", body("\x99")},
		{"a value that is missing", "no value", body("\x91")},
		{"a cut value", "input ends inside it", body("\x91\x05ab")},
		{"a list of two thousand million", "", body("\x91XI\x7f\xff\xff\xff")},
		{"a deep list", "over the limit", body("\x91" + strings.Repeat("W", 600))},
		{"a list that holds itself", "no kind of answer", body(string(circle()))},
		{"too many values", "more than 256", body(strings.Repeat("N", 300))},
		{"a class that is not defined", "malformed", body("\x91\x60")},
		// The decoder panics at these.
		{"a list that is a key", "unhashable", body("\x91Hx\x91Z")},
		{"a string among numbers", "reflect", body("\x91\x71\x04[int\x05hello")},
		{"a field of another type", "not assignable", body("\x90C\x1fjava.lang.IllegalStateException\x91\x05cause\x60\x79\x05hello")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var d Decoder
			if a, err := d.Answer(test.body, dubbo.StatusOK); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("answer %s, error %v, want one with %q", written(t, a), err, test.want)
			}
		})
	}
}

// TestSlowDecoding: a body that takes too long is the last one that is decoded.
func TestSlowDecoding(t *testing.T) {
	e := decoder.NewEncoder()
	if err := errors.Join(e.Encode(int32(1)), e.Encode(make([]string, 500_000))); err != nil {
		t.Fatal(err)
	}
	body := &admin.TapBody{Serialization: dubbo.Hessian2, Size: len(e.Buffer()), Data: e.Buffer()}
	d := Decoder{Patience: time.Nanosecond}
	for range 2 {
		if _, err := d.Answer(body, dubbo.StatusOK); !errors.Is(err, errSlow) {
			t.Errorf("a slow body: %v", err)
		}
	}
}

// bomb is a list of two references to the list before, twenty times over: a
// hundred bytes that mean a million lists.
func bomb() []byte {
	b := []byte{0x91}
	b = append(b, 'X', 0x90+21, 'X', 0x91, 1, 'x')
	for i := range 20 {
		b = append(b, 'X', 0x92, 'Q', byte(0x91+i), 'Q', byte(0x91+i))
	}
	return b
}

// circle is a list that holds itself, in place of an answer's kind.
func circle() []byte { return []byte("\x79Q\x90") }

// TestShownIsBounded: a few bytes may mean a forest.
func TestShownIsBounded(t *testing.T) {
	e := decoder.NewEncoder()
	if err := e.Encode(int32(1)); err != nil {
		t.Fatal(err)
	}
	if err := e.Encode([]any{strings.Repeat("ü", 5000), make([]int32, 1000), []any{[]any{[]any{[]any{[]any{[]any{[]any{[]any{"deep"}}}}}}}}}); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"references": bomb(), "large": e.Buffer()} {
		var d Decoder
		a, err := d.Answer(&admin.TapBody{Serialization: dubbo.Hessian2, Size: len(b), Data: b}, dubbo.StatusOK)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		text := written(t, a)
		if len(text) > 32<<10 || !strings.Contains(text, "... ") || strings.Contains(text, "deep\"") {
			t.Errorf("%s: %d bytes are shown: %.300s", name, len(text), text)
		}
	}
}

// FuzzBody: whatever a pod sends, nothing but an error comes of it, and what is
// shown is bounded and fit for JSON.
func FuzzBody(f *testing.F) {
	names, err := filepath.Glob(filepath.Join(frames, "*.frame"))
	if err != nil || len(names) == 0 {
		f.Fatalf("no golden frames: %v", err)
	}
	for _, path := range names {
		if name := strings.TrimSuffix(filepath.Base(path), ".frame"); strings.HasPrefix(name, "hessian2") {
			body, status := golden(f, name)
			f.Add(body.Data, status)
		}
	}
	f.Add(bomb(), dubbo.StatusOK)
	f.Add(circle(), dubbo.StatusOK)
	f.Fuzz(func(t *testing.T, b []byte, status uint8) {
		d := Decoder{Patience: time.Minute} // the machine may be busy
		body := &admin.TapBody{Serialization: dubbo.Hessian2, Size: len(b), Data: b}
		if r, err := d.Request(body); err == nil && len(written(t, r)) > 1<<20 {
			t.Fatal("a request of more than a megabyte is shown")
		}
		if a, err := d.Answer(body, status); err == nil && len(written(t, a)) > 1<<20 {
			t.Fatal("an answer of more than a megabyte is shown")
		}
		if d.stuck {
			t.Fatal("decoding took longer than a minute")
		}
	})
}
