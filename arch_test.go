// Package dubway_test holds the tests of the repository as a whole: which room
// may import what (arch_test.go), how large and how documented things are
// (style_test.go) and whether the documents name what exists (docs_test.go).
// It tests no behaviour of the mesh.
package dubway_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/dubway/dubway"

// door is where a library comes in, and why nowhere else.
type door struct {
	library string // an import path; "/..." takes what is below it too
	rooms   []string
	tests   []string // rooms whose tests alone may use it
	why     string
}

// Every import that is neither the standard library's nor ours needs a door,
// and so do the packages of the standard library that give power.
var doors = []door{
	{"github.com/cilium/ebpf/...", []string{"bpf", "agent/datapath/...", "internal/testnet/cluster/capture"}, []string{"internal/testnet/..."},
		"one writer of the maps: whoever else opened one could hold it after it was replaced"},
	{"github.com/vishvananda/netlink/...", []string{"agent/...", "internal/testnet/..."}, nil,
		"links, netns ids and sock_diag need privileges that only the agent has"},
	{"github.com/vishvananda/netns/...", []string{"agent/...", "internal/testnet/..."}, nil,
		"the same"},
	{"k8s.io/...", []string{"agent/pods/kube", "agent/pods/leave"}, []string{"agent/..."},
		"one client of the API server for pods, one for the order to leave, each with one list of what it may ask for; the rest of the agent sees pods.Pod"},
	{"github.com/containernetworking/cni/...", []string{"cni/..."}, []string{"agent/cniserver"},
		"the words that container runtimes speak to plugins; the agent's end speaks those of cni/wire"},
	{"github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3", []string{"l7proxy/ratelimit"}, nil,
		"it is the wire of the one service that decides about requests; what it is asked comes from snapshot.Snapshot"},
	{"github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3", []string{"l7proxy/ratelimit", "l7proxy/xds/..."}, nil,
		"descriptors, in that service's words and in those of a filter"},
	{"github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3", []string{"l7proxy/xds/...", "internal/testnet/planetest"}, []string{"internal/testnet/..."},
		"a control plane of the tests says what files say"},
	{"github.com/envoyproxy/go-control-plane/envoy/service/route/v3", []string{"l7proxy/xds/..."}, []string{"internal/testnet/..."},
		"the same of Aeraki's server"},
	{"google.golang.org/grpc/...", []string{"l7proxy/backend", "l7proxy/trace", "l7proxy/xds/ads", "l7proxy/xds/aeraki", "agent/authority", "internal/testnet/catest", "internal/testnet/oteltest", "internal/testnet/planetest"}, []string{"l7proxy/ratelimit", "l7proxy/xds/...", "internal/testnet/..."},
		"its connections dial from the process's own namespace: only where the mesh itself asks or tells may they, a control plane, a backend, a certificate authority; of l7proxy/trace it is the codes of answers"},
	{"go.opentelemetry.io/proto/slim/otlp/...", []string{"l7proxy/trace"}, nil,
		"the wire of collectors, as OpenTelemetry generates it, without its gateway for HTTP; what a span says comes from rpc.Record"},
	{"go.opentelemetry.io/proto/otlp/...", []string{"internal/testnet/oteltest"}, []string{"l7proxy/trace"},
		"the collector of tests, with the service that OpenTelemetry generates"},
	{"istio.io/api/security/v1alpha1", []string{"agent/authority", "internal/testnet/catest"}, nil,
		"the wire of the one service that signs, as Istio itself generates it; what else istio.io/api has would be policy"},
	{"istio.io/api/envoy/extensions/stats", []string{"l7proxy/xds/..."}, nil,
		"how Istio's metrics are changed, in the words in which istiod sends it; what else istio.io/api has is not sent"},
	{"google.golang.org/protobuf/types/known/structpb", []string{"agent/authority", "l7proxy/xds/..."}, nil,
		"the form in which that service is told on whose behalf it is asked; in l7proxy/xds, see below"},
	{"github.com/envoyproxy/...", []string{"l7proxy/xds/..."}, nil,
		"the rest of the proxy sees snapshot.Snapshot: a field that xds does not convert does not exist"},
	{"github.com/cncf/xds/...", []string{"l7proxy/xds/..."}, nil,
		"the same"},
	{"google.golang.org/protobuf/types/known/anypb", []string{"l7proxy/xds/...", "internal/testnet/planetest"}, []string{"internal/testnet/..."},
		"the same; a control plane of the tests sends it"},
	{"google.golang.org/protobuf/...", []string{"l7proxy/xds/..."}, nil,
		"the same"},
	{"github.com/apache/dubbo-go-hessian2/...", []string{"cmd/dubwayctl/values"}, []string{"l7proxy/codec/...", "internal/testnet/..."},
		"it is the oracle of our skipping reader, and decodes what tap shows, in the operator's process: it panics on some bytes of pods"},
	{"github.com/apache/thrift/...", []string{"internal/testnet/thrifttest"}, []string{"l7proxy/codec/thrift"},
		"it is the real peer of our Thrift codec, and its oracle"},
	{"github.com/dubbogo/gost/...", []string{"cmd/dubwayctl/values"}, []string{"l7proxy/codec/..."},
		"the decimals of dubbo-go-hessian2"},
	{"github.com/prometheus/...", []string{"l7proxy", "l7proxy/counters", "l7proxy/proof", "l7proxy/telemetry/...", "agent/..."}, []string{"internal/testnet/..."},
		"what is measured is decided where the Record ends, and in the agent for its own counters; proxy.go joins the registries"},
	{"github.com/cespare/xxhash/v2", []string{"l7proxy/cluster/hashring", "l7proxy/router"}, nil,
		"the hash of Envoy's ring, so that both choose the same endpoint; one for endpoints, one for requests"},
	{"github.com/fsnotify/fsnotify", []string{"l7proxy/xds/...", "agent/pods", "cni/install"}, nil,
		"three directories are watched: configuration, workloads, and the node's CNI configuration"},
	{"sigs.k8s.io/yaml", []string{"l7proxy/xds/...", "agent/pods", "cmd/dubwayctl/...", "internal/testnet/..."}, []string{"deploy/..."},
		"YAML is a form of files that people write, never of what processes say to each other"},
	{"github.com/go-zookeeper/zk", []string{"cmd/dubwayctl/registry/zookeeper"}, nil,
		"a registry is read once, by the operator: the mesh itself knows providers from its control plane alone"},
	{"github.com/spf13/...", []string{"cmd/..."}, nil,
		"flags end in cmd; below it, parameters have names"},
	{"golang.org/x/time/rate", []string{"l7proxy/...", "agent/..."}, nil,
		"limits of workloads and of warnings"},
	{"golang.org/x/sys/unix", []string{"agent/...", "cni/...", "l7proxy/...", "internal/...", "cmd/..."}, nil,
		"system calls; bpf, the kernel's ABI, makes none"},
	{"github.com/rogpeppe/go-internal/...", nil, []string{"cmd/...", "internal/testnet/..."},
		"testscript: the commands' tests read as their documentation"},
	{"os/exec", []string{"internal/testnet/...", "cmd/dubwayctl/...", "deploy/image"}, []string{"..."},
		"agent and proxy start nothing: what takes them over finds no program to run"},
	{"net/http/pprof", nil, nil,
		"it serves a profile to whoever reaches the port"},
	{"plugin", nil, nil,
		"composition is in cmd, at compile time"},
}

