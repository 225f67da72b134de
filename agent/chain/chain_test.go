package chain

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dubway/dubway/agent/cniserver"
	"github.com/dubway/dubway/cni/entry"
	"github.com/dubway/dubway/cni/install"
	"github.com/dubway/dubway/cni/wire"
)

// nobody is Pods without pods.
type nobody struct{ cniserver.Pods }

func (nobody) Ready() error { return nil }

const plain = `{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"ptp"}]}`

func options(t *testing.T) Options {
	t.Helper()
	source := filepath.Join(t.TempDir(), "plugin")
	if err := os.WriteFile(source, []byte("#!/bin/true\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return Options{NodeDir: t.TempDir(), Pods: nobody{}, Log: slog.New(slog.DiscardHandler), Install: install.Options{
		ConfDir: t.TempDir(), BinDir: t.TempDir(), Source: source, Socket: "/run/dubway/cni.sock", Mode: entry.Closed}}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

func chained(t *testing.T, c *Chain) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "dubway_cni_chained" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatal("no metric")
	return 0
}

func TestRun(t *testing.T) {
	opts := options(t)
	conf := filepath.Join(opts.Install.ConfDir, "10-n.conflist")
	if err := os.WriteFile(conf, []byte(plain), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if chained(t, c) != 0 {
		t.Error("chained before it ran")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	eventually(t, "the plugin is chained in", func() bool { return c.Status().File != "" })
	if chained(t, c) != 1 {
		t.Error("the metric says that it is not")
	}
	var conn *wire.Conn
	eventually(t, "the agent serves", func() bool {
		conn, err = wire.Dial(t.Context(), Socket(opts.NodeDir))
		return err == nil
	})
	defer conn.Close()
	a, err := conn.Ask(t.Context(), &wire.Request{Version: wire.Version, Verb: wire.Ready, TimeoutMillis: 10000}, nil)
	if err != nil || a.Error != "" {
		t.Errorf("answer %+v, %v", a, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(conf); err != nil || !strings.Contains(string(text), entry.Type) {
		t.Errorf("the plugin did not stay: %s, %v", text, err)
	}
	// The agent that leaves may be another than the one that chained it in.
	if c, err = New(opts); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(conf); err != nil || string(text) != plain {
		t.Errorf("left is %s, %v", text, err)
	}
}

// TestRunFails ends both parts when one cannot work.
func TestRunFails(t *testing.T) {
	opts := options(t)
	opts.NodeDir = filepath.Join(opts.Install.Source, "below-a-file")
	c, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "listen for the CNI plugin") {
		t.Errorf("error is %v", err)
	}
	opts.Install.Mode = "off"
	if _, err := New(opts); err == nil {
		t.Error("a mode that installs nothing was accepted")
	}
}

var (
	metricRow  = regexp.MustCompile("(?m)^\\| `(dubway_[a-z_]+)` \\| [a-z]+ \\| ([^|]*)\\|")
	metricDesc = regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)
)

// TestMetricsAreDocumented compares the table in docs/metrics.md with what is collected.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## The CNI plugin's end\n")
	section, _, _ = strings.Cut(section, "\n## ")
	documented := make(map[string]string)
	for _, row := range metricRow.FindAllStringSubmatch(section, -1) {
		documented[row[1]] = strings.NewReplacer("`", "", " ", "").Replace(row[2])
	}
	c, err := New(options(t))
	if err != nil {
		t.Fatal(err)
	}
	descs := make(chan *prometheus.Desc, 100)
	c.Describe(descs)
	close(descs)
	collected := make(map[string]string)
	for d := range descs {
		match := metricDesc.FindStringSubmatch(d.String())
		if match == nil {
			t.Fatalf("cannot read %s", d)
		}
		collected[match[1]] = match[2]
	}
	if !maps.Equal(documented, collected) {
		t.Errorf("docs/metrics.md has %q, collected is %q", documented, collected)
	}
}
