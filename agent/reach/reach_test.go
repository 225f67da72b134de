package reach

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/agent/netns/netnstest"
	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/handoff/lack"
)

const uid = "shop/a"

var errFull = errors.New("there are 9 tables")

// workload is a pod in ns, with outbound listeners of families.
func workload(t *testing.T, ns *netnstest.Netns, families ...int) *enroll.Workload {
	t.Helper()
	open, err := netns.Open(ns.Path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = open.Close() })
	w := &enroll.Workload{Pod: &pods.Pod{UID: uid}, Netns: open}
	for _, family := range families {
		for _, d := range []handoff.Direction{handoff.Inbound, handoff.Outbound} {
			w.Listeners = append(w.Listeners, enroll.Listener{Listener: handoff.Listener{Direction: d, Family: family}})
		}
	}
	return w
}

// answer plays connect program, bridge and proxy of a family: the namespace has the
// address that nobody has, and whoever connects reads what is said. Nil: nothing, ever.
func answer(t *testing.T, ns *netnstest.Netns, to netip.AddrPort, says []byte) {
	t.Helper()
	var l net.Listener
	ns.Must(func() (err error) { l, err = net.Listen("tcp", to.String()); return err })
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		var silent []net.Conn
		defer func() {
			for _, c := range silent {
				_ = c.Close()
			}
		}()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if says == nil {
				silent = append(silent, c)
				continue
			}
			_, _ = c.Write(says)
			_ = c.Close()
		}
	}()
}

func TestReach(t *testing.T) {
	right := lack.None.Answer(uid)
	silence := []byte(nil)
	tests := []struct {
		name   string
		v4, v6 []byte
		listen bool // somebody listens
		have   bool // the namespace has the addresses: something steers
		want   string
		is     error
	}{
		{"both families", right, right, true, true, "", nil},
		{"another pod's answer", lack.None.Answer("shop/b"), right, true, true, "the answer is another one", nil},
		{"a prefix of it", right[:5], right, true, true, "the answer is another one", nil},
		{"more than it", slices.Concat(right, []byte("and more")), right, true, true, "the answer is another one", nil},
		{"nothing", []byte{}, right, true, true, "the answer is another one than the proxy's for this pod (0 bytes)", nil},
		{"one family only", right, []byte("HTTP/1.1 400 Bad Request\r\n"), true, true, "IPv6: the answer is another one", nil},
		{"no view yet", lack.View.Answer(uid), right, true, true, "the control plane has not said yet", errView},
		{"no control plane", lack.Plane.Answer(uid), right, true, true, "the control plane does not answer, and nothing", errPlane},
		{"no table yet", lack.Table.Answer(uid), right, true, true, "not in force in the kernel yet", errTable},
		{"by one family only", right, lack.Table.Answer(uid), true, true, "not in force in the kernel yet", errTable},
		{"another pod's lack", lack.View.Answer("shop/b"), right, true, true, "the answer is another one", nil},
		{"refused", lack.Refused.Answer(uid), right, true, true, "cannot be put in force: there are 9 tables", errFull},
		{"silence", silence, silence, true, true, "the proxy does not accept", context.DeadlineExceeded},
		{"nobody", nil, nil, false, true, "nobody listens", nil},
		{"not steered", nil, nil, false, false, "was not steered", errNotSteered},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ns := netnstest.New(t)
			if test.have {
				ns.Add("lo", lack.Asked()[0].Addr().String()+"/32", lack.Asked()[1].Addr().String()+"/128")
			}
			if test.listen {
				answer(t, ns, lack.Asked()[0], test.v4)
				answer(t, ns, lack.Asked()[1], test.v6)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if errors.Is(test.is, context.DeadlineExceeded) {
				ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
			}
			defer cancel()
			p := &Prober{Connected: func() bool { return true }, Refused: func(string) error { return errFull }}
			err := p.Reach(ctx, workload(t, ns, 4, 6))
			refusal, is := errors.AsType[*enroll.Refusal](err)
			if lacks := slices.Contains([]error{errView, errPlane, errTable, errFull}, test.is); is != lacks ||
				is && refusal.Class != enroll.ClassUnconfigured {
				t.Errorf("%v is a refusal: %t, want %t", err, is, lacks)
			}
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("%v is not %v", err, test.is)
			}
		})
	}
}

// TestWithoutRoute: a pod whose only way is a default route by a gateway sends nothing
// for an address that is not steered.
func TestWithoutRoute(t *testing.T) {
	a, b := netnstest.New(t), netnstest.New(t)
	netnstest.Join(a, b)
	a.Add("eth0", "10.96.0.1/24", "fd96::1/64")
	b.Add("eth0", "10.96.0.2/24", "fd96::2/64")
	defaultRoutes(t, a, "10.96.0.2", "fd96::2")
	p := &Prober{Connected: func() bool { return true }}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, family := range []int{4, 6} {
		if err := p.Reach(ctx, workload(t, a, family)); !errors.Is(err, errNotSteered) {
			t.Errorf("IPv%d: %v, want that it was not steered", family, err)
		}
	}
}

// defaultRoutes gives a namespace default routes by gateways.
func defaultRoutes(t *testing.T, ns *netnstest.Netns, gateways ...string) {
	t.Helper()
	ns.Must(func() error {
		eth, err := netlink.LinkByName("eth0")
		for _, gw := range gateways {
			err = errors.Join(err, netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: net.ParseIP(gw)}))
		}
		return err
	})
}

// TestWithoutProxy: nothing is sent that would wait in a backlog.
func TestWithoutProxy(t *testing.T) {
	p := &Prober{Connected: func() bool { return false }}
	if err := p.Reach(t.Context(), nil); !errors.Is(err, errNoProxy) {
		t.Errorf("%v, want %v", err, errNoProxy)
	}
}

// TestRefused: where the agent knows of no refusal of its own, the proxy's log has it.
func TestRefused(t *testing.T) {
	for _, p := range []*Prober{{}, {Refused: func(string) error { return nil }}} {
		if err := p.explain(lack.Refused, uid); !errors.Is(err, errRefused) {
			t.Errorf("%v, want %v", err, errRefused)
		}
	}
	for _, l := range lack.All()[1:] {
		if err := (&Prober{}).explain(l, uid); err == nil || l != lack.Table && errors.Is(err, errTable) {
			t.Errorf("%s is explained by %v", l, err)
		}
	}
}
