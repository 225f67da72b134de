package tap

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry/accesslog"
)

// document tells of one request as operators read it.
func document(rec *rpc.Record) *admin.TapEvent {
	c := rec.Call
	return &admin.TapEvent{
		APIVersion: admin.APIVersion, Time: rec.Start, Protocol: c.Protocol.String(), Reporter: c.Reporter.String(),
		Consumer: peer(c.Source, rec.Downstream), Provider: peer(c.Destination, c.Endpoint),
		Service: c.Service.Host, Interface: c.Interface, Method: c.Method, Generic: c.Generic,
		Version: c.Version, Application: c.Application,
		RequestID: strconv.FormatUint(rec.ID, 10), Serialization: accesslog.SerializationName(rec.Serialization),
		Status: rec.Status, StatusName: accesslog.StatusName(rec.Status),
		Result: rec.Result.String(), Exception: rec.Exception, Flags: rpc.Flags(rec.Why, rec.Delayed), Reason: rec.Why.String(),
		DurationMs: milliseconds(rec.Duration), OverheadMs: milliseconds(rec.Overhead),
		RequestBytes: rec.RequestBytes, ResponseBytes: rec.ResponseBytes,
		Listener: c.Listener, Route: c.Route, Cluster: c.Cluster, Dialled: address(c.Original), SameNode: c.SameNode, Lane: rec.Lane,
	}
}

// peer tells of one end of a call, whose address is known when its pod is not.
func peer(p *rpc.Peer, at netip.AddrPort) admin.TapPeer {
	if p == nil {
		p = &rpc.Peer{}
	}
	return admin.TapPeer{Namespace: p.Namespace, Pod: p.Pod, Workload: p.Workload, Address: address(at)}
}

func address(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
