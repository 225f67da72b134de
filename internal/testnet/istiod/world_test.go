//go:build e2e

package istiod_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
	"github.com/dubway/dubway/internal/testnet/istiod"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// bar is how soon a change in the API must have its effect on calls. It is meant to be
// 500 ms; what was measured is in the log, and fails only where something waits for a
// time-out.
const bar = 10 * time.Second

// world is a node below a control plane: two consumers and two versions of a provider.
type world struct {
	*meshtest.Mesh

	plane           *istiod.Plane
	consumer, batch *testnet.Pod
	stranger        *testnet.Pod // whom the mesh does not know
	v1, v2          *testnet.Pod
	proxy           *testnet.Process
	idle            int // listeners without any scenario

	tags    int      // of helpers' outputs
	read    int      // bytes of istiod's log
	refused []string // what may be refused of what istiod sends, from the scenario on that wants it
}

// begin starts everything.
func begin(t *testing.T) *world {
	t.Helper()
	m := meshtest.New(t, "is", 1, 16*time.Minute)
	w := &world{Mesh: m, consumer: m.Pod("consumer"), batch: m.Pod("batch")}
	for name, pod := range map[string]**testnet.Pod{"v1": &w.v1, "v2": &w.v2} {
		p, err := m.AddPod("provider-"+name, map[string]string{"app": "provider", "version": name}, 20880)
		m.Must(err)
		m.Must(p.Enroll())
		_, err = p.StartHelper("provider", name)
		m.Must(err)
		m.Eventually("provider "+name+" listens", func() bool { return p.Listens(20880) })
		*pod = p
	}
	var err error
	w.stranger, err = m.AddPod("stranger", nil)
	m.Must(err)
	started := time.Now()
	w.plane = istiod.Start(m, w.objects("base"))
	t.Logf("the control plane is ready after %v", time.Since(started).Round(time.Millisecond))
	for _, p := range w.pods() {
		w.plane.Publish(p, "n1")
	}
	_, w.proxy = m.Start(w.pods(), w.flags()...)
	w.Eventually("every pod's view is there", func() bool {
		views := w.views()
		w.idle = listeners(views)
		return len(views) == len(w.pods()) && connected(views) && w.idle > 0
	})
	return w
}

// views are what the control plane tells, by kind of workload.
func (w *world) views() []admin.ControlView {
	w.T.Helper()
	s, err := w.ProxyStatus(w.Ctx)
	w.Must(err)
	if s.ControlPlane == nil {
		return nil
	}
	return s.ControlPlane.Views
}

// connected tells whether the control plane has told of every view.
func connected(views []admin.ControlView) bool {
	return len(views) > 0 && !slices.ContainsFunc(views, func(v admin.ControlView) bool { return !v.Connected || v.Kept || v.Generation == 0 })
}

// listeners are those of all views.
func listeners(views []admin.ControlView) (n int) {
	for _, v := range views {
		n += v.Snapshot.Listeners
	}
	return n
}

// flags are the proxy's. It is the one place that knows them.
func (w *world) flags() []string {
	return []string{"--xds-server", w.plane.Address(istiod.PlainPort)}
}

// startProxy starts the proxy again.
func (w *world) startProxy() {
	w.T.Helper()
	var err error
	w.proxy, err = w.StartProxy(w.Ctx, append([]string{"--access-log", "stdout"}, w.flags()...)...)
	w.Must(err)
	w.Must(w.WaitEnrolled(w.Ctx, w.pods()...))
}

// stopProxy ends it.
func (w *world) stopProxy() {
	w.T.Helper()
	w.Must(w.proxy.Stop(time.Minute))
}

// pods are all that are enrolled.
func (w *world) pods() []*testnet.Pod { return []*testnet.Pod{w.consumer, w.batch, w.v1, w.v2} }

// objects reads a file of testdata, with this node's addresses in place of their names,
// and more replacements.
func (w *world) objects(name string, changes ...string) string {
	w.T.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".yaml"))
	w.Must(err)
	if w.v1 != nil {
		changes = append(changes, "${V1}", w.v1.Addresses[0].String(), "${V2}", w.v2.Addresses[0].String(),
			"${CONSUMER}", w.consumer.Addresses[0].String())
	}
	return strings.NewReplacer(changes...).Replace(string(text))
}

// apply applies objects.
func (w *world) apply(text string) {
	w.T.Helper()
	w.Must(w.plane.API.Apply(w.Ctx, text))
}

// at is a call of a method of what is at an address, with attachments.
func at(address, method string, attachments ...string) ask {
	a := ask{Target: address + ":20880", N: 1, Request: dubbotest.Request{Method: method, Attachments: map[string]string{}}}
	for i := 0; i+1 < len(attachments); i += 2 {
		a.Request.Attachments[attachments[i]] = attachments[i+1]
	}
	return a
}

// on is the call at another port.
func (a ask) on(port uint16) ask {
	host, _, _ := net.SplitHostPort(a.Target)
	a.Target = net.JoinHostPort(host, fmt.Sprint(port))
	return a
}

// ofBatch is the call of the other consumer.
func (a ask) ofBatch() ask {
	a.Batch = true
	return a
}

// ofStranger is the call of the pod that the mesh does not know.
func (a ask) ofStranger() ask {
	a.Outside = true
	return a
}

// calls makes n calls on one connection of the consumer.
func (w *world) calls(n int, a ask) answers {
	w.T.Helper()
	a.N = n
	return w.launch(a)()
}

