package dubbo

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/dubway/dubway/l7proxy/codec"
)

// golden is a file of testdata: what is expected of a frame, and its bytes.
type golden struct {
	name   string
	expect [][2]string
	frame  []byte
}

func goldens(tb testing.TB) []golden {
	tb.Helper()
	paths, err := filepath.Glob("testdata/*.frame")
	if err != nil || len(paths) == 0 {
		tb.Fatalf("no golden frames: %v", err)
	}
	var all []golden
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		g := golden{name: strings.TrimSuffix(filepath.Base(path), ".frame")}
		head, body, ok := strings.Cut(string(text), "\n\n")
		if !ok {
			tb.Fatalf("%s: no empty line", path)
		}
		for line := range strings.Lines(head) {
			if strings.HasPrefix(line, "#") {
				continue
			}
			key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
			if !ok {
				tb.Fatalf("%s: no colon in %q", path, line)
			}
			g.expect = append(g.expect, [2]string{key, strings.TrimPrefix(value, " ")})
		}
		if g.frame, err = hex.DecodeString(strings.ReplaceAll(body, "\n", "")); err != nil {
			tb.Fatalf("%s: %v", path, err)
		}
		all = append(all, g)
	}
	return all
}

// missing is how many bytes of the body are not in the file.
func (g golden) missing() int {
	for _, e := range g.expect {
		if e[0] == "missing" {
			n, _ := strconv.Atoi(e[1])
			return n
		}
	}
	return 0
}

func TestGoldenFrames(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) {
			if len(g.expect) == 0 {
				t.Fatal("nothing is expected")
			}
			h, err := ParseHeader(g.frame)
			if missing := h.Body - (len(g.frame) - HeaderLen); err == nil && missing != g.missing() {
				t.Errorf("the file has %d bytes of body, the header says %d", len(g.frame)-HeaderLen, h.Body)
			}
			r := reading{h: h, err: err}
			if err == nil {
				r.body = g.frame[HeaderLen:]
				r.prefix, r.state = ParsePrefix(h.Serialization(), r.body)
				r.values.Reset(h, r.body, r.prefix)
			}
			for _, e := range g.expect {
				switch e[0] {
				case "absent", "no argument":
					r.absent(t, e)
					continue
				case "missing":
					continue // seen above
				}
				if got := r.get(t, e[0]); got != e[1] {
					t.Errorf("%s is %q, want %q", e[0], got, e[1])
				}
			}
		})
	}
}

// reading is what we read in a frame.
type reading struct {
	h      codec.Header
	err    error
	body   []byte
	prefix codec.Prefix
	state  codec.State
	values Body
}

// get returns what stands behind a key of a golden file.
func (r *reading) get(t *testing.T, key string) string {
	t.Helper()
	if name, ok := strings.CutPrefix(key, "attachment "); ok {
		value, ok, err := r.values.Lookup(name)
		if err != nil || !ok {
			t.Errorf("Lookup(%q) = %q, %v, %v", name, value, ok, err)
		}
		return value
	}
	if index, ok := strings.CutPrefix(key, "argument "); ok {
		i, _ := strconv.Atoi(index)
		text, ok, err := r.values.Argument(i)
		if err != nil || !ok {
			t.Errorf("Argument(%d) = %q, %v, %v", i, text, ok, err)
		}
		return text
	}
	switch key {
	case "request", "answer":
		return r.direction(t, key)
	case "event":
		return r.event()
	case "serialization":
		switch s := r.h.Serialization(); s {
		case Hessian2:
			return "hessian2"
		case Fastjson2:
			return "fastjson2"
		default:
			return strconv.Itoa(int(s))
		}
	case "id":
		return fmt.Sprintf("%016x", r.h.ID)
	case "body":
		return strconv.Itoa(r.h.Body)
	case "prefix":
		return r.state.String()
	case "dubbo":
		return r.prefix.Dubbo
	case "path":
		return r.prefix.Path
	case "version":
		return r.prefix.Version
	case "method":
		return r.prefix.Method
	case "generic":
		return strconv.FormatBool(r.prefix.Generic)
	}
	return r.outcome(t, key)
}

func (r *reading) direction(t *testing.T, key string) string {
	t.Helper()
	if r.h.Request() != (key == "request") {
		t.Errorf("Request() = %v", r.h.Request())
	}
	switch {
	case !r.h.Request():
		return StatusName(r.h.Status)
	case r.h.TwoWay():
		return "two-way"
	}
	return "one-way"
}

func (r *reading) event() string {
	switch {
	case IsReadOnly(r.h, r.body):
		return "readonly"
	case r.h.Event():
		return "other"
	}
	return "none"
}

