package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/netns/netnstest"
	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/handoff"
)

// another is a second consumer, 10.98.0.3, which reaches the provider by a link of
// its own.
func (m *mesh) another() *netnstest.Netns {
	m.Helper()
	c := netnstest.New(m.T)
	peer, err := os.Open(c.Path)
	m.must(err)
	defer peer.Close()
	m.b.Must(func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "eth0", PeerNamespace: netlink.NsFd(peer.Fd())}
		veth.Name = "eth1"
		return netlink.LinkAdd(veth)
	})
	m.b.Add("eth1", "10.98.0.2/24")
	c.Add("eth0", "10.98.0.3/24")
	c.Must(func() error {
		eth, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: net.IPv4(10, 98, 0, 2)})
	})
	return c
}

// goes makes a call and says what became of it: "steered", "passed" or "refused".
func (m *mesh) goes(from *netnstest.Netns, to string) string {
	m.Helper()
	before := m.outcome("steered")
	var c net.Conn
	err := from.Do(func() (err error) { c, err = net.DialTimeout("tcp", to, 30*time.Second); return err })
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ECONNREFUSED):
		return "refused"
	case err != nil:
		m.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_, err = io.WriteString(c, "hello")
	m.must(err)
	m.must(c.(*net.TCPConn).CloseWrite())
	answer, err := io.ReadAll(c)
	m.must(err)
	if !strings.HasSuffix(string(answer), " hello") {
		m.Errorf("%s answers %q", to, answer)
	}
	if m.outcome("steered") > before {
		return "steered"
	}
	return "passed"
}

// tables tells the table of each workload, as dubwayctl workloads does.
func (m *mesh) tables() string {
	m.Helper()
	var list admin.WorkloadList
	m.must(json.Unmarshal([]byte(m.get(admin.PathWorkloads)), &list))
	var all []string
	for _, w := range list.Items {
		if w.Table == nil {
			all = append(all, w.Name+" -")
			continue
		}
		all = append(all, fmt.Sprintf("%s %d/%d %s", w.Name, w.Table.Number, w.Table.Entries, w.Table.Unknown))
	}
	return strings.Join(all, ", ")
}

// TestAgentTables: of two consumers one's table has the destination, and refuses
// what is in no entry; over a restart of the agent, too.
func TestAgentTables(t *testing.T) {
	m := newMesh(t)
	c := m.another()
	for _, port := range []string{"20880", "9000"} {
		m.serve("[::]:" + port)
	}
	m.start()
	r := startRelay(m)
	<-r.end
	m.steered(2)
	const provider, database = "10.97.0.2:20880", "10.97.0.2:9000"
	want := func(step, aProvider, aDatabase, cProvider, cDatabase string) {
		t.Helper()
		got := []string{m.goes(m.a, provider), m.goes(m.a, database), m.goes(c, provider), m.goes(c, database)}
		if want := []string{aProvider, aDatabase, cProvider, cDatabase}; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", step, got, want)
		}
	}
	publish := func(generation uint64, number uint32, unknown handoff.Unknown, uids ...string) {
		t.Helper()
		entries := []handoff.Destination{{Prefix: netip.MustParsePrefix("10.97.0.2/32"), Port: 20880}}
		if len(uids) == 0 {
			entries = nil
		}
		m.must(r.client.Destinations(t.Context(), generation, handoff.DestinationTable{
			Table: number, Workloads: uids, Entries: entries, Unknown: unknown}))
	}
	want("nothing published", "passed", "passed", "passed", "passed")
	if got := m.tables(); got != "consumer -, provider -" {
		t.Errorf("tables: %s", got)
	}
	publish(1, 1, handoff.UnknownRefuse, "shop/consumer")
	publish(1, 0, handoff.UnknownPass)
	want("a's table", "steered", "refused", "passed", "passed")
	if got := m.tables(); got != "consumer 1/1 refuse, provider 0/0 pass" {
		t.Errorf("tables: %s", got)
	}

	// A dry run for the other one, in a table that comes before its workload.
	publish(1, 2, handoff.UnknownCount, "shop/other")
	m.workload("other", c, "10.98.0.3")
	m.enrolled(3)
	want("c's dry run", "steered", "refused", "steered", "passed")
	var unknown admin.UnknownList
	m.must(json.Unmarshal([]byte(m.get(admin.PathUnknown)), &unknown))
	if n := len(unknown.Items); n != 2 || unknown.Items[0].Workload != "shop/consumer" || unknown.Items[0].Destination != database ||
		unknown.Items[0].Refused != 2 || unknown.Items[0].Passed != 0 || unknown.Items[1].Name != "other" || unknown.Items[1].Passed != 1 {
		t.Errorf("unknown: %+v", unknown)
	}
	metrics := m.get(admin.PathMetrics)
	for _, want := range []string{
		`dubway_destination_tables{unknown="refuse"} 1`, `dubway_destination_tables{unknown="count"} 1`,
		`dubway_destination_tables{unknown="pass"} 1`, `dubway_destinations 2`,
		`dubway_datapath_outcomes_total{outcome="unknown_refused"} 2`, `dubway_datapath_outcomes_total{outcome="unknown_counted"} 1`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("metrics have no %s", want)
		}
	}

	m.restartOver(c, database)
	<-r.end
	status := m.enrolled(3)
	want("the agent restarted", "steered", "refused", "steered", "passed")
	if len(status.Tables) != 3 || !status.Tables[1].Earlier || status.Tables[1].Workloads != 1 || status.Tables[2].Unknown != "count" {
		t.Errorf("tables after the restart: %+v", status.Tables)
	}
	// The proxy publishes again, and its numbers mean something else now.
	publish(2, 1, handoff.UnknownRefuse, "shop/other")
	want("the same number", "steered", "refused", "steered", "refused")
	publish(2, 0, handoff.UnknownPass)
	want("table 0 comes last", "passed", "passed", "steered", "refused")
	publish(3, 1, handoff.UnknownPass)
	want("given back", "passed", "passed", "passed", "passed")
	if got := m.tables(); got != "consumer 0/0 pass, other 0/0 pass, provider 0/0 pass" {
		t.Errorf("tables: %s", got)
	}
}