// edge is an import that must not be, whatever a room's code would gain.
type edge struct {
	from, to string
	why      string
}

var forbidden = []edge{
	{"l7proxy/...", "bpf/...", "the unprivileged half needs no map: the kernel answers through its sockets"},
	{"l7proxy/...", "agent/...", "they are two processes; what they share is internal/handoff"},
	{"agent/...", "l7proxy/...", "the privileged half parses no byte that a pod sent"},
	{"bpf/...", "...", "the kernel's ABI knows nobody"},
	{"agent/...", "cmd/...", "commands compose rooms, rooms know no command"},
	{"l7proxy/...", "cmd/...", "the same"},
	{"internal/testnet/...", "cmd/...", "the rig starts the commands as processes"},
	{"internal/handoff", "l7proxy/...", "a seam belongs to neither side"},
	{"internal/handoff", "agent/...", "the same"},
	{"internal/lane", "l7proxy/...", "a seam belongs to neither side"},
	{"internal/lane", "agent/...", "the same"},
	{"internal/admin", "l7proxy/...", "a seam belongs to neither side"},
	{"internal/admin", "agent/...", "the same"},
	{"internal/version", "...", "a constant knows nobody"},
	{"cni/...", "agent/...", "the plugin is a thin client: what it asks for, the agent does"},
	{"cni/...", "l7proxy/...", "the same"},
	{"cmd/dubway-cni", "agent/...", "the same"},
	{"cmd/dubway-cni", "l7proxy/...", "the same"},
	{"cmd/dubway-agent", "l7proxy/...", "the agent's binary holds no parser of pods' bytes"},
	{"cmd/dubway-proxy", "agent/...", "the proxy's binary holds nothing that needs a privilege"},
	{"cmd/dubway-proxy", "bpf/...", "the same"},
}

