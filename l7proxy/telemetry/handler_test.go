package telemetry_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry"
)

// noAgent is an agent that is down.
type noAgent struct{}

func (noAgent) Text(context.Context, string, int64) ([]byte, error) { return nil, errors.New("down") }

func scrape(t *testing.T, handler http.Handler) string {
	t.Helper()
	response := httptest.NewRecorder()
	handler.ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if response.Code != http.StatusOK {
		t.Fatalf("scrape = %d: %s", response.Code, response.Body)
	}
	return response.Body.String()
}

// TestHandler serves the agent's metrics by its real admin socket.
func TestHandler(t *testing.T) {
	const good = "# HELP dubway_connects_total Connects by outcome.\n# TYPE dubway_connects_total counter\n" +
		"dubway_connects_total{outcome=\"steered\"} 7\n" +
		"# TYPE go_goroutines gauge\ngo_goroutines 99\n# TYPE process_open_fds gauge\nprocess_open_fds 5\n"
	tests := []struct {
		name, text string
		up         string
		steered    string
	}{
		{"an agent", good, "1", "7"},
		{"an agent without metrics", "", "1", ""},
		{"no exposition text", "dubway_connects_total{outcome=steered 7\n", "0", ""},
		{"too much", strings.Repeat(good, 1<<16), "0", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "agent", "admin.sock")
			if err := os.Mkdir(filepath.Dir(socket), 0o700); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error)
			go func() {
				done <- admin.Serve(ctx, socket, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					io.WriteString(w, test.text)
				}), slog.New(slog.DiscardHandler))
			}()
			defer func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}()
			client := admin.NewClient(socket)
			for range 6000 {
				if listens(socket) {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
			got := scrape(t, newRig(t, telemetry.Options{}).Handler(telemetry.NewRegistry(), client, slog.New(slog.DiscardHandler)))
			client.Close()
			if up := value(t, got, "dubway_agent_up"); up != test.up {
				t.Errorf("dubway_agent_up = %q, want %s", up, test.up)
			}
			if steered := value(t, got, "dubway_connects_total"); steered != test.steered {
				t.Errorf("dubway_connects_total = %q, want %q", steered, test.steered)
			}
			// The proxy's own runtime, once, and not the agent's.
			if goroutines := value(t, got, "go_goroutines"); goroutines == "" || goroutines == "99" {
				t.Errorf("go_goroutines = %q, want the proxy's", goroutines)
			}
		})
	}
}

// listens tells whether somebody takes connections at a socket: its file is there a
// moment before.
func listens(socket string) bool {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// slowAgent answers when the context ends.
type slowAgent struct{}

func (slowAgent) Text(ctx context.Context, _ string, _ int64) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestHandlerOfSlowAgent(t *testing.T) {
	r := newRig(t, telemetry.Options{})
	start := time.Now()
	got := scrape(t, r.Handler(telemetry.NewRegistry(), slowAgent{}, slog.New(slog.DiscardHandler)))
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("scrape took %v", took)
	}
	if up := value(t, got, "dubway_agent_up"); up != "0" {
		t.Errorf("dubway_agent_up = %q, want 0", up)
	}
	if exceeded := value(t, got, "dubway_label_budget_exceeded_total", "dubbo_method"); exceeded != "0" {
		t.Errorf("the Recorder's own metrics are missing: %s", got)
	}
}

func TestAccessLogHandler(t *testing.T) {
	r := newRig(t, telemetry.Options{AccessLog: io.Discard})
	ask := func(method, body string) (int, string) {
		response := httptest.NewRecorder()
		r.AccessLogHandler().ServeHTTP(response, httptest.NewRequest(method, admin.PathAccessLog, strings.NewReader(body)))
		return response.Code, strings.TrimSpace(response.Body.String())
	}
	steps := []struct {
		method, body string
		code         int
		want         string
	}{
		{"GET", "", 200, `{"apiVersion":"dubway.io/v1alpha1","sample":0,"mesh":true}`},
		{"POST", `{"sample":0.25}`, 200, `{"apiVersion":"dubway.io/v1alpha1","sample":0.25,"mesh":false}`},
		{"POST", `{"sample":2}`, 400, `{"apiVersion":"dubway.io/v1alpha1","error":"set access log sample: 2 is not between 0 and 1"}`},
		{"POST", `{"rate":1}`, 400, `{"apiVersion":"dubway.io/v1alpha1","error":"read request: json: unknown field \"rate\""}`},
		{"GET", "", 200, `{"apiVersion":"dubway.io/v1alpha1","sample":0.25,"mesh":false}`},
		{"POST", `{"mesh":true}`, 200, `{"apiVersion":"dubway.io/v1alpha1","sample":0,"mesh":true}`},
	}
	for _, step := range steps {
		if code, got := ask(step.method, step.body); code != step.code || got != step.want {
			t.Errorf("%s %s = %d %s, want %d %s", step.method, step.body, code, got, step.code, step.want)
		}
	}

	none := newRig(t, telemetry.Options{})
	if err := none.SetSample(1); err == nil || none.Sample() != 0 {
		t.Errorf("SetSample without a log = %v", err)
	}
}

// TestText: whatever the series are, the text is valid, compressed or not.
func TestText(t *testing.T) {
	r := newRig(t, telemetry.Options{AccessLog: io.Discard})
	for _, name := range []string{"a", "a\nb", `a"}`, `\`, "a\xff", "接口", ""} {
		c := call()
		c.Interface, c.Reporter = name, both
		r.Prepare(c).Observe(record(c))
		r.Connection(&rpc.Connection{Call: c})
	}
	handler := r.Handler(telemetry.NewRegistry(), noAgent{}, slog.New(slog.DiscardHandler))
	request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	request.Header.Set("Accept-Encoding", "gzip")
	response := httptest.NewRecorder()
	handler.ServeHTTP(response, request)
	unzipped, err := gzip.NewReader(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(unzipped)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(families["istio_request_bytes"].GetMetric()); got != 14 {
		t.Errorf("istio_request_bytes has %d series, want 14", got)
	}
	for name, family := range families {
		seen := map[string]bool{}
		for _, m := range family.GetMetric() {
			key := fmt.Sprint(m.GetLabel())
			if seen[key] {
				t.Errorf("%s has a series twice: %s", name, key)
			}
			seen[key] = true
			if h := m.GetHistogram(); h != nil && len(h.GetBucket()) != 20 && strings.HasPrefix(name, "istio_") {
				t.Errorf("%s has %d buckets, want 20", name, len(h.GetBucket()))
			}
		}
	}
}
