package echo

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// listen returns a listener on a free port.
func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// TestCall calls the provider that serve is, which begins only after the first attempts.
func TestCall(t *testing.T) {
	listener := listen(t)
	address := listener.Addr().String()
	_ = listener.Close() // until serve takes its port, nobody answers
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	time.AfterFunc(pause, func() { served <- serve(ctx, address, "there") })
	reply, err := callWithin(t.Context(), address, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ := net.SplitHostPort(reply.Consumer)
	if reply.Provider != "there" || host != "127.0.0.1" && reply.Consumer != "127.0.0.1" {
		t.Errorf("reply %+v, want one of there, which saw 127.0.0.1", reply)
	}
	if reply.Attempts < 2 {
		t.Errorf("answered at attempt %d, before anybody served", reply.Attempts)
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
}

// TestNoAnswer: what is no answer is told, with its reason.
func TestNoAnswer(t *testing.T) {
	tests := []struct {
		name, want string
		serve      func(net.Listener)
	}{
		{"nobody", "connect: dial tcp", func(l net.Listener) { _ = l.Close() }},
		{"another service", "answered with status 40", func(l net.Listener) {
			_ = (&dubbotest.Provider{Exports: func(string) bool { return false }}).Serve(l)
		}},
		{"no Dubbo", "EOF", func(l net.Listener) {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_ = conn.(*net.TCPConn).CloseWrite()
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			listener := listen(t)
			go test.serve(listener)
			_, err := call(t.Context(), listener.Addr().String())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("call = %v, want %q in it", err, test.want)
			}
			if _, err := callWithin(t.Context(), listener.Addr().String(), time.Millisecond); err == nil || !strings.Contains(err.Error(), "not answered within 1ms") {
				t.Errorf("callWithin = %v, want the limit in it", err)
			}
		})
	}
}
