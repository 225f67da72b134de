package downstream

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
)

// READONLY as Java sends it.
const readOnly = "\xda\xbb\xa2\x00\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x02\x01R"

// speaker is a provider for whom the test speaks.
type speaker struct {
	t     *testing.T
	ln    net.Listener
	addr  netip.AddrPort
	conns chan *net.TCPConn
}

func newSpeaker(t *testing.T) *speaker {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &speaker{t: t, ln: ln, addr: addrPortOf(ln), conns: make(chan *net.TCPConn, 100)}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
			t.Cleanup(func() { _ = c.Close() })
			p.conns <- c.(*net.TCPConn)
		}
	}()
	return p
}

func (p *speaker) accept() *net.TCPConn {
	p.t.Helper()
	select {
	case c := <-p.conns:
		return c
	case <-time.After(30 * time.Second):
		p.t.Fatal("nobody connected")
		return nil
	}
}

// none checks that nobody connected.
func (p *speaker) none() {
	p.t.Helper()
	select {
	case <-p.conns:
		p.t.Error("one connection too many")
	case <-time.After(20 * time.Millisecond):
	}
}

// subscribe builds a request that declares its argument as a callback, as Java
// writes it in hessian2 or fastjson2.
func subscribe(id uint64, serialization byte) []byte {
	body := []byte("\x052.0.2\x07org.x.S\x050.0.0\x03sub\x10Lorg/x/Listener;NH\x12sys_callback_arg-0\x041234Z")
	if serialization == dubbo.Fastjson2 {
		body = nil
		for _, e := range []string{"\x4e2.0.2", "\x50org.x.S", "\x4e0.0.0", "\x4csub", "\x59Lorg/x/Listener;", "\xaf",
			"\xa6\x5bsys_callback_arg-0\x4d1234\xa5"} {
			body = append(binary.BigEndian.AppendUint32(body, uint32(len(e))), e...)
		}
	}
	f := binary.BigEndian.AppendUint64([]byte{0xda, 0xbb, 0xc0 | serialization, 0}, id)
	return append(binary.BigEndian.AppendUint32(f, uint32(len(body))), body...)
}

// push builds a provider's request: a version that is null.
func push(id uint64, flags byte, payload []byte) []byte {
	f := binary.BigEndian.AppendUint64([]byte{0xda, 0xbb, flags, 0}, id)
	body := slices.Concat([]byte("\x052.0.2\x0eorg.x.ListenerN\x02on\x12Ljava/lang/String;"), payload)
	return append(binary.BigEndian.AppendUint32(f, uint32(len(body))), body...)
}

// value builds an answer.
func value(id uint64, payload []byte) []byte {
	f := binary.BigEndian.AppendUint64([]byte{0xda, 0xbb, 2, dubbo.StatusOK}, id)
	f = binary.BigEndian.AppendUint32(f, uint32(len(payload)+1))
	return append(append(f, 0x94), payload...)
}

// next reads a frame and its header.
func next(t *testing.T, r io.Reader) (codec.Header, []byte) {
	t.Helper()
	f, err := readFrame(r)
	if err != nil {
		t.Fatal(err)
	}
	h, err := dubbo.ParseHeader(f)
	if err != nil {
		t.Fatal(err)
	}
	return h, f
}

func put(t *testing.T, w io.Writer, frames ...[]byte) {
	t.Helper()
	if _, err := w.Write(slices.Concat(frames...)); err != nil {
		t.Fatal(err)
	}
}

// asked makes the consumer ask once and the provider answer; it returns the
// provider's side of the connection that the request took.
func asked(t *testing.T, c net.Conn, p *speaker, on *net.TCPConn, f []byte) *net.TCPConn {
	t.Helper()
	put(t, c, f)
	if on == nil {
		on = p.accept()
	}
	h, got := next(t, on)
	if !bytes.Equal(got[dubbo.HeaderLen:], f[dubbo.HeaderLen:]) {
		t.Fatalf("the provider got %q, want %q", got[dubbo.HeaderLen:], f[dubbo.HeaderLen:])
	}
	put(t, on, value(h.ID, []byte("ok")))
	want := binary.BigEndian.Uint64(f[4:])
	if h, _ := next(t, c); h.Request() || h.ID != want || h.Status != dubbo.StatusOK {
		t.Fatalf("%+v came, want the answer to %d", h, want)
	}
	return on
}
