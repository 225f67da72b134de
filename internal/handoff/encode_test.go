package handoff

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/dubway/dubway/internal/lane"
)

// samples is one valid message of each kind and form.
func samples() map[string]*Message {
	workload := &Workload{
		UID: "shop/consumer", Name: "consumer", Namespace: "shop", Labels: map[string]string{"app": "consumer"},
		Annotations:    map[string]string{"dubway.io/mode": "observe"},
		ServiceAccount: "default", NetnsCookie: 7,
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
		Ports:     []uint16{20880},
		Listeners: []Listener{{Outbound, 4}, {Inbound, 4}, {Outbound, 6}, {Inbound, 6}},
	}
	to := netip.MustParseAddrPort("10.0.0.2:20880")
	return map[string]*Message{
		"hello":         {Kind: KindHello, Hello: &Hello{Version: Version, Release: "0.1.0", Node: "node-a"}},
		"hello_note":    {Kind: KindHello, Hello: &Hello{Version: Version, Release: "0.1.0", Note: "fe01"}},
		"hello_proxy":   {Kind: KindHello, Hello: &Hello{Version: Version, Release: "0.1.0", Instance: 1<<64 - 1}},
		"workload":      {Kind: KindWorkload, Seq: 1, Workload: workload},
		"workload_gone": {Kind: KindWorkloadGone, Seq: 2, WorkloadGone: &WorkloadGone{UID: "shop/consumer"}},
		"snapshot_end":  {Kind: KindSnapshotEnd, Seq: 3},
		"goodbye":       {Kind: KindGoodbye},
		"yield":         {Kind: KindYield},
		"ack":           NewAck(4, nil),
		"ack_bare":      {Kind: KindAck, Seq: 4},
		"ack_error":     NewAck(5, errors.New("no room")),
		"dial":          {Kind: KindDial, Seq: 6, Dial: &Dial{Workload: "shop/consumer", Destination: to}},
		"dial_client": {Kind: KindDial, Seq: 7, Dial: &Dial{Workload: "shop/consumer", Destination: to,
			Client: netip.MustParseAddrPort("[fd00::9]:4711")}},
		"dial_lane":   {Kind: KindDial, Seq: 16, Dial: &Dial{Workload: "shop/provider", Destination: to, Lane: true}},
		"dial_result": NewDialResult(8, nil),
		"dial_denied": NewDialResult(9, &DialError{Code: DialDenied, Text: "loopback"}),
		"destinations": {Kind: KindDestinations, Seq: 10, Destinations: &Destinations{Generation: 3, Last: true,
			Entries: []Destination{
				{Prefix: netip.MustParsePrefix("10.0.0.0/8")},
				{Prefix: netip.MustParsePrefix("fd00::1/128"), Port: 20880, Lane: true},
			}}},
		"destinations_table": {Kind: KindDestinations, Destinations: &Destinations{Table: 7, Generation: 3,
			Workloads: []string{"shop/consumer", "0b5f"}}},
		"destinations_unknown": {Kind: KindDestinations, Seq: 12, Destinations: &Destinations{Table: 7, Generation: 3,
			Unknown: UnknownRefuse, Last: true}},
		"lanes": {Kind: KindLanes, Seq: 17, Lanes: &Lanes{Mode: LaneOn, Maps: 71,
			Sizes: lane.Sizes{Version: 1, Lanes: 1024, Routes: 2048, Series: 2048, CPUs: 2, Active: 1024, Log: 1 << 20}}},
		"lanes_again": {Kind: KindLanes, Seq: 18, Lanes: &Lanes{Mode: LaneObserve, Maps: 71}},
		"lanes_off":   {Kind: KindLanes, Seq: 19, Lanes: &Lanes{Mode: LaneOff, Why: "kernel 6.1 is not in the list"}},
		"lane": {Kind: KindLane, Seq: 20, Lane: &Lane{Number: 3, Maps: 71, Workload: "shop/consumer", Destination: to,
			Consumer: netip.MustParseAddrPort("10.0.0.1:40000"),
			Ends:     []LaneEnd{{Number: 7, Workload: "shop/provider", Address: to}, {Workload: "shop/other", Address: to}}}},
		"lane_alone": {Kind: KindLane, Lane: &Lane{Maps: 71, Workload: "shop/consumer", Destination: to,
			Consumer: netip.MustParseAddrPort("[fd00::1]:40000")}},
		"lane_gone":         {Kind: KindLaneGone, LaneGone: &LaneGone{Number: 3}},
		"sign":              {Kind: KindSign, Seq: 15, Sign: &Sign{Namespace: "shop", ServiceAccount: "consumer", Request: []byte{0x30, 0x00}, Seconds: 86400}},
		"certified":         {Kind: KindCertified, Certified: &Certified{Namespace: "shop", ServiceAccount: "consumer", Expires: 1772323200}},
		"sign_result":       NewSignResult(13, &SignResult{Chain: [][]byte{{0x30, 0x01}, {0x30, 0x02}}, Roots: [][]byte{{0x30, 0x03}}}, nil),
		"sign_denied":       NewSignResult(14, nil, &SignError{Code: SignDenied, Text: "no such pod"}),
		"destinations_none": {Kind: KindDestinations, Seq: 11, Destinations: &Destinations{Generation: 4, Last: true}},
	}
}