// restartOver stops the agent and starts the next one; meanwhile what is refused
// stays refused, and what is not is not.
func (m *mesh) restartOver(c *netnstest.Netns, database string) {
	m.Helper()
	m.must(m.stop())
	dial := func(from *netnstest.Netns) error {
		return from.Do(func() error {
			conn, err := net.DialTimeout("tcp", database, 30*time.Second)
			if err == nil {
				conn.Close()
			}
			return err
		})
	}
	if err := dial(m.a); !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ECONNREFUSED) {
		m.Errorf("without an agent: %v, want a refusal", err)
	}
	if err := dial(c); err != nil {
		m.Errorf("without an agent: %v", err)
	}
	m.start()
}

// TestAgentReplacesPins: an agent that finds the maps of another version says so,
// and pods are in the mesh again with the listeners that the proxy kept.
func TestAgentReplacesPins(t *testing.T) {
	m := newMesh(t)
	m.serve("[::]:20880")
	m.start()
	r := startRelay(m)
	<-r.end
	m.steered(2)
	publish := func() {
		t.Helper()
		m.must(r.client.Destinations(t.Context(), 1, handoff.DestinationTable{Table: 1, Workloads: []string{"shop/consumer"},
			Entries: []handoff.Destination{{Prefix: netip.MustParsePrefix("10.97.0.2/32"), Port: 20880}}}))
	}
	publish()
	if got := m.goes(m.a, "10.97.0.2:20880"); got != "steered" {
		t.Errorf("at first %s", got)
	}
	m.must(m.stop())
	found, err := filepath.Glob(filepath.Join(m.opts.PinPath, "maps_v*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("pinned maps: %v (%v)", found, err)
	}
	m.must(os.Rename(found[0], filepath.Join(m.opts.PinPath, "maps_v1")))
	for len(r.end) > 0 {
		<-r.end
	}
	m.start()
	<-r.end
	m.steered(2)
	if !strings.Contains(m.log.String(), "pinned state is replaced") {
		t.Error("the log does not say that the pins were replaced")
	}
	if got := m.goes(m.a, "10.97.0.2:20880"); got != "passed" {
		t.Errorf("with nothing published %s", got)
	}
	publish()
	if got := m.goes(m.a, "10.97.0.2:20880"); got != "steered" {
		t.Errorf("in the end %s", got)
	}
}
