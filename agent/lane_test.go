package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/lanes"
	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
)

// nodeLanes waits until the agent says something of lanes.
func (m *mesh) nodeLanes(what string, is func(n *admin.NodeLanes) bool) {
	m.Helper()
	var n admin.NodeLanes
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		n = admin.NodeLanes{}
		if json.Unmarshal([]byte(m.get(admin.PathNodeLanes)), &n) == nil && is(&n) {
			return
		}
	}
	m.Fatalf("lanes: not %s: %+v", what, n)
}

// lanes waits until the toy proxy is told of a mode, and returns what it was told, with its
// memory if that came.
func (r *relay) lanes(mode handoff.LaneMode) laneTold {
	r.Helper()
	for timeout := time.After(2 * time.Minute); ; {
		select {
		case told := <-r.told:
			if told.Mode == mode {
				return told
			}
		case <-timeout:
			r.Fatalf("not told of lanes %s", mode)
		}
	}
}

// laneTold is what a proxy is told of lanes.
type laneTold struct {
	handoff.Lanes

	memory bool // came, and could be mapped
	err    error
}

func (r *relay) Lanes(l *handoff.Lanes, files []*os.File) error {
	told := laneTold{Lanes: *l}
	if len(files) > 0 {
		var m *lane.Memory
		if m, told.err = lane.Open(files, l.Sizes); told.err == nil {
			told.memory, told.err = len(m.Lanes) == l.Sizes.Lanes, m.Close()
		}
	}
	for _, f := range files {
		_ = f.Close()
	}
	r.told <- told
	return nil
}

// TestLanes: a real kernel's lanes from the flag to the proxy: their programs are attached
// beside those that steer and are nobody else's, their memory can be mapped, pods' sockets
// are theirs, and an end to a provider is dialled. They outlive the agent; one that is told
// to have none tells the proxy so, and steering goes on.
func TestLanes(t *testing.T) {
	m := newMesh(t)
	m.opts.Lane = lanes.On
	m.start()
	r := startRelay(m)
	first := r.lanes(handoff.LaneOn)
	if !first.memory || first.err != nil {
		t.Fatalf("told %+v", first)
	}
	<-r.end
	m.nodeLanes("of two workloads", func(n *admin.NodeLanes) bool { return n.Mode == "on" && n.Workloads == 2 && n.Why == "" })
	var s admin.AgentStatus
	m.must(json.Unmarshal([]byte(m.get(admin.PathStatus)), &s))
	attached := 0
	for _, p := range s.Programs {
		if strings.HasPrefix(p.Attached, "cgroup ") && (p.Name == "join_sockops" || p.Name == "ask_sockopt") {
			attached++
		}
	}
	if attached != 2 {
		t.Errorf("%d programs of lanes are attached: %+v", attached, s.Programs)
	}
	for _, c := range s.Conflicts {
		if c.Name == "sockmap programs" || c.Name == "other programs" {
			t.Errorf("our own programs are a conflict: %+v", c)
		}
	}
	m.serve("10.97.0.2:20880")
	ask := handoff.Dial{Workload: "shop/provider", Destination: netip.MustParseAddrPort("10.97.0.2:20880"), Lane: true}
	fd, err := r.client.Dial(t.Context(), ask)
	m.must(err)
	if _, err := lane.Ask(fd, lane.AskState, 0); err != nil {
		t.Errorf("the end to the provider is none of a lane's: %v", err)
	}
	m.must(unix.Close(fd))

	m.must(m.stop())
	m.start()
	if again := r.lanes(handoff.LaneOn); again.Maps != first.Maps || !again.memory {
		t.Errorf("after a restart: told %+v, before %+v", again, first)
	}
	m.must(m.stop())
	m.opts.Lane = lanes.ChooseOff
	m.start()
	if off := r.lanes(handoff.LaneOff); off.Maps != first.Maps {
		t.Errorf("told %+v, before %+v", off, first)
	}
	m.nodeLanes("off", func(n *admin.NodeLanes) bool { return n.Mode == "off" && n.Workloads == 0 })
	var refused *handoff.DialError
	if _, err := r.client.Dial(t.Context(), ask); !errors.As(err, &refused) || !strings.Contains(refused.Text, "lanes are off") {
		t.Errorf("dial for a lane while there are none: %v", err)
	}

	client := admin.NewClient(admin.AgentSocket(m.opts.StateDir))
	defer client.Close()
	var n admin.NodeLanes
	m.must(client.Post(t.Context(), admin.PathNodeLanes, admin.LaneChoice{Mode: "on"}, &n))
	if n.Mode != "on" || n.APIVersion == "" {
		t.Errorf("chosen: %+v", n)
	}
	r.lanes(handoff.LaneOn)
	if err := client.Post(t.Context(), admin.PathNodeLanes, admin.LaneChoice{Mode: "maybe"}, &n); err == nil {
		t.Error("a mode that is none was chosen")
	}
}

// TestLanesFail: a self-test that fails leaves the node without lanes, and says so; steering
// is what it is.
func TestLanesFail(t *testing.T) {
	m := newMesh(t)
	m.opts.Lane = lanes.On
	m.opts.LaneTest = func(context.Context) error { return errors.New("bytes were swapped") }
	m.start()
	r := startRelay(m)
	if told := r.lanes(handoff.LaneOff); told.Maps != 0 || !strings.Contains(told.Why, "bytes were swapped") {
		t.Errorf("told %+v", told)
	}
	<-r.end
	m.must(r.client.Destinations(t.Context(), 1, handoff.DestinationTable{}))
	s := m.enrolled(2)
	if len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "bytes were swapped") {
		t.Errorf("problems %q", s.Problems)
	}
}