func TestEncodeDecode(t *testing.T) {
	for name, m := range samples() {
		t.Run(name, func(t *testing.T) {
			packet, err := Encode(m)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Decode(packet)
			if err != nil {
				t.Fatalf("%v\n%s", err, packet)
			}
			if !reflect.DeepEqual(got, m) {
				t.Errorf("got  %s\nwant %s", show(t, got), packet)
			}
		})
	}
}

func show(t *testing.T, m *Message) string {
	t.Helper()
	b, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDecodeRejects(t *testing.T) {
	const workload = `"uid":"a/b","name":"b","namespace":"a","netnsCookie":1,"addresses":["10.0.0.1"]`
	const listener = `"listeners":[{"direction":"outbound","family":4}]`
	for name, c := range map[string]struct{ packet, want string }{
		"empty":             {``, "EOF"},
		"not json":          {`hello`, "invalid character"},
		"not utf-8":         {"{\"kind\":\"\xff\"}", "not UTF-8"},
		"no kind":           {`{}`, "unknown kind"},
		"unknown kind":      {`{"kind":"reboot"}`, "unknown kind"},
		"unknown field":     {`{"kind":"goodbye","x":1}`, "unknown field"},
		"two messages":      {`{"kind":"goodbye"}{"kind":"goodbye"}`, "bytes after"},
		"body of another":   {`{"kind":"goodbye","hello":{"version":1,"release":""}}`, "does not belong"},
		"two bodies":        {`{"kind":"dial","seq":1,"dial":{},"ack":{}}`, "does not belong"},
		"no body":           {`{"kind":"hello"}`, "body is missing"},
		"null body":         {`{"kind":"hello","hello":null}`, "body is missing"},
		"ack without seq":   {`{"kind":"ack"}`, "seq is missing"},
		"dial without seq":  {`{"kind":"dial","dial":{"workload":"a","destination":"10.0.0.1:1"}}`, "seq is missing"},
		"version":           {`{"kind":"hello","hello":{"version":0,"release":""}}`, "version 0"},
		"mapped dial":       {`{"kind":"dial","seq":1,"dial":{"workload":"a","destination":"[::ffff:10.0.0.1]:1"}}`, "v4-mapped"},
		"zone":              {`{"kind":"dial","seq":1,"dial":{"workload":"a","destination":"[fe80::1%eth0]:1"}}`, "zone"},
		"port 0":            {`{"kind":"dial","seq":1,"dial":{"workload":"a","destination":"10.0.0.1:0"}}`, "port is missing"},
		"no destination":    {`{"kind":"dial","seq":1,"dial":{"workload":"a"}}`, "port is missing"},
		"no workload":       {`{"kind":"dial","seq":1,"dial":{"workload":"","destination":"10.0.0.1:1"}}`, "workload is missing"},
		"mapped client":     {`{"kind":"dial","seq":1,"dial":{"workload":"a","destination":"10.0.0.1:1","client":"[::ffff:1.2.3.4]:1"}}`, "v4-mapped"},
		"control character": {`{"kind":"workloadGone","workloadGone":{"uid":"a\nb"}}`, "control characters"},
		"long uid":          {`{"kind":"workloadGone","workloadGone":{"uid":"` + strings.Repeat("a", 600) + `"}}`, "600 bytes"},
		"unknown code":      {`{"kind":"dialResult","seq":1,"dialResult":{"code":"maybe"}}`, "unknown code"},
		"error, no code":    {`{"kind":"dialResult","seq":1,"dialResult":{"error":"x"}}`, "error without a code"},
		"no listeners":      {`{"kind":"workload","workload":{` + workload + `,"listeners":[]}}`, "0 listeners"},
		"same listeners": {`{"kind":"workload","workload":{` + workload +
			`,"listeners":[{"direction":"outbound","family":4},{"direction":"outbound","family":4}]}}`, "two outbound"},
		"family":        {`{"kind":"workload","workload":{` + workload + `,"listeners":[{"direction":"outbound","family":5}]}}`, "family 5"},
		"direction":     {`{"kind":"workload","workload":{` + workload + `,"listeners":[{"direction":"up","family":4}]}}`, "direction"},
		"workload port": {`{"kind":"workload","workload":{` + workload + `,"ports":[0],` + listener + `}}`, "port 0"},
		"big port":      {`{"kind":"workload","workload":{` + workload + `,"ports":[70000],` + listener + `}}`, "cannot unmarshal"},
		"no addresses": {`{"kind":"workload","workload":{"uid":"a","name":"a","namespace":"a","netnsCookie":1,"addresses":[],` +
			listener + `}}`, "0 addresses"},
		"no cookie": {`{"kind":"workload","workload":{"uid":"a","name":"a","namespace":"a","netnsCookie":0,"addresses":["10.0.0.1"],` +
			listener + `}}`, "netnsCookie is missing"},
		"sign without seq":   {`{"kind":"sign","sign":{"namespace":"a","serviceAccount":"b","request":"MAA="}}`, "seq is missing"},
		"sign for nobody":    {`{"kind":"sign","seq":1,"sign":{"namespace":"a","serviceAccount":"","request":"MAA="}}`, "serviceAccount is missing"},
		"sign in no place":   {`{"kind":"sign","seq":1,"sign":{"namespace":"","serviceAccount":"b","request":"MAA="}}`, "namespace is missing"},
		"sign nothing":       {`{"kind":"sign","seq":1,"sign":{"namespace":"a","serviceAccount":"b","request":""}}`, "request is missing"},
		"sign no base64":     {`{"kind":"sign","seq":1,"sign":{"namespace":"a","serviceAccount":"b","request":"?"}}`, "illegal base64"},
		"sign too much":      {`{"kind":"sign","seq":1,"sign":{"namespace":"a","serviceAccount":"b","request":"` + strings.Repeat("AAAA", 2000) + `"}}`, "6000 bytes"},
		"sign for the past":  {`{"kind":"sign","seq":1,"sign":{"namespace":"a","serviceAccount":"b","request":"MAA=","seconds":-1}}`, "-1 seconds"},
		"sign for ever":      {`{"kind":"sign","seq":1,"sign":{"namespace":"a","serviceAccount":"b","request":"MAA=","seconds":9000000000}}`, "9000000000 seconds"},
		"signed, no chain":   {`{"kind":"signResult","seq":1,"signResult":{"roots":["MAA="]}}`, "0 certificates in chain"},
		"signed, no roots":   {`{"kind":"signResult","seq":1,"signResult":{"chain":["MAA="],"roots":[]}}`, "0 certificates in roots"},
		"signed, empty":      {`{"kind":"signResult","seq":1,"signResult":{"chain":[""],"roots":["MAA="]}}`, "a certificate of 0 bytes"},
		"signed and refused": {`{"kind":"signResult","seq":1,"signResult":{"chain":["MAA="],"code":"failed"}}`, "certificates with code"},
		"signed, error":      {`{"kind":"signResult","seq":1,"signResult":{"error":"x"}}`, "error without a code"},
		"sign, unknown code": {`{"kind":"signResult","seq":1,"signResult":{"code":"maybe"}}`, "unknown code"},
		"certified, never":   {`{"kind":"certified","certified":{"namespace":"a","serviceAccount":"b","expires":0}}`, "expires is 0"},
		"certified, nobody":  {`{"kind":"certified","certified":{"namespace":"a","serviceAccount":"","expires":1}}`, "serviceAccount is missing"},
		"lanes in no mode":   {`{"kind":"lanes","lanes":{"mode":"auto","maps":1}}`, "mode is \"auto\""},
		"lanes of nothing":   {`{"kind":"lanes","lanes":{"mode":"on"}}`, "on without maps"},
		"files of nothing":   {`{"kind":"lanes","lanes":{"mode":"off","sizes":{"version":1}}}`, "files without maps"},
		"lanes of no size":   {`{"kind":"lanes","lanes":{"mode":"on","maps":1,"sizes":{"version":1,"lanes":1,"routes":1,"series":1,"cpus":1,"active":0,"log":1}}}`, "Active:0"},
		"lane of no memory":  {`{"kind":"lane","lane":{"number":1,"workload":"a","destination":"10.0.0.1:1","consumer":"10.0.0.2:1"}}`, "maps are missing"},
		"lane of nobody":     {`{"kind":"lane","lane":{"maps":1,"workload":"","destination":"10.0.0.1:1","consumer":"10.0.0.2:1"}}`, "workload is missing"},
		"lane to nowhere":    {`{"kind":"lane","lane":{"maps":1,"workload":"a","consumer":"10.0.0.2:1"}}`, "port is missing"},
		"lane from nowhere":  {`{"kind":"lane","lane":{"maps":1,"workload":"a","destination":"10.0.0.2:1"}}`, "consumer"},
		"ninth end":          {`{"kind":"lane","lane":{"maps":1,"workload":"a","destination":"10.0.0.1:1","consumer":"10.0.0.2:1","ends":[{"number":8,"workload":"b","address":"10.0.0.1:1"}]}}`, "end 8"},
		"two ends": {`{"kind":"lane","lane":{"maps":1,"workload":"a","destination":"10.0.0.1:1","consumer":"10.0.0.2:1","ends":[` +
			`{"number":1,"workload":"b","address":"10.0.0.1:1"},{"number":1,"workload":"b","address":"10.0.0.1:1"}]}}`, "two ends 1"},
		"nine ends": {`{"kind":"lane","lane":{"maps":1,"workload":"a","destination":"10.0.0.1:1","consumer":"10.0.0.2:1","ends":[` +
			strings.Repeat(`{},`, 8) + `{}]}}`, "9 ends"},
		"generation 0":   {`{"kind":"destinations","destinations":{"generation":0}}`, "generation is missing"},
		"unknown word":   {`{"kind":"destinations","destinations":{"generation":1,"unknown":"drop","last":true}}`, "unknown is \"drop\""},
		"unknown early":  {`{"kind":"destinations","destinations":{"generation":1,"unknown":"count"}}`, "before the last part"},
		"table 0":        {`{"kind":"destinations","destinations":{"generation":1,"workloads":["a"]}}`, "table 0"},
		"nameless":       {`{"kind":"destinations","destinations":{"table":1,"generation":1,"workloads":[""]}}`, "workload is missing"},
		"negative table": {`{"kind":"destinations","destinations":{"table":-1,"generation":1}}`, "cannot unmarshal"},
		"loose prefix":   {`{"kind":"destinations","destinations":{"generation":1,"entries":[{"prefix":"10.0.0.1/8","port":0}]}}`, "beyond its length"},
		"mapped prefix":  {`{"kind":"destinations","destinations":{"generation":1,"entries":[{"prefix":"::ffff:10.0.0.0/104","port":0}]}}`, "v4-mapped"},
		"missing prefix": {`{"kind":"destinations","destinations":{"generation":1,"entries":[{"port":1}]}}`, "prefix is missing"},
		"too large":      {`{"kind":"goodbye"` + strings.Repeat(" ", MaxMessage) + `}`, "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := Decode([]byte(c.packet))
			if err == nil {
				t.Fatalf("accepted as %s", show(t, m))
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %q, want one with %q", err, c.want)
			}
		})
	}
}

// FuzzDecode: what is accepted encodes again to an equal message.
func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		packet, err := Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packet)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		m, err := Decode(packet)
		if err != nil {
			return
		}
		again, err := Encode(m)
		if err != nil {
			t.Fatalf("accepted, but not encoded: %v", err)
		}
		got, err := Decode(again)
		if err != nil {
			t.Fatalf("own encoding rejected: %v\n%s", err, again)
		}
		if !reflect.DeepEqual(got, m) {
			t.Fatalf("not equal:\n%s\n%s", packet, again)
		}
	})
}

// TestSeeds keeps the committed seeds what they are meant to be: one accepted
// message of each kind, in the corpus's own form.
func TestSeeds(t *testing.T) {
	for name, m := range samples() {
		path := filepath.Join("testdata", "fuzz", "FuzzDecode", name)
		want := "go test fuzz v1\n[]byte(" + quote(show(t, m)) + ")\n"
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("seed %s is not %q (%v)", path, want, err)
			if os.Getenv("DUBWAY_UPDATE") != "" {
				if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
