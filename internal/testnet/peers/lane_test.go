package peers

import (
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// start starts agent and proxy, and waits until the pods are enrolled. Every call in the lane
// has its line in the log, however many there are.
func (x *matrix) start(lane string, pods []*testnet.Pod) {
	x.T.Helper()
	_, err := x.StartAgent(x.Ctx, "--lane", lane)
	x.Must(err)
	x.proxy, err = x.StartProxy(x.Ctx, "--access-log", "stdout", "--lane-log", "1000000")
	x.Must(err)
	x.Must(x.WaitEnrolled(x.Ctx, pods...))
	x.Eventually("steering in force", func() bool {
		s, err := x.AgentStatus(x.Ctx)
		return err == nil && s.Generation > 0
	})
}

// called is how many calls of a consumer were made in a serialization, and how many of them
// took the lane both ways.
func (x *matrix) called(c *consumer, serialization string) (all, lane int) {
	x.T.Helper()
	of := []string{`reporter="source"`, `source_workload="` + c.pod.Name + `"`, `dubbo_serialization="` + serialization + `"`}
	all = x.Sum("dubway_serialization_requests_total{", of...)
	return all, x.Sum("dubway_serialization_requests_total{", append(of, `lane="true"`)...)
}

// ways shows what the proxy makes of the names that a consumer has called.
func (x *matrix) ways(t *testing.T, c *consumer) {
	t.Helper()
	client := admin.NewClient(admin.ProxySocket(x.StateDir()))
	defer client.Close()
	var routes admin.RouteList
	var lanes admin.LaneList
	x.Must(client.Get(x.Ctx, admin.PathRoutes, &routes))
	x.Must(client.Get(x.Ctx, admin.PathLanes, &lanes))
	for _, n := range routes.Names {
		if strings.HasSuffix(n.Consumer, "/"+c.pod.Name) {
			t.Logf("%+v", n)
		}
	}
	t.Logf("%+v", lanes)
}

// TestLane takes pairs of peers through what the protocol can do when the kernel routes what
// it may, and then ends providers, each in its way, under the calls of all consumers. No call
// is lost, answered wrongly or counted twice, and each kind of consumer has calls in the lane.
func TestLane(t *testing.T) {
	m := meshtest.New(t, "pe", 1, 10*time.Minute)
	var all []*consumer
	var pods []*testnet.Pod
	kinds := []kind{java33, java32, dubboGo}
	for i := range kinds {
		pods = append(pods, m.Pod([]string{"consumer-33", "consumer-32", "consumer-go"}[i]))
	}
	x := newMatrix(m, "on", pods)
	for i, k := range kinds {
		all = append(all, consume(m, pods[i], k))
	}
	t.Run("pairs", func(t *testing.T) {
		for _, c := range all {
			t.Run(string(c.kind), func(t *testing.T) {
				t.Parallel()
				x.lanes(t, c)
			})
		}
	})
	x.endings(t, all)
	x.recorded()
}

// lanes runs one consumer against every provider that speaks this Dubbo.
func (x *matrix) lanes(t *testing.T, c *consumer) {
	for i, p := range x.providers {
		v4, v6 := vip(i)
		to := x.kinds[p.Name]
		if to == java26 {
			continue
		}
		for _, s := range []string{"hessian2", "fastjson2"} {
			if s == "fastjson2" && (c.kind == dubboGo || to == dubboGo) {
				continue
			}
			for j, target := range []string{v4 + portName, "[" + v6 + "]" + portName} {
				// Each job has a connection of its own, which has a lane after its first calls; a
				// subscriber's has none any more.
				checks := "everysize,pipelined,sizes,who,checked,runtime,attachments,pipelined"
				if j == 0 {
					checks = "everysize," + checksOf(c.kind, to)
				}
				if to == dubboGo && c.kind.java() {
					checks = "everysize,sizes,who,checked,runtime"
				}
				x.mostly(t, c, job{to: p, target: target, serialization: s, checks: checks})
			}
		}
	}
}

// job is what a consumer is to check with a provider.
type job struct {
	to                            *testnet.Pod
	target, serialization, checks string
}

// mostly lets a consumer do a job whose calls are to take the lane. Some hundred are made
// before there is one, or behind a callback; where these are more, because the machine is busy,
// the job is done again, twice at most.
func (x *matrix) mostly(t *testing.T, c *consumer, j job) {
	t.Helper()
	for range 3 {
		calls, took := x.called(c, j.serialization)
		x.checkf(t, c, j.to, "target=%s serialization=%s checks=%s", j.target, j.serialization, j.checks)
		nowCalls, nowTook := x.called(c, j.serialization)
		calls, took = nowCalls-calls, nowTook-took
		t.Logf("%s to %s by %s at %s: %d of %d calls in the lane", c.kind, j.to.Name, j.serialization, j.target, took, calls)
		if took*10 >= (calls-300)*8 {
			return
		}
	}
	x.ways(t, c)
	t.Errorf("%s to %s by %s at %s: three times too few calls in the lane", c.kind, j.to.Name, j.serialization, j.target)
}
