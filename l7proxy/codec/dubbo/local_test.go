package dubbo

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/attachments"
	"github.com/dubway/dubway/l7proxy/codec/jsonb"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// TestAppendException reads what is thrown as dubbo-go-hessian2 does, and piece
// by piece for fastjson2; real Java does in internal/testnet/peers.
func TestAppendException(t *testing.T) {
	for _, text := range texts {
		for _, serialization := range []byte{Hessian2, Fastjson2} {
			req := codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay | serialization, ID: 9}
			frame := AppendException([]byte("before"), req, Exception{RPCException, CodeLimitExceeded, text})[len("before"):]
			h, err := ParseHeader(frame)
			want := codec.Header{Flags: serialization, Status: StatusOK, ID: 9, Head: HeaderLen, Body: len(frame) - HeaderLen}
			if err != nil || h != want {
				t.Fatalf("header %+v, %v; want %+v", h, err, want)
			}
			body := frame[HeaderLen:]
			if got := AnswerKind(h, body); got != rpc.ResultException {
				t.Errorf("serialization %d: AnswerKind = %v", serialization, got)
			}
			if serialization == Fastjson2 {
				fastjsonThrown(t, body, text)
				continue
			}
			thrown, ok := decode(t, body, 1).(map[string]any)
			if !ok || thrown["detailMessage"] != text || thrown["code"] != int32(7) {
				t.Errorf("thrown %.60v, want code 7 and %.60q", thrown, text)
			}
		}
	}
}

// TestAppendExceptionOfAClass: other exceptions have nothing but a message.
func TestAppendExceptionOfAClass(t *testing.T) {
	for _, class := range []string{"java.lang.IllegalStateException", "org.x.E", "org.example.with.a.name." + strings.Repeat("long.", 30) + "E$Nested"} {
		for _, serialization := range []byte{Hessian2, Fastjson2} {
			req := codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay | serialization, ID: 9}
			frame := AppendException(nil, req, Exception{Class: class, Code: 7, Message: "no stock"})
			h, err := ParseHeader(frame)
			body := frame[HeaderLen:]
			if err != nil || h.Body != len(body) || AnswerKind(h, body) != rpc.ResultException || ExceptionClass(serialization, body) != class {
				t.Errorf("serialization %d, %v: %q", serialization, err, body)
			}
			if serialization == Hessian2 {
				switch thrown := decode(t, body, 1).(type) {
				case error: // the oracle knows Java's own
					if thrown.Error() != "no stock" {
						t.Errorf("thrown %v", thrown)
					}
				case map[string]any:
					if delete(thrown, "_class"); len(thrown) != 1 || thrown["detailMessage"] != "no stock" {
						t.Errorf("thrown %v", thrown)
					}
				default:
					t.Errorf("thrown %T", thrown)
				}
				continue
			}
			_, n, _ := attachments.Element(body)
			e, m, err := attachments.Element(body[n:])
			if size, skip := jsonb.Skip(e); err != nil || n+m != len(body) || skip != nil || size != len(e) {
				t.Errorf("%x: %v, %v", body, err, skip)
			}
			if !strings.HasSuffix(string(e), "\x00\xa6\x56detailMessage\x7a\x08no stock\xa5") {
				t.Errorf("the exception is %q", e)
			}
		}
	}
}

// fastjsonThrown reads the two elements of a thrown RpcException.
func fastjsonThrown(t *testing.T, body []byte, text string) {
	t.Helper()
	_, n, err := attachments.Element(body)
	if err != nil {
		t.Fatal(err)
	}
	e, m, err := attachments.Element(body[n:])
	if err != nil || n+m != len(body) {
		t.Fatalf("the second element of %x: %v", body, err)
	}
	size, err := jsonb.Skip(e)
	if err != nil || size != len(e) {
		t.Fatalf("the exception %x is %d bytes of %d: %v", e, size, len(e), err)
	}
	message, ok := strings.CutPrefix(string(e), "\x92\x6aorg.apache.dubbo.rpc.RpcException\x00\xa6\x4dcode\x07\x56detailMessage")
	if !ok {
		t.Fatalf("the exception is %q", e)
	}
	got, n, err := jsonb.AppendText(nil, []byte(message))
	if err != nil || string(got) != text || message[n:] != "\xa5" {
		t.Errorf("its message is %.40q, %v, want %.40q", got, err, text)
	}
}

func TestAppendExceptionReplacesInvalidUTF8(t *testing.T) {
	for _, serialization := range []byte{Hessian2, Fastjson2} {
		frame := AppendException(nil, codec.Header{Flags: codec.FlagRequest | serialization}, Exception{RPCException, CodeNoInvoker, "bad \xff byte"})
		if !strings.Contains(string(frame), "bad \ufffd byte") {
			t.Errorf("serialization %d: %q", serialization, frame)
		}
	}
}

// TestExceptionBytes holds the bytes that real Java was seen to read.
func TestExceptionBytes(t *testing.T) {
	const (
		class   = "6f72672e6170616368652e647562626f2e7270632e527063457863657074696f6e"
		message = "64657461696c4d657373616765"
	)
	for serialization, want := range map[byte]string{
		Hessian2:  "dabb02140000000000000001" + "0000003e" + "90" + "433021" + class + "9204636f6465" + "0d" + message + "60" + "97" + "026e6f",
		Fastjson2: "dabb17140000000000000001" + "00000048" + "00000002bd00" + "0000003e" + "926a" + class + "00a6" + "4d636f6465" + "07" + "56" + message + "7a026e6f" + "a5",
	} {
		got := hex.EncodeToString(AppendException(nil, codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay | serialization, ID: 1}, Exception{RPCException, CodeLimitExceeded, "no"}))
		if got != want {
			t.Errorf("serialization %d:\n got %s\nwant %s", serialization, got, want)
		}
	}
}

// TestAppendLocal takes every reason through every serialization: the answer
// throws or has a status that Java retries, and its body is never empty.
func TestAppendLocal(t *testing.T) {
	thrown := map[rpc.Why]Code{
		rpc.WhyNoRoute: CodeNoInvoker, rpc.WhyNoCluster: CodeNoInvoker, rpc.WhyTooLarge: CodeSerialization,
		rpc.WhyProtocolError: CodeSerialization, rpc.WhyOverflow: CodeLimitExceeded, rpc.WhyOverload: CodeLimitExceeded,
		rpc.WhyLimited: CodeLimitExceeded, rpc.WhyLimitUnknown: CodeLimitExceeded, rpc.WhyDenied: CodeAuthorization,
	}
	for i := range rpc.Whys {
		why := rpc.Why(i)
		for _, serialization := range []byte{Hessian2, Fastjson2, 22} {
			req := codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay | serialization, ID: 3}
			frame, status := AppendLocal(nil, req, why, why.String())
			h, err := ParseHeader(frame)
			if err != nil || h.Status != status || h.ID != 3 || h.Body == 0 || h.Request() {
				t.Fatalf("%q: header %+v, status %d, %v", why, h, status, err)
			}
			code, throws := thrown[why]
			if throws && serialization != 22 {
				if want := AppendException(nil, req, Exception{RPCException, code, why.String()}); string(frame) != string(want) {
					t.Errorf("%q: %q, want code %d", why, frame, code)
				}
				continue
			}
			if status == StatusOK || StatusName(status) == "unknown" || h.Serialization() != Hessian2 {
				t.Errorf("%q: serialization %d: status %d, serialization %d", why, serialization, status, h.Serialization())
			}
			if got := decode(t, frame[HeaderLen:], 0); got != why.String() {
				t.Errorf("%q: the text is %q", why, got)
			}
		}
	}
}
