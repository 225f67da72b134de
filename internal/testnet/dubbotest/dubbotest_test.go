package dubbotest_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// provide serves on loopback and returns the provider and its address.
func provide(t *testing.T) (*dubbotest.Provider, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	provider := &dubbotest.Provider{Name: "v1"}
	go provider.Serve(listener)
	t.Cleanup(func() { listener.Close() })
	return provider, listener.Addr().String()
}

func TestCall(t *testing.T) {
	provider, address := provide(t)
	client, err := dubbotest.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	tests := []struct {
		method string
		status byte
		kind   byte
		value  string
	}{
		{"echo", 20, 4, "hello"},
		{"delay10", 20, 4, "hello"},
		{"throw", 20, 3, ""},
		{"error", 70, 0, ""},
		{"errorv1", 70, 0, ""},
		{"errorv2", 20, 4, "hello"},
		{"flaky1", 70, 0, ""},
		{"flaky1", 20, 4, "hello"},
		{"flaky1", 70, 0, ""},
		{"attached", 20, 4, `{"interface":"` + dubbotest.DefaultInterface + `","path":"` + dubbotest.DefaultInterface + `","version":"0.0.0"}`},
		{"readonly", 20, 4, "hello"},
		{"bare", 20, 1, "hello"},
	}
	for _, test := range tests {
		answer, err := client.Call(dubbotest.Request{Method: test.method}, []byte("hello"), 30*time.Second)
		if err != nil {
			t.Fatalf("%s: %v", test.method, err)
		}
		if answer.Status != test.status || answer.Kind != test.kind || string(answer.Value) != test.value {
			t.Errorf("%s = %+v, want %+v", test.method, answer, test)
		}
		if answer.Kind == 4 && (answer.Provider != "v1" || answer.Peer != client.Conn().LocalAddr().String()) {
			t.Errorf("%s: provider %q peer %q", test.method, answer.Provider, answer.Peer)
		}
	}
	if err := client.Heartbeat(30 * time.Second); err != nil {
		t.Error(err)
	}
	select {
	case <-client.ReadOnly:
	default:
		t.Error("READONLY was not seen")
	}
	if _, err := client.Call(dubbotest.Request{Method: "silent"}, nil, 20*time.Millisecond); err == nil {
		t.Error("silent answered")
	}
	if _, err := client.Call(dubbotest.Request{Method: "close"}, nil, 30*time.Second); err == nil {
		t.Error("close answered")
	}
	if got := provider.Stats().Methods["throw"]; got != 1 {
		t.Errorf("Stats counts %d throw, want 1", got)
	}
}

func TestVerify(t *testing.T) {
	provider, address := provide(t)
	verify := dubbotest.Verify{Target: address, Conns: 4, Depth: 64, Calls: 4000, MaxSize: 8 << 20, Seed: 1}
	result, err := verify.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if result.Answered != verify.Calls || result.Lost+result.Duplicated+result.Refused != 0 ||
		result.Providers["v1"] != verify.Calls || result.Heartbeats == 0 || result.OneWays == 0 {
		t.Errorf("%+v", result)
	}
	stats := provider.Stats()
	if stats.Calls != int64(verify.Calls) || stats.OneWays != int64(result.OneWays) || stats.Heartbeats != int64(result.Heartbeats) {
		t.Errorf("provider counted %+v, consumer %+v", stats, result)
	}
}

// TestCallback: a provider calls its subscriber back, and nobody else.
func TestCallback(t *testing.T) {
	provider, address := provide(t)
	var clients [2]*dubbotest.Client
	called := make(chan string, 100)
	for i := range clients {
		client, err := dubbotest.Dial(address)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		clients[i] = client
		client.OnCall(func(data []byte) []byte {
			called <- fmt.Sprint(i, string(data))
			return data
		})
	}
	subscribe := dubbotest.Request{Method: "subscribe", Attachments: map[string]string{dubbotest.CallbackAttachment: "1"}}
	if _, err := clients[0].Call(subscribe, nil, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := clients[1].Call(dubbotest.Request{Method: "notify3"}, []byte("news"), 30*time.Second); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got := <-called; got != "0news" {
			t.Errorf("%q was called, want the subscriber", got)
		}
	}
	for end := time.Now().Add(30 * time.Second); provider.Stats().Callbacks != 3; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v, want three callbacks", provider.Stats())
		}
	}
	clients[0].OnCall(func([]byte) []byte { return []byte("wrong") })
	_, _ = clients[1].Call(dubbotest.Request{Method: "notify"}, []byte("news"), 30*time.Second)
	for end := time.Now().Add(30 * time.Second); provider.Stats().CallbacksFailed != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v, want one that failed", provider.Stats())
		}
	}
}

// TestVerifyFinds runs against providers that are wrong.
func TestVerifyFinds(t *testing.T) {
	for _, method := range []string{"throw", "error", "close", "silent"} {
		_, address := provide(t)
		verify := dubbotest.Verify{
			Target: address, Conns: 1, Depth: 4, Calls: 10, MaxSize: 100,
			Request: dubbotest.Request{Method: method}, Timeout: 200 * time.Millisecond,
		}
		if result, err := verify.Run(t.Context()); err == nil {
			t.Errorf("%s was not found: %+v", method, result)
		}
	}
}
