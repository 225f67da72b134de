package lane_test

import (
	"maps"
	"regexp"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/dubway/dubway/agent/datapath/lane/lanetest"
	"github.com/dubway/dubway/bpf"
)

var processed = regexp.MustCompile(`processed (\d+) insns`)

// TestVerifier: the verifier is done with the lane's programs soon, of a million instructions that it
// follows at most. What it takes grows unseen, by a factor with each thing that one part of a
// program knows of another; and agents wait for it, on slow machines for seconds.
func TestVerifier(t *testing.T) {
	most := map[string]int{bpf.LaneProgLaneMsg: 60_000, bpf.LaneProgAskSockopt: 10_000, bpf.LaneProgJoinSockops: 2000}
	spec, err := bpf.LoadLane()
	lanetest.Must(t, err)
	maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return most[name] == 0 })
	opts := ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}}
	coll, err := ebpf.NewCollectionWithOptions(spec, opts)
	lanetest.Must(t, err)
	defer coll.Close()
	for name, most := range most {
		log := coll.Programs[name].VerifierLog
		said := processed.FindStringSubmatch(log)
		if said == nil {
			t.Errorf("%s: the verifier says %q", name, log)
			continue
		}
		n, err := strconv.Atoi(said[1])
		lanetest.Must(t, err)
		t.Logf("%s: %d instructions", name, n)
		if n > most {
			t.Errorf("%s takes the verifier %d instructions, want %d at most", name, n, most)
		}
	}
}
