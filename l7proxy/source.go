package l7proxy

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds"
	"github.com/dubway/dubway/l7proxy/xds/ads"
)

// source is where snapshots come from: files or a control plane, never both.
type source interface {
	// OnChange sets what is called with each new snapshot.
	OnChange(f func(*snapshot.Snapshot))
	// Reload publishes what there is on disk.
	Reload()
	// Run follows changes until ctx ends.
	Run(ctx context.Context) error
	Rejections() []xds.Rejection
	Stats() xds.Stats
}

var (
	_ source = (*xds.Source)(nil)
	_ source = (*ads.Source)(nil)
)

// openSource chooses the source. It reads nothing yet.
func (p *Proxy) openSource() error {
	p.snap.Store((&snapshot.Snapshot{}).Seal())
	if p.opts.XDSServer == "" {
		p.source = xds.NewSource(p.opts.XDSDir, p.log)
		p.source.OnChange(p.apply)
		return nil
	}
	if err := p.opts.Secured.check(); err != nil {
		return err
	}
	node := p.opts.XDSNode
	node.Locality = p.opts.Locality
	var err error
	p.control, err = ads.New(ads.Options{
		Server: p.opts.XDSServer, Node: node, Logger: p.log,
		Path: filepath.Join(filepath.Dir(admin.ProxySocket(p.opts.StateDir)), "xds.kept"),
		Way: func() (ads.Way, error) {
			a, err := p.viewed()
			if err != nil && p.opts.Secured.TLS {
				return ads.Way{}, err
			}
			return p.way(a)
		},
	})
	if err != nil {
		return fmt.Errorf("follow control plane: %w", err)
	}
	p.source = p.control
	p.source.OnChange(p.apply)
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
	s := p.control.State()
	c := &admin.ControlPlane{
		Server: p.opts.XDSServer, Node: p.opts.XDSNode.ID, Connected: s.Connected, Since: s.Since, Reason: s.Reason,
		Updates: s.Updates, Refused: s.Refused, Reconnects: s.Reconnects, Kept: s.Kept,
	}
	if !s.Updated.IsZero() {
		c.Updated = &s.Updated
	}
	return c
}

// controlProblem is the sentence about a control plane that is away, or "".
func controlProblem(c *admin.ControlPlane) string {
	if c == nil || c.Connected {
		return ""
	}
	reason := c.Reason
	if reason == "" {
		reason = "it has not answered yet"
	}
	holds := "what it said last goes on"
	switch {
	case c.Kept:
		holds = "what was kept on disk holds"
	case c.Updated == nil:
		holds = "there is no configuration"
	}
	return fmt.Sprintf("no control plane at %s since %s: %s; %s", c.Server, c.Since.Format(time.RFC3339), reason, holds)
}

// controlCounters tell of the control plane, if there is one.
func (p *Proxy) controlCounters() counters {
	if p.control == nil {
		return nil
	}
	return counters{
		gauge("dubway_xds_connected", "Whether the control plane has answered on the stream that is open: 1 or 0.", func() float64 {
			if p.control.State().Connected {
				return 1
			}
			return 0
		}),
		count("dubway_xds_updates_total", "Updates of the control plane, with and without news.",
			func() uint64 { return p.control.State().Updates }),
		count("dubway_xds_refused_updates_total", "Updates that were refused, for the resources of them that were rejected.",
			func() uint64 { return p.control.State().Refused }),
		count("dubway_xds_reconnects_total", "Streams to the control plane after the first one.",
			func() uint64 { return p.control.State().Reconnects }),
	}
}
