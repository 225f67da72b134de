package downstream

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/tap"
	"github.com/dubway/dubway/l7proxy/telemetry"
)

// thrower answers every request with a business exception whose body has so many
// bytes.
func thrower(t *testing.T, size int) *provider {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	body := []byte("\x93C\x10org.example.Sold\x91\x0ddetailMessage\x60")
	body = append(body, bytes.Repeat([]byte("x"), size-len(body))...)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				r := bufio.NewReader(c)
				for f, err := readFrame(r); err == nil; f, err = readFrame(r) {
					if h, _ := dubbo.ParseHeader(f); h.Event() || !h.TwoWay() {
						continue
					}
					f[2], f[3] = dubbo.Hessian2, dubbo.StatusOK
					binary.BigEndian.PutUint32(f[12:], uint32(size))
					_, _ = c.Write(append(f[:dubbo.HeaderLen:dubbo.HeaderLen], body...))
				}
			}()
		}
	}()
	return &provider{addr: addrPortOf(ln)}
}

// tapped gives the rig's proxy a tap and real telemetry, and returns its client.
func (r *rig) tapped() *admin.Client {
	r.t.Helper()
	hub := &tap.Hub{}
	recorder, err := telemetry.New(telemetry.Options{Tap: hub, Applications: true})
	if err != nil {
		r.t.Fatal(err)
	}
	r.env.Tap, r.env.Recorder, r.env.Applications = hub, recorder, true
	dir, err := os.MkdirTemp("", "tap") // the path of t.TempDir is too long for a socket
	if err != nil {
		r.t.Fatal(err)
	}
	socket := filepath.Join(dir, "admin.sock")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	m := http.NewServeMux()
	m.Handle(admin.PathTap, hub.TapHandler(true, r.env.Logger))
	m.Handle(admin.PathMetrics, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _ = recorder.WriteText(w) }))
	go func() { done <- admin.Serve(ctx, socket, m, slog.New(slog.DiscardHandler)) }()
	client := admin.NewClient(socket)
	r.t.Cleanup(func() {
		client.Close()
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
		_ = os.RemoveAll(dir)
	})
	waitFor(r.t, "the admin socket", func() bool {
		_, err := client.Text(ctx, admin.PathMetrics, 1<<20)
		return err == nil
	})
	return client
}

var errSeen = errors.New("seen")

// watch runs calls while a tap looks, and returns the first n requests of it.
func (r *rig) watch(client *admin.Client, n int, calls func()) (seen []admin.TapEvent) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := client.Follow(ctx, admin.PathTap, &admin.TapRequest{Bodies: true}, func(line []byte) error {
		var e admin.TapEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		if e.Time.IsZero() {
			go calls()
			return nil
		}
		if seen = append(seen, e); len(seen) == n {
			return errSeen
		}
		return nil
	})
	if !errors.Is(err, errSeen) {
		r.t.Fatalf("the tap saw %d requests, want %d: %v", len(seen), n, err)
	}
	return seen
}

// behind is an argument and the attachments.
const behind = "\x05helloH\x12remote.application\x05probeZ"

// TestTappedCalls: a tap sees the bodies of requests and answers, held whole or
// streamed, and the class of exceptions; each request once.
func TestTappedCalls(t *testing.T) {
	small, large := []byte(behind), bytes.Repeat([]byte("a"), 400<<10)
	tests := []struct {
		name    string
		answers func(t *testing.T) *provider
		flags   byte
		payload []byte
		check   func(t *testing.T, e *admin.TapEvent, sent []byte)
	}{
		{"echo", newProvider, twoWay, small, func(t *testing.T, e *admin.TapEvent, sent []byte) {
			if e.Result != "value" || !bytes.Equal(e.Request.Data, sent[16:]) || !bytes.Equal(e.Response.Data[1:], sent[16:]) {
				t.Errorf("the tap tells %+v, %q, %q", e, e.Request.Data, e.Response.Data)
			}
			if e.Application != "probe" || e.Serialization != "hessian2" {
				t.Errorf("the application is %q, the serialization %q", e.Application, e.Serialization)
			}
		}},
		{"large", newProvider, twoWay, large, func(t *testing.T, e *admin.TapEvent, sent []byte) {
			if e.Request.Size != len(sent)-16 || len(e.Request.Data) < 1000 || !bytes.HasPrefix(sent[16:], e.Request.Data) {
				t.Errorf("%d of %d bytes of the request", len(e.Request.Data), e.Request.Size)
			}
			if a := e.Response; a.Size != len(sent)-15 || len(a.Data) < 200 || !bytes.HasPrefix(sent[16:], a.Data[1:]) {
				t.Errorf("%d of %d bytes of the answer", len(a.Data), a.Size)
			}
		}},
		{"exception", func(t *testing.T) *provider { return thrower(t, 5000) }, twoWay, small, thrown},
		{"large exception", func(t *testing.T) *provider { return thrower(t, 400<<10) }, twoWay, small, thrown},
		{"one-way", newProvider, 0x82, small, func(t *testing.T, e *admin.TapEvent, sent []byte) {
			if e.Result != "none" || !bytes.Equal(e.Request.Data, sent[16:]) || e.Response != nil {
				t.Errorf("the tap tells %+v", e)
			}
		}},
		{"refused", func(t *testing.T) *provider { p := newProvider(t); p.kill(); return p }, twoWay, small,
			func(t *testing.T, e *admin.TapEvent, sent []byte) {
				if e.Result != "local" || e.StatusName != "server_error" || !bytes.Equal(e.Request.Data, sent[16:]) ||
					!strings.Contains(string(e.Response.Data), "dubway: ") {
					t.Errorf("the tap tells %+v", e)
				}
			}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			client := r.tapped()
			p := test.answers(t)
			r.configure(p.addr)
			sent := request(7, test.flags, test.payload)
			seen := r.watch(client, 1, func() {
				c := r.dial()
				_, _ = c.Write(sent)
				if test.flags == twoWay {
					_, _ = readFrame(c)
				}
			})
			test.check(t, &seen[0], sent)
		})
	}
}

func thrown(t *testing.T, e *admin.TapEvent, _ []byte) {
	t.Helper()
	if e.Result != "exception" || e.Exception != "org.example.Sold" || e.StatusName != "ok" || !strings.Contains(string(e.Response.Data), "detailMessage") {
		t.Errorf("the tap tells %+v", e)
	}
}

// TestApplicationIsALabel: the consumer's own name is read once for a kind of
// request, on both sides, and not at all unless somebody asks.
func TestApplicationIsALabel(t *testing.T) {
	for _, in := range []bool{false, true} {
		r := newRig(t)
		p := newProvider(t)
		client := r.tapped()
		r.configure(p.addr)
		if r.in.Store(in); in {
			r.dst.Store(&p.addr)
		}
		c := r.dial()
		for id := range uint64(3) {
			if _, err := c.Write(request(id, twoWay, []byte(behind))); err != nil {
				t.Fatal(err)
			}
			if _, err := readFrame(c); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
		want := `dubbo_consumer_application="probe"`
		waitFor(t, fmt.Sprintf("inbound %v: a metric that has %s", in, want), func() bool {
			text, err := client.Text(t.Context(), admin.PathMetrics, 4<<20)
			if err != nil {
				t.Fatal(err)
			}
			return strings.Contains(string(text), want)
		})
	}
}
