package scenario

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/l7proxy/xds"
)

// aerakiDemos are what Aeraki shows of Dubbo, and how it is seen here that it works. The
// file of each, testdata/aeraki/NAME.yaml, has the resource that an Aeraki user writes
// and the xDS that it becomes, as Aeraki and istiod send it.
var aerakiDemos = []struct {
	name string
	run  func(p *policyRun)
}{
	{"batch-job-isolation", (*policyRun).batchJobs},
	{"method-routing", (*policyRun).methodRouting},
	{"locality", (*policyRun).failover},
	{"consistent-hash", (*policyRun).hashing},
	{"local-limit", (*policyRun).localLimit},
	{"mirroring", (*policyRun).mirrorsAll},
	{"header-mutation", (*policyRun).mutation},
}

func aerakiFiles(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/aeraki/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		all[name[:len(name)-len(".yaml")]] = string(text)
	}
	return all
}

// TestAerakiFiles: nothing of the demos' xDS is rejected, and each has a run. It needs no
// privilege.
func TestAerakiFiles(t *testing.T) {
	files := aerakiFiles(t)
	if len(files) != len(aerakiDemos)+1 {
		t.Errorf("%d files, %d demos and the service", len(files), len(aerakiDemos))
	}
	for _, demo := range aerakiDemos {
		path := filepath.Join(t.TempDir(), "demo.yaml")
		if err := os.WriteFile(path, []byte(compose(t, files["service"], files[demo.name])), 0o600); err != nil {
			t.Fatal(err)
		}
		s, rejected := xds.Load([]string{path})
		for _, r := range rejected {
			t.Errorf("%s: %s %s: %s: %s", demo.name, r.Kind, r.Name, r.Field, r.Reason)
		}
		if len(s.Clusters) != 4 || len(s.Routes) < 1 {
			t.Errorf("%s: %d clusters, %d route tables", demo.name, len(s.Clusters), len(s.Routes))
		}
	}
}

// TestAerakiDemos makes the calls of Aeraki's demos.
func TestAerakiDemos(t *testing.T) {
	m := newMesh(t)
	p := &policyRun{
		mesh: m, examples: aerakiFiles(t), consumer: m.pod("consumer"),
		v1: m.pod("provider-1", 20880), v2: m.pod("provider-2", 20880), audit: m.pod("shadow", 20880),
		ratelimit: m.bystander("ratelimit"),
	}
	m.provider(p.v1, "v1")
	m.provider(p.v2, "v2")
	m.provider(p.audit, "shadow")
	p.put("service")
	_, p.proxy = m.Start([]*testnet.Pod{p.consumer, p.v1, p.v2, p.audit})
	p.ask("v1:5 v2:5", callsOf{}, "sayHello", 10)
	for _, demo := range aerakiDemos {
		p.load(demo.name)
		demo.run(p)
		m.counted(`istio_requests_total{`, p.made, `reporter="source"`)
		if t.Failed() {
			t.Fatalf("demo %s failed", demo.name)
		}
	}
}

func (p *policyRun) batchJobs() {
	p.ask("v2:10", with("batchJob", "true"), "sayHello", 10)
	p.ask("v1:10", callsOf{}, "sayHello", 10)
	p.ask("v1:10", with("batchJob", "false"), "sayHello", 10)
	p.lines(10, `"route_name":"batch-job-traffic-isolation"`)
}

func (p *policyRun) methodRouting() {
	p.ask("v2:10", callsOf{}, "findOrder", 10)
	p.ask("v2:10", callsOf{}, "getMyOrder", 10)
	p.ask("v1:10", callsOf{}, "getMyOrders", 10)
	r := p.ask("", callsOf{}, "sayHello", 200)
	if n := r.Answers["v2"]; n < 12 || n > 68 || n+r.Answers["v1"] != 200 { // 5 standard deviations
		p.t.Errorf("%v %v, want 40 of 200 by v2", r.Answers, r.Errors)
	}
}

// localLimit: of eight calls of one method two pass; they took two of the ten tokens that
// everything has, so that eight of the others pass.
func (p *policyRun) localLimit() {
	at := callsOf{Target: p.v1.Addr(20880).String()}
	for _, one := range []struct {
		method string
		want   int
	}{{"sayHello", 2}, {"sayBye", 8}} {
		if r := p.ask("", at, one.method, 12); r.Answers["v1"] != one.want || r.Answers["thrown"] != 12-one.want {
			p.t.Errorf("%s: %v %v, want %d of 12", one.method, r.Answers, r.Errors, one.want)
		}
	}
	p.made -= 24 // no listener is for the provider's own address: the consumer's side does not see calls
	p.counted("istio_requests_total{", 14, `reporter="destination"`, `response_flags="RL"`)
}

func (p *policyRun) mirrorsAll() {
	p.ask("v1:20", callsOf{}, "mirrored", 20)
	p.eventually("the shadow has all copies", func() bool { return p.stats(p.audit).Methods["mirrored"] == 20 })
}

func (p *policyRun) mutation() {
	r := p.ask("", callsOf{Value: true}, "attached", 1)
	var got map[string]string
	p.must(json.Unmarshal([]byte(r.Said), &got))
	if got["foo"] != "bar" || got["foo1"] != "bar1" {
		p.t.Errorf("the provider saw %v, want foo and foo1", got)
	}
}
