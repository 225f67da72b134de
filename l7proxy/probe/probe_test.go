package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/cluster/checkup"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// dialer dials as nobody, or fails.
type dialer struct {
	err      error
	workload string
}

func (d *dialer) Dial(ctx context.Context, key upstream.Key, _ netip.AddrPort) (upstream.Way, error) {
	if d.workload = key.Workload; d.err != nil {
		return upstream.Way{}, fmt.Errorf("open socket: %w", d.err)
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", key.Endpoint.String())
	if err != nil {
		return upstream.Way{}, err
	}
	return upstream.Way{TCP: c.(*net.TCPConn)}, nil
}

// serve accepts connections for f.
func serve(t *testing.T, f func(c net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				f(c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func ask(t *testing.T, addr netip.AddrPort, p *snapshot.Probe) error {
	t.Helper()
	return askFor(t, 30*time.Second, addr, p)
}

// inVain asks where no answer is to come.
func inVain(t *testing.T, addr netip.AddrPort, p *snapshot.Probe) error {
	t.Helper()
	return askFor(t, 300*time.Millisecond, addr, p)
}

func askFor(t *testing.T, limit time.Duration, addr netip.AddrPort, p *snapshot.Probe) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	d := &dialer{}
	err := New(d).Probe(ctx, "shop/consumer", addr, p)
	if d.workload != "shop/consumer" {
		t.Errorf("dialled as %q", d.workload)
	}
	return err
}

// wants checks an error's text; "" is none.
func wants(t *testing.T, what string, err error, text string) {
	t.Helper()
	if (err == nil) != (text == "") || err != nil && !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v, want %q", what, err, text)
	}
}

func TestTCP(t *testing.T) {
	silent := serve(t, func(c net.Conn) { _, _ = io.ReadAll(c) })
	wants(t, "a connection", ask(t, silent, &snapshot.Probe{}), "")
	wants(t, "no listener", ask(t, netip.MustParseAddrPort("127.0.0.1:1"), &snapshot.Probe{}), "refused")
	wants(t, "another port", ask(t, netip.AddrPortFrom(silent.Addr(), 1), &snapshot.Probe{Port: silent.Port()}), "")

	telnet := serve(t, func(c net.Conn) {
		b := make([]byte, 4)
		if _, err := io.ReadFull(c, b); err == nil && string(b) == "ls\r\n" {
			for _, part := range []string{"Prov", "ider", "Service\r\n", "dubbo>"} {
				_, _ = io.WriteString(c, part)
				time.Sleep(time.Millisecond)
			}
		}
		_, _ = io.ReadAll(c)
	})
	with := func(pieces ...string) *snapshot.Probe {
		p := &snapshot.Probe{Send: []byte("ls\r\n")}
		for _, piece := range pieces {
			p.Receive = append(p.Receive, []byte(piece))
		}
		return p
	}
	wants(t, "what is expected comes", ask(t, telnet, with("Provider", "dubbo>")), "")
	wants(t, "in another order", inVain(t, telnet, with("dubbo>", "Provider")), "no answer in time")
	wants(t, "the same once, but twice expected", inVain(t, telnet, with("Provider", "Provider")), "no answer in time")
	ends := serve(t, func(c net.Conn) { _, _ = io.ReadFull(c, make([]byte, 4)) }) // or the end is a reset
	wants(t, "an end", ask(t, ends, with("x")), "EOF")
	chatty := serve(t, func(c net.Conn) {
		for range 100 {
			_, _ = c.Write(make([]byte, 4096))
		}
		_, _ = io.ReadAll(c) // an end would be a reset, which overtakes them
	})
	wants(t, "too much", ask(t, chatty, with("x")), "does not come")
}

// provider answers each frame as it is told.
func provider(t *testing.T, answer func(h codec.Header, body []byte) []byte) netip.AddrPort {
	t.Helper()
	return serve(t, func(c net.Conn) {
		for {
			h, body, err := read(c.(*net.TCPConn))
			if err != nil {
				return
			}
			if _, err := c.Write(answer(h, body)); err != nil {
				return
			}
		}
	})
}

func TestHeartbeat(t *testing.T) {
	beat := &snapshot.Probe{Kind: snapshot.ProbeHeartbeat}
	reply := func(h codec.Header, _ []byte) []byte { return dubbo.AppendHeartbeatReply(nil, h) }
	wants(t, "an answer", ask(t, provider(t, reply), beat), "")
	wants(t, "its own heartbeat first", ask(t, provider(t, func(h codec.Header, b []byte) []byte {
		return append(dubbo.AppendHeartbeat(nil, probeID), reply(h, b)...)
	}), beat), "")
	wants(t, "another id", inVain(t, provider(t, func(h codec.Header, b []byte) []byte {
		h.ID++
		return reply(h, b)
	}), beat), "no answer in time")
	wants(t, "READONLY", ask(t, provider(t, func(h codec.Header, b []byte) []byte {
		return append([]byte{0xda, 0xbb, 0xa2, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 2, 0x01, 'R'}, reply(h, b)...)
	}), beat), "about to stop")
	wants(t, "no Dubbo", ask(t, serve(t, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }), beat), "read answer")
	wants(t, "a frame too large", ask(t, serve(t, func(c net.Conn) {
		_, _ = c.Write([]byte{0xda, 0xbb, 0x22, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0x00, 0x10, 0, 0})
	}), beat), "a frame of 1048576 bytes")
	wants(t, "silence", inVain(t, serve(t, func(c net.Conn) { _, _ = io.ReadAll(c) }), beat), "no answer in time")
}

func TestEcho(t *testing.T) {
	asks := &snapshot.Probe{Kind: snapshot.ProbeEcho, Interface: "com.shop.OrderService", Version: "1.0.0", Group: "blue"}
	exports := provider(t, func(h codec.Header, body []byte) []byte {
		prefix, state := dubbo.ParsePrefix(h.Serialization(), body)
		var b dubbo.Body
		b.Reset(h, body, prefix)
		group, _, err := b.Lookup("group")
		switch {
		case state != codec.Complete || err != nil || prefix.Method != "$echo" || !h.TwoWay() || h.Event():
			return dubbo.AppendError(nil, h, dubbo.StatusBadRequest, "not an echo")
		case prefix.Path != "com.shop.OrderService" || prefix.Version != "1.0.0" || group != "blue":
			return dubbo.AppendError(nil, h, dubbo.StatusServiceNotFound, "not exported")
		}
		return []byte{0xda, 0xbb, 2, 20, 0, 0, 0, 0, 0, 0, 0, byte(h.ID), 0, 0, 0, 1, 0x92}
	})
	wants(t, "the service", ask(t, exports, asks), "")
	other := *asks
	other.Group = ""
	wants(t, "another group", ask(t, exports, &other), "service_not_found")
	throws := provider(t, func(h codec.Header, _ []byte) []byte {
		return dubbo.AppendException(nil, h, dubbo.Exception{Class: dubbo.RPCException, Code: dubbo.CodeNoInvoker, Message: "no"})
	})
	wants(t, "an exception", ask(t, throws, asks), "the provider threw")
}

// What an agent cannot do is not the endpoint's fault.
func TestUnasked(t *testing.T) {
	for _, tt := range []struct {
		err             error
		unasked, nobody bool
	}{
		{handoff.ErrNotConnected, true, false},
		{&handoff.DialError{Code: handoff.DialExhausted}, true, false},
		{&handoff.DialError{Code: handoff.DialUnknown}, false, true},
		{&handoff.DialError{Code: handoff.DialDenied}, false, false},
		{&handoff.DialError{Code: handoff.DialFailed}, false, false},
	} {
		err := New(&dialer{err: tt.err}).Probe(t.Context(), "w", netip.AddrPort{}, &snapshot.Probe{})
		if err == nil || errors.Is(err, checkup.ErrUnasked) != tt.unasked || errors.Is(err, checkup.ErrNobody) != tt.nobody {
			t.Errorf("%v becomes %v", tt.err, err)
		}
	}
}
