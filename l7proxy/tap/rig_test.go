package tap

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry"
)

// rig is a Hub behind a real admin socket, and a real Recorder that shows it
// what is observed.
type rig struct {
	t        *testing.T
	hub      *Hub
	recorder *telemetry.Recorder
	client   *admin.Client
}

func newRig(t *testing.T, bodies bool) *rig {
	t.Helper()
	r := &rig{t: t, hub: &Hub{}}
	var err error
	if r.recorder, err = telemetry.New(telemetry.Options{Tap: r.hub}); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "tap") //nolint:usetesting // the path of t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	socket := admin.ProxySocket(dir)
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	m := http.NewServeMux()
	log := slog.New(slog.DiscardHandler)
	m.Handle("POST "+admin.PathTap, r.hub.TapHandler(bodies, log))
	m.Handle("POST "+admin.PathTop, r.hub.TopHandler())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- admin.Serve(ctx, socket, m, log) }()
	r.client = admin.NewClient(socket)
	t.Cleanup(func() {
		r.client.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	for range 6000 {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			return r
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the admin socket does not answer")
	return nil
}

// errEnough ends a stream.
var errEnough = errors.New("enough")

// follow reads a tap until each says errEnough. What is to be seen is observed
// by start, once the tap is on.
func (r *rig) follow(q *admin.TapRequest, start func(), each func(*admin.TapEvent) error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	first := true
	err := r.client.Follow(ctx, admin.PathTap, q, func(line []byte) error {
		var e admin.TapEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		if first {
			first = false
			if !e.Time.IsZero() || !r.hub.Watched() {
				r.t.Errorf("the first line is %s", line)
			}
			start()
			return nil
		}
		return each(&e)
	})
	if err != nil && !errors.Is(err, errEnough) {
		r.t.Fatal(err)
	}
	r.idle()
}

// idle waits until nobody looks any more.
func (r *rig) idle() {
	r.t.Helper()
	for range 6000 {
		if !r.hub.Watched() && !r.hub.Bodies() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	r.t.Error("the proxy goes on after the reader has gone")
}

// prepared returns a call like those that a session makes.
func (r *rig) prepared(edit func(*rpc.Call)) *rpc.Call {
	c := unprepared()
	if edit != nil {
		edit(c)
	}
	r.recorder.Prepare(c)
	return c
}

func unprepared() *rpc.Call {
	return &rpc.Call{
		Protocol: rpc.ProtocolDubbo, Reporter: rpc.ReporterSource | rpc.ReporterDestination, SameNode: true,
		Source:      &rpc.Peer{Workload: "consumer", Pod: "consumer-0", Namespace: "shop"},
		Destination: &rpc.Peer{Workload: "provider", Pod: "provider-0", Namespace: "shop"},
		Interface:   "org.example.Greeter", Method: "greet", Version: "1.0.0", Cluster: "v1", Route: "default", Listener: "vip",
		Endpoint: netip.MustParseAddrPort("10.0.2.2:20880"), Original: netip.MustParseAddrPort("10.96.0.7:20880"),
	}
}

// record is an answered request of a call.
func record(c *rpc.Call) *rpc.Record {
	return &rpc.Record{
		Call: c, Result: rpc.ResultValue, Status: 20, Serialization: 2, ID: 1<<64 - 1,
		Start: time.Now(), Duration: 1500 * time.Microsecond, Overhead: 20 * time.Microsecond,
		RequestBytes: 300, ResponseBytes: 80, Downstream: netip.MustParseAddrPort("10.0.1.1:40000"),
	}
}

func observe(rec *rpc.Record) { rec.Call.Observer.Observe(rec) }
