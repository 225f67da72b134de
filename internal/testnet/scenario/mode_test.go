package scenario

import (
	"fmt"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet"
)

// TestModes: policies of a workload, its own side's and each side by itself, are
// observed or left out at once, for connections that are open too; without a restart.
func TestModes(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	m.put(routed{addresses: []string{vip4, v1.Addr(0).Addr().String()}, routes: split(map[string]int{"v1": 1}), clusters: both(v1, v2)})
	m.must(m.PutXDS("inbound.yaml", []byte(fmt.Sprintf(inboundTable, testnet.Namespace+"/provider-1", "all", "[{any: true}]"))))
	_, proxy := m.start(consumer, v1, v2)
	service, pod := vip4+":20880", v1.Addr(20880).String()
	passes, thrown := map[string]int{"v1": each}, map[string]int{"thrown": each}
	say := func(workload, mode string) {
		t.Helper()
		client := admin.NewClient(admin.ProxySocket(m.Node.StateDir()))
		defer client.Close()
		var list admin.ModeList
		m.must(client.Post(m.ctx, admin.PathMode, admin.ModeRequest{Workload: testnet.Namespace + "/" + workload, Mode: mode}, &list))
	}
	m.ask([]asked{{"enforced", consumer, service, method("drop"), thrown}})
	say("consumer", "observe")
	m.ask([]asked{{"the provider's, whatever its consumer's mode", consumer, service, method("drop"), thrown}})
	say("provider-1", "observe")
	m.ask([]asked{
		{"observed", consumer, service, method("drop"), passes},
		{"an observed limit", consumer, pod, method("find"), passes},
	})
	m.counted(`istio_requests_total{`, 2*each, `reporter="destination"`, `response_flags="UAEX"`)
	m.counted(`dubway_rbac_total{`, each, `mode="observed"`, `policy="no-drop"`, `result="would_deny"`)
	m.counted(`dubway_local_rate_limit_total{`, each-5, `result="would_limit"`)
	for part, want := range map[string]int{`"would":"would_deny","would_by":"no-drop"`: each, `"would":"would_limit","would_by":"limit"`: each - 5} {
		m.eventually(fmt.Sprintf("%d log lines of %s", want, part), func() bool { return countLines(proxy.Output(), part) == want })
	}

	// Open connections: one of the consumer's, in the middle of calls.
	say("consumer", "default")
	say("provider-1", "default")
	open := m.launch(consumer, "calls", &callsOf{Target: pod, N: 200, Pause: 50 * time.Millisecond, Timeout: time.Second, Request: method("echo")})
	m.eventually("the first calls", func() bool { return countLines(proxy.Output(), `"dubbo_method":"echo"`) > 4 })
	say("consumer", "off")
	var r callsResult
	if open(&r); r.Answers["v1"] < 2 || r.Answers["v1"]+r.Answers["error"] != 200 || r.Answers["error"] == 0 {
		t.Errorf("a connection that is open when its workload goes off: %v %v, want an end between two calls", r.Answers, r.Errors)
	}
	m.ask([]asked{{"off, the provider enforces", consumer, pod, method("drop"), thrown}})
	m.counted(`istio_tcp_connections_opened_total{`, 1, `reporter="source"`, `source_workload="consumer"`)
	say("*", "off")
	m.ask([]asked{{"off, both", consumer, pod, method("drop"), passes}})
	m.counted(`istio_tcp_connections_opened_total{`, 2, `reporter="source"`, `source_workload="consumer"`)
	m.counted(`istio_tcp_connections_opened_total{`, 1, `reporter="destination"`, `destination_workload="provider-1"`)
	say("consumer", "enforce")
	m.ask([]asked{{"back", consumer, service, method("echo"), passes}})

	// What the workload says itself: its annotation goes before its label.
	say("*", "default")
	say("consumer", "default")
	consumer.Labels = map[string]string{mode: "observe"}
	consumer.Annotations = map[string]string{mode: "off", "other.io/mode": "enforce"}
	m.must(consumer.Enroll())
	m.eventually("the annotation's mode", func() bool { return m.modeOf("consumer") == "off by annotation dubway.io/mode" })
	m.ask([]asked{{"off by annotation", consumer, pod, method("echo"), passes}})
	m.counted(`istio_tcp_connections_opened_total{`, 3, `reporter="source"`, `source_workload="consumer"`)
	consumer.Annotations = nil
	m.must(consumer.Enroll())
	m.eventually("the label's mode", func() bool { return m.modeOf("consumer") == "observe by label dubway.io/mode" })
	m.ask([]asked{{"observed by label", consumer, service, method("echo"), passes}})
}

// mode is the annotation, and the label, of a workload's mode.
const mode = "dubway.io/mode"

// modeOf is a pod's mode as the proxy has it, and who says so.
func (m *mesh) modeOf(pod string) string {
	m.t.Helper()
	client := admin.NewClient(admin.ProxySocket(m.Node.StateDir()))
	defer client.Close()
	var list admin.ModeList
	m.must(client.Get(m.ctx, admin.PathMode, &list))
	for _, s := range list.Items {
		if s.Name == pod {
			return s.Mode + " by " + s.By
		}
	}
	return ""
}
