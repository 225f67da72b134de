package l7proxy

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/identity"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/workload"
	"github.com/dubway/dubway/l7proxy/xds"
	"github.com/dubway/dubway/l7proxy/xds/ads"
	"github.com/dubway/dubway/l7proxy/xds/views"
)

// source is where snapshots come from: files, which are the same for all workloads, or a
// control plane, never both.
type source interface {
	// Seen returns what workloads see at the moment.
	Seen() []snapshot.View
	// Put and Remove say which workloads there are.
	Put(w *workload.Workload) error
	Remove(uid string)
	// Reload publishes what there is on disk.
	Reload()
	// Run follows changes until ctx ends.
	Run(ctx context.Context) error
}

// files is a source for all workloads.
type files struct{ *xds.Source }

func (f files) Seen() []snapshot.View        { return []snapshot.View{{Snapshot: f.Snapshot()}} }
func (f files) Put(*workload.Workload) error { return nil }
func (f files) Remove(string)                {}

// plane is a control plane, which is asked for what each workload sees.
type plane struct{ *views.Set }

func (p plane) Reload() {} // Put does

func (p plane) Put(w *workload.Workload) error {
	return p.Set.Put(&views.Workload{
		UID: w.UID, Name: w.Name, Namespace: w.Namespace, ServiceAccount: w.ServiceAccount, Labels: w.Labels,
		Address: w.Peer.Address,
	})
}

// openSource chooses the source. It reads nothing yet.
func (p *Proxy) openSource() error {
	if p.opts.XDSServer == "" {
		source := xds.NewSource(p.opts.XDSDir, p.log)
		source.OnChange(func(*snapshot.Snapshot) { p.apply() })
		p.source, p.rejected = files{source}, source.Rejections
		p.rejections = func() uint64 { return source.Stats().Rejections }
		return nil
	}
	var err error
	p.control, err = views.New(views.Options{
		Server: p.opts.XDSServer, Cluster: p.opts.XDSCluster, Domain: p.opts.Domain, Locality: p.opts.Locality, Logger: p.log,
		Aeraki: p.opts.Aeraki,
		Dir:    filepath.Join(filepath.Dir(admin.ProxySocket(p.opts.StateDir)), "xds"),
		Way: func(w *views.Workload) (ads.Way, error) {
			return p.identities.Way(identity.Account{Namespace: w.Namespace, Name: w.ServiceAccount})
		},
	})
	if err != nil {
		return fmt.Errorf("follow control plane: %w", err)
	}
	p.control.OnChange(p.apply)
	p.source, p.rejected = plane{p.control}, p.control.Rejections
	p.rejections = func() uint64 { return p.control.Totals().Rejections }
	return nil
}

// sourceName is what the status calls the source.
func (p *Proxy) sourceName() string {
	if p.control == nil {
		return "files " + p.opts.XDSDir
	}
	return "control plane " + p.opts.XDSServer
}

// controlPlane tells how things are with the control plane; nil if there is none.
func (p *Proxy) controlPlane() *admin.ControlPlane {
	if p.control == nil {
		return nil
	}
	sum := p.control.Totals()
	c := &admin.ControlPlane{
		Server: p.opts.XDSServer, Updates: sum.Updates, Refused: sum.Refused, Reconnects: sum.Reconnects,
		Views: []admin.ControlView{},
	}
	for _, v := range p.control.Views() {
		one := admin.ControlView{
			Key: v.Key, Node: v.Node, Workloads: v.Pods, Connected: v.Connected, Since: v.Since, Reason: v.Reason,
			Updates: v.Updates, Refused: v.Refused, Reconnects: v.Reconnects, Kept: v.Kept,
			Generation: v.Snapshot.Generation, Snapshot: size(v.Snapshot), Rejected: v.Rejected,
		}
		if !v.Updated.IsZero() {
			one.Updated = &v.Updated
		}
		for i := range v.Servers {
			one.RouteServers = append(one.RouteServers, admin.RouteServer(v.Servers[i]))
		}
		c.Views = append(c.Views, one)
	}
	return c
}
