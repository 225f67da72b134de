package overload

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// tenant is a workload.
type tenant struct {
	name string
	shed bool
}

func (t *tenant) Shed(on bool) { t.shed = on }
func (t *tenant) Name() string { return t.name }

// TestLevels: one more workload is shed with each look while memory is full, the
// heaviest first, and all are taken again when it is calm.
func TestLevels(t *testing.T) {
	a, b := &tenant{name: "shop/a"}, &tenant{name: "shop/b"}
	var bytes uint64
	m := New(Options{
		Limit: 1000, Used: func() uint64 { return bytes }, Logger: slog.New(slog.DiscardHandler),
		Heaviest: func(but []Tenant) Tenant {
			for _, one := range []*tenant{a, b} {
				if !slices.Contains(but, Tenant(one)) {
					return one
				}
			}
			return nil
		},
	})
	for _, step := range []struct {
		bytes  uint64
		level  Level
		a, b   bool
		listed int
	}{
		{0, Calm, false, false, 0},
		{799, Calm, false, false, 0},
		{800, Tight, false, false, 0},
		{899, Tight, false, false, 0},
		{900, Full, true, false, 1},
		{950, Full, true, true, 2},
		{1200, Full, true, true, 2},
		{850, Tight, true, true, 2},
		{700, Calm, false, false, 0},
	} {
		bytes = step.bytes
		m.look()
		if s := m.State(); m.Level() != step.level || a.shed != step.a || b.shed != step.b || len(s.Shed) != step.listed || s.Used != bytes {
			t.Errorf("at %d: %s, a %v, b %v, %+v", step.bytes, m.Level(), a.shed, b.shed, s)
		}
	}
	if used() == 0 {
		t.Error("the runtime says that no memory is used")
	}
}

func TestLimitOf(t *testing.T) {
	for _, tt := range []struct {
		name, cgroup string
		files        map[string]string
		want         uint64
	}{
		{"version 2", "0::/kubepods/pod1/c1\n", map[string]string{"kubepods/pod1/c1/memory.max": "1048576\n", "kubepods/memory.max": "max\n"}, 1 << 20},
		{"of one above", "0::/kubepods/pod1/c1\n", map[string]string{"kubepods/pod1/c1/memory.max": "max\n", "kubepods/pod1/memory.max": "2048\n"}, 2048},
		{"a namespace of its own", "0::/\n", map[string]string{"memory.max": "4096\n"}, 4096},
		{"version 1", "4:memory:/docker/x\n1:cpu:/\n0::/\n", map[string]string{"memory/docker/x/memory.limit_in_bytes": "8192\n"}, 8192},
		{"version 1, none", "4:memory:/docker/x\n", map[string]string{"memory/docker/x/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		{"nothing", "0::/\n", nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proc, sys := t.TempDir(), t.TempDir()
			put := func(path, text string) {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			put(filepath.Join(proc, "self", "cgroup"), tt.cgroup)
			for name, text := range tt.files {
				put(filepath.Join(sys, name), text)
			}
			if got := LimitOf(proc, sys); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
	if got := LimitOf(t.TempDir(), t.TempDir()); got != 0 {
		t.Errorf("%d without a cgroup", got)
	}
}
