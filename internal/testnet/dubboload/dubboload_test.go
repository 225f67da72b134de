package dubboload_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet/dubboload"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// provide serves on loopback and returns the provider's address.
func provide(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go (&dubbotest.Provider{Name: "v1"}).Serve(listener)
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().String()
}

func TestClosed(t *testing.T) {
	address := provide(t)
	for _, size := range []int{0, 16, 1 << 10, 64 << 10} {
		load := dubboload.Closed{Target: address, Conns: 2, Depth: 8, Size: size, Time: time.Second}
		result, err := load.Run(t.Context())
		if err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		if result.Calls == 0 || result.P50 == 0 || result.P99 < result.P50 || result.Max < result.P99 {
			t.Errorf("size %d: %+v", size, result)
		}
	}
	load := dubboload.Closed{Target: address, Conns: 1, Depth: 1, Time: time.Second, Request: dubbotest.Request{Method: "error"}}
	if _, err := load.Run(t.Context()); err == nil {
		t.Error("answers with status 70 were counted")
	}
}

// TestPrime: what is called before is among all calls, and not among those that are measured.
func TestPrime(t *testing.T) {
	address := provide(t)
	closed := dubboload.Closed{Target: address, Conns: 2, Depth: 4, Size: 100, Time: time.Second, Prime: true}
	open := dubboload.Open{Target: address, Conns: 2, Rate: 2000, Size: 100, Time: time.Second, Prime: true}
	for name, run := range map[string]func(context.Context) (dubboload.Result, error){"closed": closed.Run, "open": open.Run} {
		r, err := run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if r.Calls == 0 || r.All-r.Calls < 2*dubboload.Priming {
			t.Errorf("%s: %d calls, %d with all others", name, r.Calls, r.All)
		}
	}
}

// TestOpen: the calls that are due are made, whatever the answers do.
func TestOpen(t *testing.T) {
	address := provide(t)
	r, err := dubboload.Open{
		Target: address, Conns: 2, Rate: 2000, Size: 100, Warmup: 50 * time.Millisecond, Time: 500 * time.Millisecond,
	}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Calls < 900 || r.Calls > 1100 || r.P50 > r.P99 || r.P99 > r.P999 || r.P999 > r.Max {
		t.Errorf("%+v, want 1,000 calls", r)
	}
	// A provider that stands still for 100 ms: every call that it held up counts.
	r, err = dubboload.Open{
		Target: address, Conns: 1, Rate: 1000, Time: 300 * time.Millisecond, Request: dubbotest.Request{Method: "delay100"},
	}.Run(t.Context())
	if err != nil || r.P50 < 100*time.Millisecond {
		t.Errorf("%+v, %v: want 100 ms and more", r, err)
	}
}
