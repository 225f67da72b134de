package handoff

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/handoff/rights"
	"github.com/dubway/dubway/internal/lane"
)

// heir is a recorder that takes lanes, but those of one workload.
type heir struct{ *recorder }

var _ Adopter = heir{}

func (h heir) Lane(l *Lane, files []*os.File) error {
	h.notef("lane %d of %s with %d", l.Number, l.Workload, len(files))
	for _, f := range files {
		f.Close()
	}
	if l.Workload == "shop/nobody" {
		return errors.New("no such workload")
	}
	return nil
}

// pipes makes n descriptors that are closed at the end of the test.
func pipes(t *testing.T, n int) []int {
	t.Helper()
	var fds []int
	for len(fds) < n {
		r, w := pipe(t)
		fds = append(fds, int(r.Fd()), int(w.Fd()))
	}
	return fds[:n]
}

// TestClientLanes: the files of the memory come to the handler, and a later message says
// another mode without them. Lanes of a dead proxy are refused by a proxy that adopts none.
func TestClientLanes(t *testing.T) {
	y := newToy(t)
	y.connect()
	fds, before := pipes(t, lane.Files), openFDs(t)
	y.send(samples()["lanes"], fds...)
	if got := y.receive(); !reflect.DeepEqual(got, NewAck(17, nil)) {
		t.Errorf("answered with %s", show(t, got))
	}
	y.send(samples()["lanes_again"])
	y.receive()
	y.send(samples()["lane"], fds[:3]...)
	if got := y.receive(); got.Seq != 20 || !strings.Contains(got.Ack.Error, "adopts no lanes") {
		t.Errorf("a lane is answered with %s", show(t, got))
	}
	y.told("lanes on with 7", "lanes observe with 0")
	if now := openFDs(t); now != before {
		t.Errorf("%d descriptors are open, %d were", now, before)
	}
	if err := y.conn.Send(samples()["lane"], fds[0]); err == nil || !strings.Contains(err.Error(), "1 descriptors instead of 3") {
		t.Errorf("a lane without its sockets: %v", err)
	}
}

// TestClientAdopts: a lane of a dead proxy comes with its sockets, and its refusal goes back.
func TestClientAdopts(t *testing.T) {
	y := newToy(t)
	y.client.Close()
	y.client = NewClient(filepath.Join(filepath.Dir(y.client.path), "handoff.sock"), "node", heir{y.handler}, slog.New(slog.DiscardHandler))
	y.connect()
	fds := pipes(t, 3)
	y.send(samples()["lane"], fds...)
	if got := y.receive(); !reflect.DeepEqual(got, NewAck(20, nil)) {
		t.Errorf("answered with %s", show(t, got))
	}
	m := samples()["lane_alone"]
	m.Seq, m.Lane.Workload = 21, "shop/nobody"
	y.send(m, fds[0])
	if got := y.receive(); got.Ack == nil || got.Ack.Error != "no such workload" {
		t.Errorf("answered with %s", show(t, got))
	}
	y.told("lane 3 of shop/consumer with 3", "lane 0 of shop/nobody with 1")
}

// TestClientTellsLanes: the agent gets duplicates of a lane's sockets, and is told of its
// end; a client without an agent says so.
func TestClientTellsLanes(t *testing.T) {
	y := newToy(t)
	l := samples()["lane"].Lane
	if err := errors.Join(y.client.Lane(l), y.client.LaneGone(3)); !errors.Is(err, ErrNotConnected) {
		t.Errorf("without an agent: %v", err)
	}
	y.connect()
	y.snapshotEnd(1) // the client has read the Hello
	fds := pipes(t, 3)
	y.must(y.client.Lane(l, fds...))
	m, got, err := y.conn.Receive()
	y.must(err)
	defer rights.Close(got)
	if !reflect.DeepEqual(m.Lane, l) || len(got) != 3 || !slices.EqualFunc(got, fds, sameFile) {
		t.Errorf("the agent got %s with %d", show(t, m), len(got))
	}
	if err := y.client.Lane(l, fds[0]); err == nil {
		t.Error("a lane without its sockets was told")
	}
	y.must(y.client.LaneGone(3))
	if m := y.receive(); m.LaneGone == nil || m.LaneGone.Number != 3 {
		t.Errorf("the agent got %s", show(t, m))
	}
}

// sameFile tells whether two descriptors are of one open pipe.
func sameFile(a, b int) bool {
	var x, y unix.Stat_t
	return unix.Fstat(a, &x) == nil && unix.Fstat(b, &y) == nil && x.Ino == y.Ino && x.Mode == y.Mode
}

// TestInstance: a proxy that comes back says the same number, another one another.
func TestInstance(t *testing.T) {
	a, b := newToy(t), newToy(t)
	if a.client.instance == 0 || a.client.instance == b.client.instance {
		t.Errorf("instances %d and %d", a.client.instance, b.client.instance)
	}
}
