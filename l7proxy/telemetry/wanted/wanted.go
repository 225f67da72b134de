// Package wanted says whether the configuration wants a line of the access log of a call
// that ended, or of a connection. It writes none.
package wanted

import (
	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// Says tells whether the configuration says anything of the lines of a call: of the sides
// that it is counted for.
func Says(c *rpc.Call) bool {
	t := c.Told
	return t != nil && (says(c, rpc.ReporterSource, &t.Source) || says(c, rpc.ReporterDestination, &t.Destination))
}

func says(c *rpc.Call, side rpc.Reporter, told *report.Side) bool {
	return c.Reporter&side != 0 && told.Rules != nil && told.Rules.Log != nil
}

// Request tells whether one side, as of Says, wants the line of a request.
func Request(c *rpc.Call, rec *rpc.Record) bool {
	return either(c, report.Facts{
		Code: Code(rec.Status, rec.Why), Duration: rec.Duration, Flags: rpc.Flags(rec.Why, rec.Delayed),
		Cluster: c.Cluster, Route: c.Route,
	})
}

// Values tells whether one side may want the line of a request that was answered with a
// value, however long it took.
func Values(c *rpc.Call) bool {
	for _, side := range []*report.Side{&c.Told.Source, &c.Told.Destination} {
		if side.Rules == nil || side.Rules.Log == nil {
			continue
		}
		for _, took := range side.Rules.Log.Durations() {
			if Request(c, &rpc.Record{Status: rpc.StatusOK, Duration: took}) {
				return true
			}
		}
	}
	return false
}

// Connection tells the same of an opaque connection that closed.
func Connection(c *rpc.Connection) bool {
	return either(c.Call, report.Facts{
		Duration: c.Duration, Flags: c.Why.Flag(), Cluster: c.Call.Cluster, Route: c.Call.Route,
	})
}

func either(c *rpc.Call, f report.Facts) bool {
	return wants(c, rpc.ReporterSource, &c.Told.Source, &f) || wants(c, rpc.ReporterDestination, &c.Told.Destination, &f)
}

func wants(c *rpc.Call, side rpc.Reporter, told *report.Side, f *report.Facts) bool {
	if !says(c, side, told) {
		return false
	}
	f.Holds = told.Holds
	return told.Rules.Log.Wants(f)
}

// Code is the HTTP status that says what the end of a request does, for conditions that
// are written for HTTP: first by what the mesh did, then by Dubbo's status. 0: nothing was
// answered.
func Code(status uint8, why rpc.Why) int64 {
	switch why {
	case rpc.WhyNone, rpc.WhyFault, rpc.WhyDirect:
	case rpc.WhyDenied:
		return 403
	case rpc.WhyNoRoute:
		return 404
	case rpc.WhyLimited:
		return 429
	case rpc.WhyTimeout:
		return 504
	case rpc.WhyDownstreamGone, rpc.WhyIdleTimeout:
		return 0
	case rpc.WhyProtocolError, rpc.WhyTooLarge:
		return 400
	default:
		return 503
	}
	switch status {
	case 0:
		return 0
	case 20: // a business exception included
		return 200
	case 25, 40: // serialization error, bad request
		return 400
	case 30, 31: // client and server timeout
		return 504
	case 35, 100: // channel inactive, thread pool exhausted
		return 503
	case 60: // service not found
		return 404
	}
	return 500
}