// floors are the rooms of both halves from the top down: a room imports only
// rooms below it.
var floors = []string{
	"l7proxy",
	"l7proxy/counters",
	"l7proxy/proof",
	"l7proxy/decision",
	"l7proxy/listener",
	"l7proxy/downstream",
	"l7proxy/lane",
	"l7proxy/lane/observed",
	"l7proxy/lane/life",
	"l7proxy/lane/keeper",
	"l7proxy/lane/learned",
	"l7proxy/lane/position",
	"l7proxy/lane/left",
	"l7proxy/lane/outlet",
	"l7proxy/lane/kernel",
	"l7proxy/lane/tally",
	"l7proxy/lane/outlet",
	"l7proxy/lane/lent",
	"l7proxy/relay",
	"l7proxy/greeting",
	"l7proxy/tap",
	"l7proxy/witness",
	"l7proxy/plan",
	"l7proxy/lane/verdict",
	"l7proxy/principal",
	"l7proxy/telling",
	"l7proxy/callback",
	"l7proxy/mirror",
	"l7proxy/probe",
	"l7proxy/mtls",
	"l7proxy/upstream",
	"l7proxy/claim",
	"l7proxy/waiting",
	"l7proxy/breaker",
	"l7proxy/delivery",
	"l7proxy/deadline",
	"l7proxy/exchange",
	"l7proxy/export",
	"l7proxy/lot",
	"l7proxy/herald",
	"l7proxy/pending",
	"l7proxy/trace",
	"l7proxy/ratelimit",
	"l7proxy/backend",
	"l7proxy/router",
	"l7proxy/cluster",
	"l7proxy/cluster/outlier",
	"l7proxy/cluster/checkup",
	"l7proxy/cluster/hashring",
	"l7proxy/cluster/original",
	"l7proxy/cluster/slowstart",
	"l7proxy/cluster/wheel",
	"l7proxy/cluster/priority",
	"l7proxy/cluster/register",
	"l7proxy/cluster/names",
	"l7proxy/cluster/backoff",
	"l7proxy/cluster/zone",
	"l7proxy/gauge",
	"l7proxy/xds/views",
	"l7proxy/xds/dump",
	"l7proxy/xds/dump/redact",
	"l7proxy/xds/ads",
	"l7proxy/xds/aeraki",
	"l7proxy/xds/kept",
	"l7proxy/xds/gendoc",
	"l7proxy/xds",
	"l7proxy/xds/shelf",
	"l7proxy/xds/convert",
	"l7proxy/xds/listeners",
	"l7proxy/xds/tracers",
	"l7proxy/xds/address",
	"l7proxy/xds/sockets",
	"l7proxy/xds/routes",
	"l7proxy/xds/policies",
	"l7proxy/xds/reports",
	"l7proxy/xds/expression",
	"l7proxy/xds/conditions",
	"l7proxy/xds/packed",
	"l7proxy/xds/files",
	"l7proxy/xds/fields",
	"l7proxy/xds/fields/value",
	"l7proxy/xds/fields/entry",
	"l7proxy/xds/metaprotocol",
	"l7proxy/xds/problems",
	"l7proxy/xds/typed",
	"l7proxy/retry",
	"l7proxy/phrase",
	"l7proxy/postscript",
	"l7proxy/codec/dubbo/seam",
	"l7proxy/codec/dubbo",
	"l7proxy/codec/dubbo/attachments",
	"l7proxy/codec/thrift",
	"l7proxy/codec/hessian",
	"l7proxy/codec/jsonb",
	"l7proxy/codec",
	"l7proxy/codec/edit",
	"l7proxy/telemetry",
	"l7proxy/telemetry/agent",
	"l7proxy/telemetry/shape",
	"l7proxy/telemetry/histogram",
	"l7proxy/telemetry/names",
	"l7proxy/telemetry/wanted",
	"l7proxy/telemetry/budget",
	"l7proxy/telemetry/accesslog",
	"l7proxy/telemetry/stale",
	"l7proxy/telemetry/inverted",
	"l7proxy/telemetry/recent",
	"l7proxy/telemetry/verdicts",
	"l7proxy/workload",
	"l7proxy/mode",
	"l7proxy/sock/socktest",
	"l7proxy/sock",
	"l7proxy/overload",
	"l7proxy/quota",
	"l7proxy/filter",
	"l7proxy/filter/tally",
	"l7proxy/filter/rbac",
	"l7proxy/filter/limit",
	"l7proxy/filter/global",
	"l7proxy/filter/rate",
	"l7proxy/filter/fault",
	"l7proxy/filter/subject",
	"l7proxy/identity/identitytest",
	"l7proxy/identity",
	"l7proxy/condition",
	"l7proxy/pause",
	"l7proxy/steering",
	"l7proxy/sight",
	"l7proxy/directory",
	"l7proxy/snapshot/words",
	"l7proxy/snapshot/destinations",
	"l7proxy/snapshot/apart",
	"l7proxy/snapshot",
	"l7proxy/snapshot/mutual",
	"l7proxy/snapshot/tracing",
	"l7proxy/snapshot/table",
	"l7proxy/rpc",
	"l7proxy/report",

	"agent",
	"agent/cluster",
	"agent/takeover",
	"agent/leaving",
	"agent/chain",
	"agent/sandbox",
	"agent/report",
	"agent/cniserver",
	"agent/server",
	"agent/authority",
	"agent/lanes/loaded",
	"agent/lanes",
	"agent/lanes/shortage",
	"agent/lanes/kept",
	"agent/reach",
	"agent/kubelet",
	"agent/enroll",
	"agent/conflicts",
	"agent/table",
	"agent/limit",
	"agent/ground",
	"agent/turn",
	"agent/datapath",
	"agent/datapath/lane/lanetest",
	"agent/datapath/lane/selftest",
	"agent/datapath/lane",
	"agent/datapath/conflict",
	"agent/datapath/unknown",
	"agent/datapath/bridge",
	"agent/datapath/walk",
	"agent/datapath/probes",
	"agent/datapath/host",
	"agent/datapath/pins",
	"agent/pods/roster",
	"agent/pods/process",
	"agent/netns/netnstest",
	"agent/netns",
	"agent/pods/kube",
	"agent/pods/leave",
	"agent/pods",
}