// settled waits until n calls end as wanted, and makes as many again: that is how it stays.
func (w *world) settled(what string, a ask, want map[string]int) {
	w.T.Helper()
	n := 0
	for _, share := range want {
		n += share
	}
	var r answers
	deadline := time.Now().Add(time.Minute)
	for r = w.calls(n, a); fmt.Sprint(r.By) != fmt.Sprint(want); r = w.calls(n, a) {
		if time.Now().After(deadline) {
			w.T.Fatalf("%s: %s of %s: %v, want %v; %q", what, a.Request.Method, a.Target, r.By, want, r.Errors)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if r = w.calls(n, a); fmt.Sprint(r.By) != fmt.Sprint(want) {
		w.T.Errorf("%s, once more: %v, want %v; %q", what, r.By, want, r.Errors)
	}
}

// shared makes n calls and wants each to be answered, at least from and at most to of them
// by the second provider.
func (w *world) shared(n int, a ask, from, to int) {
	w.T.Helper()
	r := w.calls(n, a)
	if second := r.By["v2"]; second < from || second > to || r.By["v1"]+second != n {
		w.T.Errorf("%s: %v, want %d to %d of %d by v2; %q", a.Target, r.By, from, to, n, r.Errors)
	}
}

// effect makes a change under calls that v1 answers, and says how long after its
// beginning v2 did.
func (w *world) effect(a ask, change func()) {
	w.T.Helper()
	w.settled("before the change", a, map[string]int{"v1": 10})
	a.N, a.Until, a.Pause = 60_000, "v2", time.Millisecond
	end := w.launch(a)
	w.under()
	begun := time.Now()
	change()
	r := end()
	if r.At.IsZero() {
		w.T.Fatalf("v2 never answered: %v %q", r.By, r.Errors)
	}
	took := r.At.Sub(begun)
	w.T.Logf("in effect %d ms after the write to the API began", took.Milliseconds())
	if took > bar {
		w.T.Errorf("it took %v, %v at most were meant", took, bar)
	}
	if bad := len(r.By) - 2; bad > 0 {
		w.T.Errorf("not every call was answered: %v %q", r.By, r.Errors)
	}
}

// under waits until calls are made.
func (w *world) under() {
	w.T.Helper()
	before := w.Sum("istio_requests_total{")
	w.Eventually("calls are made", func() bool { return w.Sum("istio_requests_total{") >= before+20 })
}

// both waits until both providers answer, of some connections, and wants every call to
// be answered then.
func (w *world) both(a ask) {
	w.T.Helper()
	some := func(n int) (answers, bool) {
		all := answers{By: map[string]int{}}
		for range n {
			r := w.calls(5, a)
			for by, calls := range r.By {
				all.By[by] += calls
			}
			all.Errors = append(all.Errors, r.Errors...)
		}
		return all, all.By["v1"] > 0 && all.By["v2"] > 0
	}
	w.Eventually("both are called", func() bool {
		_, both := some(4)
		return both
	})
	if r, both := some(30); !both || r.By["v1"]+r.By["v2"] != 150 {
		w.T.Errorf("%s: %v, want both of 150; %q", a.Target, r.By, r.Errors)
	}
}

// emptied waits until nothing of a scenario is left in the proxy.
func (w *world) emptied() {
	w.T.Helper()
	w.Eventually("nothing is left of the scenario", func() bool { return listeners(w.views()) <= w.idle })
}

// accepted wants nothing to be refused of what the control plane has sent.
func (w *world) accepted() {
	w.T.Helper()
	w.Eventually("the control plane answers", func() bool { return connected(w.views()) })
	log := w.log()
	for line := range strings.Lines(log[w.read:]) {
		wanted := slices.ContainsFunc(w.refused, func(why string) bool { return strings.Contains(line, why) })
		if strings.Contains(line, "ACK ERROR") && !wanted {
			w.T.Errorf("istiod's log: %s", line)
		}
	}
	w.read = len(log)
}

// refuses wants something to be refused with that reason.
func (w *world) refuses(why string) {
	w.T.Helper()
	w.refused = append(w.refused, why)
	w.Eventually("istiod is told: "+why, func() bool {
		for line := range strings.Lines(w.log()[w.read:]) {
			if strings.Contains(line, "ACK ERROR") && strings.Contains(line, why) {
				return true
			}
		}
		return false
	})
}

// log is istiod's, from its first start on.
func (w *world) log() string {
	w.T.Helper()
	text, err := os.ReadFile(filepath.Join(w.StateDir(), "logs", "istiod.log"))
	w.Must(err)
	return string(text)
}

// launch starts the consumer's process and returns a function that waits for its end.
func (w *world) launch(a ask) (end func() answers) {
	w.T.Helper()
	text, err := json.Marshal(a)
	w.Must(err)
	w.tags++
	tag := fmt.Sprintf("%d:", w.tags)
	pod := w.consumer
	switch {
	case a.Batch:
		pod = w.batch
	case a.Outside:
		pod = w.stranger
	}
	process, err := pod.StartHelper("calls", tag, string(text))
	w.Must(err)
	return func() (r answers) {
		w.T.Helper()
		select {
		case <-process.Done():
		case <-w.Ctx.Done():
			w.T.Fatalf("the consumer does not end")
		}
		for line := range strings.Lines(process.Output()) {
			if said, ok := strings.CutPrefix(line, tag); ok {
				w.Must(json.Unmarshal([]byte(said), &r))
				return r
			}
		}
		w.T.Fatalf("the consumer said %q", process.Output())
		return r
	}
}
