package sock

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
)

// BenchmarkPipelined sends what many requests of 128 bytes, that came together, are: spans
// that leave at once. The peer reads as fast as it can.
func BenchmarkPipelined(b *testing.B) {
	for _, mode := range []string{"plain", "tls", "go"} { // go: each span a Write of crypto/tls
		b.Run(mode, func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			near, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			far, err := l.Accept()
			if err != nil {
				b.Fatal(err)
			}
			c, err := New(near.(*net.TCPConn))
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			if mode != "plain" {
				server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{selfSigned(b)}})
				far = server
				go func() { _ = server.Handshake() }()
				if _, err := c.Secure(b.Context(), tls.Client, &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true}); err != nil {
					b.Fatal(err)
				}
			}
			go func() { _, _ = io.Copy(io.Discard, far) }()
			spans := make([][]byte, 512)
			for i := range spans {
				spans[i] = make([]byte, 128)
			}
			b.SetBytes(int64(len(spans) * 128))
			b.ReportAllocs()
			for b.Loop() {
				if mode != "go" {
					err = c.Send(spans...)
				}
				for i := 0; mode == "go" && i < len(spans) && err == nil; i++ {
					_, err = c.writer.secure.tls.Write(spans[i])
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