// listed is what the go command says of a package.
type listed struct {
	ImportPath, Dir, Name string
	GoFiles               []string
	TestGoFiles           []string
	XTestGoFiles          []string
	Imports               []string
	TestImports           []string
	XTestImports          []string
}

// packages asks the go command once for the module's packages.
var packages = sync.OnceValues(func() ([]listed, error) {
	// -e: what does not compile is the compiler's to say.
	out, err := exec.Command("go", "list", "-e", "-tags=e2e", "-json", "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	var all []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		switch err := decoder.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("read go list: %w", err)
		}
		all = append(all, p)
	}
})

func TestImports(t *testing.T) {
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("go list names %d packages: this test looks at nothing", len(all))
	}
	for _, p := range all {
		for _, finding := range importFindings(p) {
			t.Error(finding)
		}
	}
}

// TestImportRulesCanFail breaks each rule once, so that none of them is idle.
func TestImportRulesCanFail(t *testing.T) {
	tests := []struct {
		name string
		pkg  listed
		want string // "" for a package that is as it should be
	}{
		{"a door", listed{ImportPath: module + "/l7proxy/router", Imports: []string{"github.com/cilium/ebpf/link"}}, "one writer of the maps"},
		{"a door of tests", listed{ImportPath: module + "/agent", TestImports: []string{"github.com/rogpeppe/go-internal/testscript"}}, "testscript"},
		{"a test's library in code", listed{ImportPath: module + "/cmd/dubwayctl", Imports: []string{"github.com/rogpeppe/go-internal/testscript"}}, "testscript"},
		{"no door", listed{ImportPath: module + "/agent", Imports: []string{"github.com/stretchr/testify/assert"}}, "has no door"},
		{"power of the standard library", listed{ImportPath: module + "/agent", Imports: []string{"os/exec"}}, "start nothing"},
		{"an edge", listed{ImportPath: module + "/agent/enroll", Imports: []string{module + "/l7proxy/codec"}}, "parses no byte"},
		{"an edge of a test", listed{ImportPath: module + "/l7proxy/listener", XTestImports: []string{module + "/agent/netns"}}, "two processes"},
		{"an edge to everything", listed{ImportPath: module + "/bpf", Imports: []string{module + "/internal/version"}}, "knows nobody"},
		{"a floor of the agent", listed{ImportPath: module + "/agent/pods", Imports: []string{module + "/agent/enroll"}}, "is above"},
		{"a floor", listed{ImportPath: module + "/l7proxy/rpc", Imports: []string{module + "/l7proxy/snapshot"}}, "is above"},
		{"a room without a floor", listed{ImportPath: module + "/l7proxy/magic"}, "has no floor"},
		{"as it should be", listed{ImportPath: module + "/l7proxy/xds", Imports: []string{"errors", "github.com/envoyproxy/go-control-plane/envoy/config/core/v3", module + "/l7proxy/snapshot"}}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := strings.Join(importFindings(test.pkg), "\n")
			if test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("findings %q, want one with %q", got, test.want)
			}
		})
	}
}