// outcome answers the keys about results and failures.
func (r *reading) outcome(t *testing.T, key string) string {
	t.Helper()
	switch key {
	case "result":
		return AnswerKind(r.h, r.body).String()
	case "exception":
		return ExceptionClass(r.h.Serialization(), r.body)
	case "attachments":
		if _, _, err := r.values.Lookup("group"); err != nil {
			return "error"
		}
		return "read"
	case "error":
		for name, want := range map[string]error{"magic": ErrMagic, "length": ErrLength, "short": codec.ErrShort} {
			if errors.Is(r.err, want) {
				return name
			}
		}
		return "none"
	case "made":
		return r.made()
	}
	t.Fatalf("unknown key %q", key)
	return ""
}

// made tells which of our own frames has these bytes.
func (r *reading) made() string {
	frame := append(appendHeader(nil, r.h.Flags, r.h.Status, r.h.ID), r.body...)
	frame = seal(frame, 0)
	ask := codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay | codec.FlagEvent | r.h.Serialization(), ID: r.h.ID}
	switch {
	case bytes.Equal(frame, AppendHeartbeat(nil, r.h.ID)):
		return "heartbeat"
	case bytes.Equal(frame, AppendHeartbeatReply(nil, ask)):
		return "heartbeat-answer"
	}
	return "none"
}

func (r *reading) absent(t *testing.T, what [2]string) {
	t.Helper()
	if what[0] == "no argument" {
		i, _ := strconv.Atoi(what[1])
		if text, ok, err := r.values.Argument(i); ok || err != nil {
			t.Errorf("Argument(%d) = %q, %v, %v; want none", i, text, ok, err)
		}
		return
	}
	if value, ok, err := r.values.Lookup(what[1]); ok || err != nil {
		t.Errorf("Lookup(%q) = %q, %v, %v; want absent", what[1], value, ok, err)
	}
}

// A prefix that is cut anywhere is More, and never another prefix.
func TestPrefixCutAnywhere(t *testing.T) {
	for _, g := range goldens(t) {
		h, err := ParseHeader(g.frame)
		if err != nil {
			continue
		}
		body := g.frame[HeaderLen:]
		whole, st := ParsePrefix(h.Serialization(), body)
		if st != codec.Complete {
			continue
		}
		for cut := range body {
			p, st := ParsePrefix(h.Serialization(), body[:cut:cut])
			switch {
			case cut >= whole.End && (st != codec.Complete || p != whole):
				t.Fatalf("%s cut at %d: %v %+v", g.name, cut, st, p)
			case cut < whole.End && (st != codec.More || p != codec.Prefix{}):
				t.Fatalf("%s cut at %d: %v %+v", g.name, cut, st, p)
			}
		}
	}
}

// Attachments of a body that is cut anywhere are unknown.
func TestAttachmentsCutAnywhere(t *testing.T) {
	var a Body
	for _, g := range goldens(t) {
		h, err := ParseHeader(g.frame)
		if err != nil {
			continue
		}
		body := g.frame[HeaderLen:]
		p, st := ParsePrefix(h.Serialization(), body)
		a.Reset(h, body, p)
		if _, _, err := a.Lookup("group"); st != codec.Complete || err != nil {
			continue
		}
		for cut := p.End; cut < len(body); cut++ {
			a.Reset(h, body[:cut:cut], p)
			if value, ok, err := a.Lookup("group"); ok || err == nil {
				t.Fatalf("%s cut at %d: %q, %v", g.name, cut, value, ok)
			}
		}
	}
}

// The class of an exception is read in the first ExceptionLen bytes of an answer,
// and no part of it is taken for the whole.
func TestExceptionClassCutAnywhere(t *testing.T) {
	for _, name := range []string{"hessian2-fail-answer", "fastjson2-fail-answer"} {
		h, frame := frameOf(t, name)
		body := frame[HeaderLen:]
		want := ExceptionClass(h.Serialization(), body)
		if got := ExceptionClass(h.Serialization(), body[:ExceptionLen:ExceptionLen]); got != want || want == "" {
			t.Errorf("%s: the first %d bytes say %q, all say %q", name, ExceptionLen, got, want)
		}
		for cut := range ExceptionLen {
			if got := ExceptionClass(h.Serialization(), body[:cut:cut]); got != "" && got != want {
				t.Fatalf("%s cut at %d: %q", name, cut, got)
			}
		}
	}
	long := []byte("\x90C\x31\x01" + strings.Repeat("x", MaxClass+1))
	if got := ExceptionClass(Hessian2, long); got != "" {
		t.Errorf("a class of %d bytes is read", len(got))
	}
	if got := ExceptionClass(Hessian2, []byte("\x90M\x07org.x.E")); got != "org.x.E" {
		t.Errorf("the class of a typed map is %q", got)
	}
	if got := ExceptionClass(22, []byte("\x90C\x01x")); got != "" {
		t.Errorf("in an unread serialization there is a class %q", got)
	}
}
