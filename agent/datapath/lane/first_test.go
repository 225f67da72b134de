package lane_test

import (
	"testing"

	"github.com/dubway/dubway/agent/datapath/lane/lanetest"
	"github.com/dubway/dubway/internal/lane"
)

func TestFirst(t *testing.T) {
	r := lanetest.New(t, 8)
	for _, f := range lanetest.Families {
		t.Run(f.Name, func(t *testing.T) {
			c, p := r.DialConsumer(f), r.DialProvider(f)
			sa := lanetest.Ask(t, c.Proxy, lane.AskState, 0)
			sb := lanetest.Ask(t, p.Proxy, lane.AskState, 0)
			t.Logf("%+v %+v", sa, sb)
			counts, err := r.Lane.Counts()
			lanetest.Must(t, err)
			t.Log(counts)
			sa = lanetest.Ask(t, c.Proxy, lane.AskBind, lane.Place(1, lane.Consumer))
			sb = lanetest.Ask(t, p.Proxy, lane.AskBind, lane.Place(1, 0))
			m := r.Memory
			l := &m.Lanes[1]
			l.Class = 1
			l.Resume = lane.At(sa.Copied)
			l.Ends[0] = lane.End{Flags: lane.EndOpen, Resume: lane.At(sb.Copied)}
			var rt lane.Route
			lanetest.Must(t, rt.Name(1, lane.Hessian2, lanetest.Names(lane.Hessian2, "echo")))
			rt.Count = 1
			rt.Shares[0].Count = 1
			place, _, _ := m.Find(&rt, nil)
			m.Put(place, &rt)
			l.Flags = lane.Requests | lane.Answers
			q := lanetest.Frame{Kind: lanetest.Call, Serialization: lane.Hessian2, ID: 7, Method: "echo", Size: 128}
			_, err = c.App.Write(q.Append(nil))
			lanetest.Must(t, err)
			rd := lanetest.NewReader(p.App)
			lanetest.Must(t, rd.More())
			raw, err := rd.Next()
			lanetest.Must(t, err)
			got, err := lanetest.Check(raw, []string{"echo"})
			t.Log(got, err)
			a := lanetest.Frame{Kind: lanetest.Answer, Serialization: lane.Hessian2, ID: 7, Size: 128}
			_, err = p.App.Write(a.Append(nil))
			lanetest.Must(t, err)
			rd = lanetest.NewReader(c.App)
			lanetest.Must(t, rd.More())
			raw, err = rd.Next()
			lanetest.Must(t, err)
			got, err = lanetest.Check(raw, nil)
			t.Log(got, err)
			t.Logf("%+v", *l)
			t.Logf("%+v", m.Tallies[0])
		})
	}
}