// importFindings holds the imports of a package against the three tables.
func importFindings(p listed) []string {
	room := roomOf(p.ImportPath)
	var found []string
	report := func(path, why string) {
		found = append(found, fmt.Sprintf("%s imports %s: %s", room, path, why))
	}
	tests := slices.Concat(p.TestImports, p.XTestImports)
	for _, path := range slices.Concat(p.Imports, tests) {
		code := slices.Contains(p.Imports, path)
		if why := throughDoor(room, path, code); why != "" {
			report(path, why)
		}
		for _, e := range forbidden {
			if path != p.ImportPath && within(room, e.from) && strings.HasPrefix(path, module+"/") && within(roomOf(path), e.to) {
				report(path, e.why)
			}
		}
	}
	return append(found, floorFindings(room, p.Imports)...)
}

// throughDoor returns why room may not import path, or "".
func throughDoor(room, path string, code bool) string {
	for _, d := range doors {
		if !within(path, d.library) {
			continue
		}
		through := func(pattern string) bool { return within(room, pattern) }
		if slices.ContainsFunc(d.rooms, through) || !code && slices.ContainsFunc(d.tests, through) {
			return ""
		}
		return d.why
	}
	if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") && path != module && !strings.HasPrefix(path, module+"/") {
		return "it has no door: give it one in arch_test.go, with its reason, or do without"
	}
	return ""
}

// floorFindings holds the imports of a room against the floors.
func floorFindings(room string, imports []string) []string {
	if !within(room, "l7proxy/...") && !within(room, "agent/...") {
		return nil
	}
	own := slices.Index(floors, room)
	if own < 0 {
		return []string{room + " has no floor: put it into the list of arch_test.go, above all that it imports"}
	}
	var found []string
	for _, path := range imports {
		if floor := slices.Index(floors, roomOf(path)); floor >= 0 && floor < own {
			found = append(found, fmt.Sprintf("%s imports %s, which is above it", room, path))
		}
	}
	return found
}

// roomOf returns an import path within the module: "." for its root.
func roomOf(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

// within tells whether path is pattern or, where that ends in "...", below it.
func within(path, pattern string) bool {
	prefix, wild := strings.CutSuffix(pattern, "...")
	if !wild {
		return path == pattern
	}
	return strings.HasPrefix(path+"/", prefix)
}
