package codec_test

import (
	"testing"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/seam"
	"github.com/dubway/dubway/l7proxy/codec/thrift"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// http2 is what an HTTP/2 client says first.
const http2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

var protocols = codec.Set{seam.Protocol(), thrift.Protocol()}

func TestSniff(t *testing.T) {
	tests := []struct {
		name string
		in   string
		want rpc.Protocol
		need int // bytes after which it is decided, and not before
	}{
		{"dubbo request", "\xda\xbb\xc2\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00", rpc.ProtocolDubbo, 2},
		{"half of the magic", "\xda\xbc", rpc.ProtocolTCP, 2},
		{"http/2 and triple", http2 + "\x00\x00\x24\x04", rpc.ProtocolHTTP2, len(http2)},
		{"rtsp-like PRI", "PRI * HTTP/2.1\r\n", rpc.ProtocolTCP, 14},
		{"get", "GET / HTTP/1.1\r\n", rpc.ProtocolHTTP1, 4},
		{"post", "POST /a HTTP/1.1\r\n", rpc.ProtocolHTTP1, 5},
		{"put", "PUT /a HTTP/1.1\r\n", rpc.ProtocolHTTP1, 4},
		{"head", "HEAD / HTTP/1.1\r\n", rpc.ProtocolHTTP1, 5},
		{"delete", "DELETE / HTTP/1.1\r\n", rpc.ProtocolHTTP1, 7},
		{"options", "OPTIONS * HTTP/1.1\r\n", rpc.ProtocolHTTP1, 8},
		{"patch", "PATCH / HTTP/1.1\r\n", rpc.ProtocolHTTP1, 6},
		{"connect", "CONNECT a:1 HTTP/1.1\r\n", rpc.ProtocolHTTP1, 8},
		{"trace", "TRACE / HTTP/1.1\r\n", rpc.ProtocolHTTP1, 6},
		{"lower-case get: memcached", "get key\r\n", rpc.ProtocolTCP, 1},
		{"a word that begins as a method", "GETEX key\r\n", rpc.ProtocolTCP, 4},
		{"client hello, TLS 1.0 record", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", rpc.ProtocolTLS, 6},
		{"client hello, TLS 1.2 record", "\x16\x03\x03\x00\xa5\x01\x00\x00\xa1\x03\x03", rpc.ProtocolTLS, 6},
		{"server hello", "\x16\x03\x03\x00\xa5\x02\x00\x00\xa1\x03\x03", rpc.ProtocolTCP, 6},
		{"a handshake of no TLS", "\x16\x04\x00", rpc.ProtocolTCP, 2},
		{"telnet ls", "ls\r\n", rpc.ProtocolTCP, 1},
		{"telnet status", "status -l\r\n", rpc.ProtocolTCP, 1},
		{"redis", "*1\r\n$4\r\nPING\r\n", rpc.ProtocolTCP, 1},
		{"zookeeper", "\x00\x00\x00\x2d\x00\x00", rpc.ProtocolTCP, 5},
		{"thrift call", "\x00\x00\x00\x20\x80\x01\x00\x01\x00\x00\x00\x05", rpc.ProtocolThrift, 8},
		{"thrift oneway", "\x00\x10\x00\x20\x80\x01\x00\x04", rpc.ProtocolThrift, 8},
		{"thrift reply", "\x00\x00\x00\x20\x80\x01\x00\x02", rpc.ProtocolTCP, 8},
		{"thrift of another version", "\x00\x00\x00\x20\x80\x02", rpc.ProtocolTCP, 6},
		{"a word that begins as two", "PRIVMSG", rpc.ProtocolTCP, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for n := range len(tt.in) + 1 {
				p, ok := protocols.Sniff([]byte(tt.in[:n]))
				if ok != (n >= tt.need) {
					t.Fatalf("%d bytes: decided is %v", n, ok)
				}
				want := tt.want
				if !ok {
					want = candidate(tt.in[:n])
				}
				if p != want {
					t.Fatalf("%d bytes: %v, want %v", n, p, want)
				}
			}
		})
	}
}

// candidate is what an undecided beginning can be, apart from opaque.
func candidate(b string) rpc.Protocol {
	switch {
	case b == "":
		return rpc.ProtocolUnknown
	case b[0] == 0xda:
		return rpc.ProtocolDubbo
	case b[0] == 0 && len(b) > 4:
		return rpc.ProtocolThrift
	case b[0] == 0x16:
		return rpc.ProtocolTLS
	}
	return rpc.ProtocolUnknown
}

func TestSniffAllocatesNothing(t *testing.T) {
	b := []byte(http2)
	if n := testing.AllocsPerRun(100, func() { protocols.Sniff(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzSniff: SniffLen bytes decide, and a decision stands whatever follows.
func FuzzSniff(f *testing.F) {
	for _, s := range []string{"", "\xda\xbb", http2, "GET /", "\x16\x03\x01\x00\x05\x01", "ls\r\n", "\x00\x00\x00\x20\x80\x01\x00\x01"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := protocols.Sniff(b)
		if !ok {
			if len(b) >= codec.SniffLen || p != candidate(string(b)) {
				t.Fatalf("%d bytes do not decide: %v", len(b), p)
			}
			return
		}
		for n := len(b); n > 0; n-- {
			if q, ok := protocols.Sniff(b[:n]); ok && q != p {
				t.Fatalf("%d bytes say %v, %d say %v", n, q, len(b), p)
			}
		}
	})
}
