package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
)

// serve starts Serve in a fresh state directory and returns its socket once it
// answers. The server is stopped, and its result checked, when the test ends.
func serve(t *testing.T, handler http.Handler) string {
	t.Helper()
	socket := admin.AgentSocket(t.TempDir())
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	start(t, socket, handler)
	return socket
}

func start(t *testing.T, socket string, handler http.Handler) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- admin.Serve(ctx, socket, handler, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-result; err != nil {
			t.Errorf("Serve = %v", err)
		}
		if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("socket is still there after Serve: %v", err)
		}
	})
	for range 6000 {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the admin socket does not answer")
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+admin.PathStatus, func(w http.ResponseWriter, _ *http.Request) {
		admin.WriteJSON(w, admin.AgentStatus{APIVersion: admin.APIVersion, Generation: 7})
	})
	mux.HandleFunc("POST "+admin.PathExplain, func(w http.ResponseWriter, r *http.Request) {
		var request admin.ExplainRequest
		if err := admin.ReadJSON(r, &request); err != nil {
			admin.WriteError(w, http.StatusBadRequest, err)
			return
		}
		admin.WriteJSON(w, admin.Explanation{APIVersion: admin.APIVersion, Route: request.Interface + "." + request.Method})
	})
	mux.HandleFunc("GET "+admin.PathMetrics, func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(strings.Repeat("x", 100)))
	})
	return mux
}

func TestClient(t *testing.T) {
	socket := serve(t, handler())
	client := admin.NewClient(socket)
	defer client.Close()
	ctx := context.Background()

	var status admin.AgentStatus
	if err := client.Get(ctx, admin.PathStatus, &status); err != nil || status.Generation != 7 {
		t.Errorf("Get = %+v, %v; want generation 7", status, err)
	}
	var explanation admin.Explanation
	request := admin.ExplainRequest{Interface: "demo.Echo", Method: "say"}
	if err := client.Post(ctx, admin.PathExplain, request, &explanation); err != nil || explanation.Route != "demo.Echo.say" {
		t.Errorf("Post = %+v, %v; want route demo.Echo.say", explanation, err)
	}
	err := client.Post(ctx, admin.PathExplain, map[string]string{"metod": "say"}, &explanation)
	if err == nil || !strings.Contains(err.Error(), `unknown field "metod"`) || !strings.Contains(err.Error(), socket) {
		t.Errorf("Post with an unknown field = %v; want it and the socket named", err)
	}
	if err := client.Get(ctx, "/v1/nothing", &status); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("Get of an unknown path = %v; want 404", err)
	}
	if text, err := client.Text(ctx, admin.PathMetrics, 100); err != nil || len(text) != 100 {
		t.Errorf("Text = %d bytes, %v; want 100", len(text), err)
	}
	if _, err := client.Text(ctx, admin.PathMetrics, 99); err == nil {
		t.Error("Text over its limit gave no error")
	}
}

func TestUnreachable(t *testing.T) {
	for _, process := range []string{"agent", "proxy"} {
		dir := t.TempDir()
		socket := filepath.Join(dir, process, "admin.sock")
		err := admin.NewClient(socket).Get(context.Background(), admin.PathStatus, &struct{}{})
		if !errors.Is(err, admin.ErrUnreachable) {
			t.Fatalf("Get = %v; want ErrUnreachable", err)
		}
		for _, want := range []string{socket, "is dubway-" + process + " running?"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q does not say %q", err, want)
			}
		}
	}
}

func TestServeSocket(t *testing.T) {
	t.Run("mode", func(t *testing.T) {
		info, err := os.Stat(serve(t, handler()))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o660 {
			t.Errorf("mode = %o, want 660", got)
		}
	})
	t.Run("stale", func(t *testing.T) {
		socket := filepath.Join(t.TempDir(), "admin.sock")
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		dead.Close()
		start(t, socket, handler())
	})
	t.Run("live", func(t *testing.T) {
		socket := serve(t, handler())
		err := admin.Serve(context.Background(), socket, handler(), slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "another process answers") {
			t.Errorf("Serve on a live socket = %v", err)
		}
	})
	t.Run("no socket", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "admin.sock")
		if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := admin.Serve(context.Background(), file, handler(), slog.New(slog.DiscardHandler)); err == nil {
			t.Error("Serve replaced a regular file")
		}
		if data, _ := os.ReadFile(file); string(data) != "precious" {
			t.Error("the file in the way is gone")
		}
	})
}

// TestFieldNames keeps the contract of -o json: the names are stable.
func TestFieldNames(t *testing.T) {
	tests := []struct {
		document any
		want     string
	}{
		{admin.NodeLanes{}, "choice excluded kept left mode open workloads"},
		{admin.AgentStatus{}, "apiVersion capabilities cgroup counters generation maps pid pinPath programs proxyConnected release role source started tables uid uptime workloads"},
		{admin.ProxyStatus{}, "accessLog agentConnected apiVersion capabilities connections generation memory pid rejections release snapshot started uid uptime workloads"},
		{admin.WorkloadStatus{}, "addresses enrolled name namespace uid"},
		{admin.RouteStatus{}, "address clusters listener match path"},
		{admin.Explanation{}, "apiVersion generation outcome steps"},
		{admin.Rejection{}, "kind name reason"},
	}
	for _, test := range tests {
		data, err := json.Marshal(test.document)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(data, &fields); err != nil {
			t.Fatal(err)
		}
		for name := range strings.FieldsSeq(test.want) {
			if _, ok := fields[name]; !ok {
				t.Errorf("%T has no field %q", test.document, name)
			}
			delete(fields, name)
		}
		for name := range fields {
			t.Errorf("%T has a field %q that this test does not know: add it", test.document, name)
		}
	}
}

// TestIdentityProblem: an operator hears of what is missing, what is over and what is about
// to be, and of nothing else.
func TestIdentityProblem(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	soon, past := now.Add(time.Hour), now.Add(-time.Hour)
	for _, c := range []struct {
		one  admin.Identity
		want string
	}{
		{admin.Identity{}, ""},
		{admin.Identity{Expires: &soon}, ""},
		{admin.Identity{Error: "refused"}, "no certificate of shop/consumer: refused"},
		{admin.Identity{Expires: &past, Error: "refused"}, "the certificate of shop/consumer expired at 2026-11-29T11:00:00Z: refused"},
		{admin.Identity{Expires: &soon, Error: "refused"}, "the certificate of shop/consumer, which expires at 2026-11-29T13:00:00Z, is not renewed: refused"},
	} {
		c.one.Namespace, c.one.ServiceAccount = "shop", "consumer"
		if got := c.one.Problem(now); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestControlProblem(t *testing.T) {
	heard := time.Now()
	tests := []struct {
		view *admin.ControlView // nil: there is no control plane
		want string             // "" for none
	}{
		{nil, ""},
		{&admin.ControlView{Connected: true}, ""},
		{&admin.ControlView{Reason: "refused", Kept: true}, "refused; what was kept on disk holds"},
		{&admin.ControlView{Reason: "refused", Updated: &heard}, "refused; what it said last goes on"},
	}
	for _, test := range tests {
		var plane *admin.ControlPlane
		if test.view != nil {
			plane = &admin.ControlPlane{Views: []admin.ControlView{*test.view}}
		}
		got := strings.Join(plane.Problems(), "\n")
		if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%+v: %q, want %q", test.view, got, test.want)
		}
	}
}
