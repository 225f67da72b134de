package overload

import (
	"log/slog"
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

// TestLevels: the heaviest workload is shed when memory is full, one more while its use
// grows, and all are taken again when it is calm.
func TestLevels(t *testing.T) {
	a, b := &tenant{name: "shop/a"}, &tenant{name: "shop/b"}
	var bytes uint64
	m := New(Options{
		Limit: 1000, Used: func() uint64 { return bytes }, Logger: slog.New(slog.DiscardHandler), Collect: func() {},
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

// TestPatience: garbage is collected before anybody is shed, and who was shed has time
// to give memory back before the next one is.
func TestPatience(t *testing.T) {
	a, b := &tenant{name: "shop/a"}, &tenant{name: "shop/b"}
	bytes, garbage, collected := uint64(850), uint64(100), 0
	m := New(Options{
		Limit: 1000, Used: func() uint64 { return bytes + garbage }, Logger: slog.New(slog.DiscardHandler),
		Collect: func() { garbage, collected = 0, collected+1 },
		Heaviest: func(but []Tenant) Tenant {
			if len(but) == 0 {
				return a
			}
			return b
		},
	})
	if m.look(); m.Level() != Tight || a.shed || collected != 1 {
		t.Errorf("garbage is over the limit: %s, shed %v, collected %d times", m.Level(), a.shed, collected)
	}
	bytes = 910
	if m.look(); m.Level() != Full || !a.shed {
		t.Errorf("%s, shed %v", m.Level(), a.shed)
	}
	for range patience - 1 {
		m.look()
	}
	if b.shed {
		t.Error("the next one was shed before the first could give anything back")
	}
	if m.look(); !b.shed {
		t.Error("the first gave nothing back, and the next one was not shed")
	}
	if collected > 1+(patience+2)/collectFull {
		t.Errorf("collected %d times", collected)
	}
}
