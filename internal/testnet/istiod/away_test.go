//go:build e2e

package istiod_test

import (
	"os"
	"path/filepath"
	"time"
)

// restarted: while istiod is killed and comes back calls go on, and what it says then
// holds.
func (w *world) restarted() {
	const vip = "198.19.0.20"
	defer w.with("dubbo-port", "${FIRST}", "100", "${SECOND}", "0")()
	w.settled("before", at(vip, "buy"), map[string]int{"v1": 20})
	steady := at(vip, "sayHello")
	w.settled("before, by method", steady, map[string]int{"v2": 20})
	steady.While = filepath.Join(w.StateDir(), "steady")
	w.Must(os.WriteFile(steady.While, nil, 0o600))
	end := w.launch(steady)
	w.under()
	w.plane.KillIstiod()
	w.Eventually("the proxy notices", func() bool { return !connected(w.views()) })
	w.settled("without istiod", at(vip, "buy"), map[string]int{"v1": 20})
	w.plane.StartIstiod()
	w.Eventually("the proxy is back", func() bool { return connected(w.views()) })
	w.effect(at(vip, "buy"), func() {
		w.apply(w.objects("dubbo-port", "${FIRST}", "0", "${SECOND}", "100"))
	})
	w.Must(os.Remove(steady.While))
	if r := end(); len(r.By) != 1 || r.By["v2"] == 0 {
		w.T.Errorf("calls through all of it: %v %q", r.By, r.Errors)
	}
}

// away: istiod is away for a minute, and the proxy is started again meanwhile. What was kept
// holds, and calls are answered all the time.
func (w *world) away() {
	const vip = "198.19.0.20"
	defer w.with("dubbo-port", "${FIRST}", "0", "${SECOND}", "100")()
	w.settled("before", at(vip, "buy"), map[string]int{"v2": 20})
	steady := at(vip, "sayHello")
	w.settled("before, by method", steady, map[string]int{"v2": 20})
	steady.Fresh, steady.Pause, steady.While = true, 20*time.Millisecond, filepath.Join(w.StateDir(), "steady")
	w.Must(os.WriteFile(steady.While, nil, 0o600))
	end := w.launch(steady)
	w.under()
	// What istiod says last is kept too.
	w.apply(w.objects("dubbo-port", "${FIRST}", "100", "${SECOND}", "0"))
	w.settled("last", at(vip, "buy"), map[string]int{"v1": 5})
	back := time.Now().Add(time.Minute)
	w.plane.KillIstiod()
	w.stopProxy()
	w.startProxy()
	w.keptOnDisk()
	w.settled("by what was kept", at(vip, "sayHello"), map[string]int{"v2": 20})
	w.settled("by what was kept, else", at(vip, "buy"), map[string]int{"v1": 20})
	select {
	case <-time.After(time.Until(back)):
	case <-w.Ctx.Done():
		w.T.Fatal("there is no minute left")
	}
	w.keptOnDisk()
	w.settled("after the minute", at(vip, "buy"), map[string]int{"v1": 20})
	w.plane.StartIstiod()
	w.Eventually("istiod's word holds again", func() bool { return connected(w.views()) })
	w.effect(at(vip, "buy"), func() {
		w.apply(w.objects("dubbo-port", "${FIRST}", "0", "${SECOND}", "100"))
	})
	w.Must(os.Remove(steady.While))
	r := end()
	w.T.Logf("%d calls, %d of them once more", r.By["v2"], r.Again)
	if len(r.By) != 1 || r.By["v2"] < 100 || r.Again > 1 {
		w.T.Errorf("calls through all of it: %v, %d once more; %q", r.By, r.Again, r.Errors)
	}
}

// keptOnDisk wants the proxy to say that it goes by what it kept.
func (w *world) keptOnDisk() {
	w.T.Helper()
	s, err := w.ProxyStatus(w.Ctx)
	w.Must(err)
	if len(s.Problems) == 0 {
		w.T.Error("the status says nothing of the control plane that is away")
	}
	for _, v := range w.views() {
		if !v.Kept || v.Connected {
			w.T.Errorf("a view without istiod: %+v", v)
		}
	}
}
