package dubbo

import (
	"testing"

	"github.com/dubway/dubway/l7proxy/codec"
)

func frameOf(tb testing.TB, name string) (codec.Header, []byte) {
	tb.Helper()
	for _, g := range goldens(tb) {
		if g.name == name {
			h, err := ParseHeader(g.frame)
			if err != nil {
				tb.Fatal(err)
			}
			return h, g.frame
		}
	}
	tb.Fatalf("no golden frame %s", name)
	return codec.Header{}, nil
}

func TestSteadyPathAllocatesNothing(t *testing.T) {
	for _, name := range []string{"hessian2-echo", "fastjson2-echo", "callback-null-version", "chunked-path", "hessian2-generic", "fastjson2-generic"} {
		h, frame := frameOf(t, name)
		answer, answered := frameOf(t, "hessian2-echo-answer")
		fail, failed := frameOf(t, "fastjson2-fail-answer")
		_, want := ParsePrefix(h.Serialization(), frame[HeaderLen:])
		n := testing.AllocsPerRun(100, func() {
			h, err := ParseHeader(frame)
			if err != nil {
				t.Error(err)
			}
			if _, st := ParsePrefix(h.Serialization(), frame[HeaderLen:]); st != want {
				t.Error(st)
			}
			PutID(frame, 7)
			_ = AnswerKind(answer, answered[HeaderLen:])
			_ = ExceptionClass(fail.Serialization(), failed[HeaderLen:])
			_ = IsReadOnly(h, frame[HeaderLen:])
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestKeptAttachmentsAllocateNothing(t *testing.T) {
	for _, name := range []string{"hessian2-attachments", "hessian2-order", "fastjson2-attachments", "numbers", "chunked-value"} {
		h, frame := frameOf(t, name)
		p, _ := ParsePrefix(h.Serialization(), frame[HeaderLen:])
		var a Body
		n := testing.AllocsPerRun(100, func() {
			a.Reset(h, frame[HeaderLen:], p)
			if _, _, err := a.Lookup("user"); err != nil {
				t.Error(err)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestKeptArgumentsAllocateNothing(t *testing.T) {
	for _, name := range []string{"hessian2-order", "arguments", "generic-arguments", "fastjson2-arguments", "fastjson2-generic-arguments"} {
		h, frame := frameOf(t, name)
		p, _ := ParsePrefix(h.Serialization(), frame[HeaderLen:])
		var b Body
		n := testing.AllocsPerRun(100, func() {
			b.Reset(h, frame[HeaderLen:], p)
			for i := range 5 {
				if _, _, err := b.Argument(i); err != nil {
					t.Error(err)
				}
			}
			if _, _, err := b.Spelling("ENV", 0); err != nil {
				t.Error(err)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestLocalRepliesAllocateNothing(t *testing.T) {
	buf := make([]byte, 0, 4096)
	req := codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay | Hessian2}
	n := testing.AllocsPerRun(100, func() {
		_ = AppendError(buf, req, StatusServerError, "no healthy endpoint")
		_ = AppendException(buf, req, Exception{RPCException, CodeLimitExceeded, "refused"})
		_ = AppendException(buf, codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay | Fastjson2}, Exception{RPCException, CodeLimitExceeded, "refused"})
		_ = AppendHeartbeat(buf, 1)
		_ = AppendHeartbeatReply(buf, req)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkParsePrefix(b *testing.B) {
	for _, name := range []string{"hessian2-echo", "fastjson2-echo", "hessian2-generic", "fastjson2-generic"} {
		b.Run(name, func(b *testing.B) {
			h, frame := frameOf(b, name)
			b.ReportAllocs()
			for b.Loop() {
				if _, st := ParsePrefix(h.Serialization(), frame[HeaderLen:]); st != codec.Complete {
					b.Fatal(st)
				}
			}
		})
	}
}

func BenchmarkParseHeader(b *testing.B) {
	_, frame := frameOf(b, "hessian2-echo")
	for b.Loop() {
		if _, err := ParseHeader(frame); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, name := range []string{"hessian2-echo", "hessian2-order", "fastjson2-echo"} {
		b.Run(name, func(b *testing.B) {
			h, frame := frameOf(b, name)
			p, _ := ParsePrefix(h.Serialization(), frame[HeaderLen:])
			var a Body
			b.ReportAllocs()
			for b.Loop() {
				a.Reset(h, frame[HeaderLen:], p)
				if _, _, err := a.Lookup("timeout"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
