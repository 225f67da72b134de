package peers

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// TestAnswers: real consumers see what the mesh adds to the attachments of answers, and
// not what it removes; values and exceptions are what they were.
func TestAnswers(t *testing.T) {
	m := meshtest.New(t, "pe", 1, 10*time.Minute)
	consumers, kinds := []*testnet.Pod{}, []kind{java33, java32, java26, dubboGo}
	for i := range kinds {
		consumers = append(consumers, m.Pod(fmt.Sprint("consumer-", i)))
	}
	var services []meshtest.Service
	var waits []func()
	pods := consumers
	providers := map[kind]*testnet.Pod{}
	for i, k := range []kind{java33, java26, dubboGo} {
		p := m.Pod(fmt.Sprint("provider-", i), port)
		pods, providers[k] = append(pods, p), p
		_, ready := provide(m, p, k)
		waits = append(waits, ready)
		v4, _ := vip(i)
		services = append(services, meshtest.Service{
			Name: p.Name, Addresses: []string{v4}, Clusters: map[string][]netip.AddrPort{p.Name: {p.Addr(port)}},
			Routes: "[{match: {prefix: /}, route: {cluster: " + p.Name + "}, response_headers_to_remove: [dubbo], " +
				`response_headers_to_add: [{header: {key: served-by, value: "%DUBWAY_DESTINATION(pod)% \u00e9"}}]}]`,
		})
	}
	m.Put(services...)
	m.Start(pods)
	for _, wait := range waits {
		wait()
	}
	for i, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			c := consume(m, consumers[i], k)
			for j, to := range []kind{java33, java26, dubboGo} {
				v4, _ := vip(j)
				more := []string{""}
				if k == java33 || k == java32 {
					if more = append(more, " serialization=fastjson2"); to != java33 {
						more = more[:1]
					}
				}
				for _, job := range more {
					reports := c.do(m.Ctx, t, "name=%s target=%s%s filter=answered checks=answered,sizes,checked,runtime%s", providers[to].Name, v4, portName, job)
					for name, r := range reports {
						if !r.OK {
							t.Errorf("%s of %s%s: %s %s", name, to, job, r.Detail, r.text())
						}
					}
					got := reports["answered"].Detail
					if !strings.Contains(got, "served-by") || !strings.Contains(got, providers[to].Name+" é") || strings.Contains(got, "2.0.2") {
						t.Errorf("answers of %s%s have %s", to, job, got)
					}
					t.Logf("answers of %s%s have %s", to, job, got)
				}
			}
		})
	}
	m.Eventually("all answers are edited", func() bool {
		return m.Sum("dubway_edited_answers_total{", `result="edited"`) > 100 && m.Sum("dubway_edited_answers_total{", `result="unreadable"`) == 0
	})
}
