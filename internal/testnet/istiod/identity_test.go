//go:build e2e

package istiod_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/istiod"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// TestIdentity: a real istiod signs for the accounts of the node's pods, and tells their
// views to whoever proves to be one of them; a pod that it does not know is asked for again
// until it does.
func TestIdentity(t *testing.T) {
	m := meshtest.New(t, "is", 1, 8*time.Minute)
	w := &world{Mesh: m, consumer: m.Pod("consumer"), batch: m.Pod("batch")}
	w.plane = istiod.Start(m, w.objects("base"))
	w.plane.Publish(w.consumer, "n1")
	root, token := w.plane.Credentials(m.System(), "n1")
	_, err := m.StartAgent(m.Ctx, "--ca-address", w.plane.Address(istiod.TLSPort), "--ca-root-file", root, "--ca-token-file", token)
	m.Must(err)
	w.proxy, err = m.StartProxy(m.Ctx, "--xds-server", w.plane.Address(istiod.TLSPort), "--xds-tls")
	m.Must(err)
	of := func(name string) (one admin.Identity, view admin.ControlView) {
		s, err := m.ProxyStatus(m.Ctx)
		if err != nil || s.ControlPlane == nil {
			return one, view
		}
		if i := slices.IndexFunc(s.Identities, func(i admin.Identity) bool { return i.ServiceAccount == name }); i >= 0 {
			one = s.Identities[i]
		}
		if i := slices.IndexFunc(s.ControlPlane.Views, func(v admin.ControlView) bool {
			return strings.HasPrefix(v.Key, testnet.Namespace+"/"+name)
		}); i >= 0 {
			view = s.ControlPlane.Views[i]
		}
		return one, view
	}
	granted := func(name string) {
		t.Helper()
		m.Eventually(name+" is believed", func() bool {
			one, view := of(name)
			return one.Error == "" && one.ID == "spiffe://cluster.local/ns/"+testnet.Namespace+"/sa/"+name &&
				one.ControlPlane == "certificate" && view.Connected && view.Generation > 0
		})
	}
	granted("consumer")
	m.Eventually("batch is refused", func() bool {
		one, view := of("batch")
		return strings.Contains(one.Error, "impersonation") && !view.Connected
	})
	w.plane.Publish(w.batch, "n1")
	granted("batch")
	one, view := of("consumer")
	t.Logf("%+v\n%+v", one, view)
	w.mutual(func() { granted("provider") })
}
