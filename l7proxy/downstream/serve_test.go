package downstream

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestSlowBeginning: a consumer that is interrupted inside its first bytes is
// still a Dubbo consumer, however long it takes.
func TestSlowBeginning(t *testing.T) {
	p := newProvider(t)
	c := newRig(t, p.addr).dial()
	frame := request(7, twoWay, []byte("\x01a"))
	for _, piece := range [][]byte{frame[:1], frame[1:3], frame[3:]} {
		if _, err := c.Write(piece); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond)
	}
	if f, err := readFrame(c); err != nil || f[11] != 7 {
		t.Errorf("answer % x, %v", f, err)
	}
}

// TestUndecidedBeginning: what begins as two protocols do is opaque after a
// while, and at once where it ends.
func TestUndecidedBeginning(t *testing.T) {
	for _, say := range []string{"P", "\x16\x03", "\xda"} {
		for _, ends := range []bool{false, true} {
			if say == "\xda" && !ends {
				continue // waits for more: TestSlowBeginning
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			heard := make(chan string, 1)
			go func() {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				b := make([]byte, 8)
				n, _ := io.ReadAtLeast(c, b, len(say))
				heard <- string(b[:n])
				_ = c.Close()
			}()
			c := newRig(t, netip.MustParseAddrPort(ln.Addr().String())).dial()
			_, _ = c.Write([]byte(say))
			if ends {
				_ = c.(*net.TCPConn).CloseWrite()
			}
			select {
			case got := <-heard:
				if got != say {
					t.Errorf("%q, ended %v: the server heard %q", say, ends, got)
				}
			case <-time.After(30 * time.Second):
				t.Errorf("%q, ended %v: the server heard nothing", say, ends)
			}
			_ = ln.Close()
		}
	}
}
