package scenario

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// TestEnrolledWhenInForce: with a control plane a pod is enrolled when its own view is in
// force, not before: its first connect is steered. Whose view is withheld is not, and the
// others are.
func TestEnrolledWhenInForce(t *testing.T) {
	m := newMesh(t)
	one, v1 := m.pod("one"), m.pod("provider-1", 20880)
	m.provider(v1, "v1")
	dir := m.open()
	clusters := both(v1, v1)
	for _, app := range []string{"one", "held", "late", "provider"} {
		m.tell(dir, app, meshtest.Service{Name: app, Addresses: []string{vip4}, Routes: split(map[string]int{"v1": 1}), Clusters: clusters}, "")
	}
	hold := filepath.Join(dir, "held.hold")
	m.must(os.WriteFile(hold, nil, 0o644))
	control, err := m.StartHelper("plane", dir)
	m.must(err)
	first := func(from *testnet.Pod) {
		t.Helper()
		m.must(m.WaitEnrolled(m.ctx, from))
		r := m.calls(from, callsOf{Target: vip4 + ":20880", N: 1, Request: dubbotest.Request{}, Timeout: 10 * time.Second})
		if r.Answers["v1"] != 1 {
			t.Errorf("the first call of %s, as soon as it is enrolled, is answered by %v %q", from.Name, r.Answers, r.Errors)
		}
	}
	m.Start([]*testnet.Pod{one, v1}, "--xds-server", planeAddress)
	first(one)

	held, unknown := m.pod("held"), m.pod("unknown")
	m.says(held, "the control plane has not said yet what it sees of the mesh")
	m.says(unknown, "the control plane does not answer, and nothing of what it sees of the mesh was kept")
	for i := range 5 { // of a kind that is known, at once
		first(m.pod([]string{"one-2", "one-3", "one-4", "one-5", "one-6"}[i]))
	}
	m.says(held, "the control plane has not said yet")
	m.must(os.Remove(hold))
	first(held)

	m.must(control.Stop(10 * time.Second))
	late := m.pod("late")
	m.says(late, "the control plane does not answer")
	_, err = m.StartHelper("plane", dir)
	m.must(err)
	first(late)
	m.says(unknown, "the control plane does not answer")
}
