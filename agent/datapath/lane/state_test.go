package lane_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	agent "github.com/dubway/dubway/agent/datapath/lane"
	"github.com/dubway/dubway/agent/datapath/lane/lanetest"
	"github.com/dubway/dubway/bpf"
	"github.com/dubway/dubway/internal/lane"
)

// TestAdopt: an agent that restarts finds its lanes going on.
func TestAdopt(t *testing.T) {
	r := lanetest.New(t, 8)
	w := newWorld(t, r, lanetest.Families[0], 1, 32)
	lanetest.Must(t, w.proxy.Open(0))
	w.send(w.calls(10, lane.Hessian2, "echo", 100), lanetest.Named("one write each"))
	w.settle()
	lanetest.Must(t, r.Lane.Close())
	w.send(w.calls(10, lane.Hessian2, "echo", 100), lanetest.Named("one write each")) // nobody is there
	second, err := agent.Open(r.Options)
	lanetest.Must(t, err)
	r.Lane = second
	w.send(w.calls(10, lane.Hessian2, "echo", 100), lanetest.Named("one write each"))
	w.settle()
	if n := w.proxy.Lane().Answered; n != 30 {
		t.Errorf("%d answers took the lane, want 30", n)
	}
	counts, err := second.Counts()
	lanetest.Must(t, err)
	if counts["lane_consumer_joined"] != 1 {
		t.Errorf("the counts began anew: %v", counts)
	}
	// And new connections have lanes.
	again := r.DialConsumer(lanetest.Families[0])
	if s := lanetest.Ask(t, again.Proxy, lane.AskState, 0); s.Peer == 0 {
		t.Error("a consumer that connected after the restart is in no map")
	}
}

// TestReplace: pins that cannot be gone on with are replaced.
func TestReplace(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, r *lanetest.Rig){
		"more lanes": func(_ *testing.T, r *lanetest.Rig) { r.Options.Lanes = 16 },
		"other sockets": func(t *testing.T, r *lanetest.Rig) {
			steer, err := bpf.LoadSteer()
			lanetest.Must(t, err)
			sockets, err := ebpf.NewMap(steer.Maps[bpf.SteerMapSockets])
			lanetest.Must(t, err)
			t.Cleanup(func() { sockets.Close() })
			r.Options.Sockets = sockets
		},
		"a map is missing": func(t *testing.T, r *lanetest.Rig) {
			found, err := filepath.Glob(filepath.Join(r.Options.PinPath, agent.Folder, "maps_v*", "lanes"))
			if err != nil || len(found) != 1 {
				t.Fatalf("%v, %v", found, err)
			}
			lanetest.Must(t, os.Remove(found[0]))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := lanetest.New(t, 8)
			pair := r.DialConsumer(lanetest.Families[0])
			spoil(t, r)
			lanetest.Must(t, r.Lane.Close())
			second, err := agent.Open(r.Options)
			lanetest.Must(t, err)
			r.Lane = second
			counts, err := second.Counts()
			lanetest.Must(t, err)
			if counts["lane_consumer_joined"] != 0 {
				t.Errorf("the state was adopted: %v", counts)
			}
			// Who was known before is nobody's, and its bytes pass.
			if _, err := lanetest.TryAsk(pair.Proxy, lane.AskState, 0); !errors.Is(err, unix.ENOPROTOOPT) {
				t.Errorf("ask = %v, want %v", err, unix.ENOPROTOOPT)
			}
			if _, err := pair.App.Write([]byte("hello")); err != nil {
				t.Error(err)
			}
			b := make([]byte, 8)
			if n, err := pair.Proxy.Read(b); string(b[:n]) != "hello" {
				t.Errorf("read %q, %v", b[:n], err)
			}
		})
	}
}

// TestStrangers: only the proxy's ends of a lane's sockets are answered, and only where the
// workload has lanes.
func TestStrangers(t *testing.T) {
	r := lanetest.New(t, 8)
	consumer, provider, plain := r.DialConsumer(lanetest.Families[0]), r.DialProvider(lanetest.Families[0]), r.DialPlain(lanetest.Families[0])
	for name, c := range map[string]lanetest.Pair{
		"a consumer's own": {Proxy: consumer.App}, "a provider's own": {Proxy: provider.App}, "a plain one": plain, "and its peer": {Proxy: plain.App},
	} {
		for _, question := range []int{lane.AskState, lane.AskBind, lane.AskFree} {
			if s, err := lanetest.TryAsk(c.Proxy, question, lane.Place(1, lane.Consumer)); !errors.Is(err, unix.ENOPROTOOPT) {
				t.Errorf("%s: %#x = %+v, %v", name, question, s, err)
			}
		}
	}
	for name, place := range map[string]struct {
		pair     lanetest.Pair
		question int
		place    int
	}{
		"a lane that there is not": {consumer, lane.AskBind, lane.Place(8, lane.Consumer)},
		"a consumer as an end":     {consumer, lane.AskBind, lane.Place(1, 0)},
		"a provider as a consumer": {provider, lane.AskBind, lane.Place(1, lane.Consumer)},
		"an end that there is not": {provider, lane.AskBind, lane.Place(1, lane.Ends)},
		"another's lane":           {consumer, lane.AskFree, lane.Place(2, 0)},
	} {
		if _, err := lanetest.TryAsk(place.pair.Proxy, place.question, place.place); !errors.Is(err, unix.ENOPROTOOPT) {
			t.Errorf("%s: %v", name, err)
		}
	}
	lanetest.Must(t, r.Lane.Workload(r.Consumer.Cookie(), false))
	if _, err := lanetest.TryAsk(r.DialConsumer(lanetest.Families[0]).Proxy, lane.AskState, 0); !errors.Is(err, unix.ENOPROTOOPT) {
		t.Errorf("a workload without lanes: %v", err)
	}
}
