// Package probe asks an endpoint once whether it works, for active health checks: by a
// connection, by bytes that must come back, or by Dubbo's heartbeat or $echo. It dials
// as a pod that uses the endpoint, by the same way that the pod's requests take. It
// remembers nothing: when to ask and what an answer is worth is checkup's.
package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/cluster/checkup"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 10

// Prober asks by a Dialer. Safe for concurrent use.
type Prober struct {
	dialer upstream.Dialer
}

var _ checkup.Prober = (*Prober)(nil)

// New returns a Prober.
func New(d upstream.Dialer) *Prober { return &Prober{dialer: d} }

// Probe asks the endpoint at addr as a workload. Part of checkup.Prober.
func (p *Prober) Probe(ctx context.Context, workload string, addr netip.AddrPort, ask *snapshot.Probe) error {
	if ask.Port != 0 {
		addr = netip.AddrPortFrom(addr.Addr(), ask.Port)
	}
	way, err := p.dialer.Dial(ctx, upstream.Key{Workload: workload, Endpoint: addr}, netip.AddrPort{})
	if err != nil {
		return unasked(err)
	}
	c := way.TCP
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	switch ask.Kind {
	case snapshot.ProbeTCP:
		err = exchange(c, ask)
	case snapshot.ProbeHeartbeat:
		err = call(c, dubbo.AppendHeartbeat(nil, probeID))
	case snapshot.ProbeEcho:
		err = call(c, echo(ask))
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("probe %s: no answer in time", addr)
	}
	return err
}

// unasked tells errors that are not the endpoint's apart.
func unasked(err error) error {
	if errors.Is(err, handoff.ErrNotConnected) {
		return fmt.Errorf("%w: %w", checkup.ErrUnasked, err)
	}
	if refused, ok := errors.AsType[*handoff.DialError](err); ok {
		switch refused.Code {
		case handoff.DialUnknown:
			return fmt.Errorf("%w: %w", checkup.ErrNobody, err)
		case handoff.DialExhausted:
			return fmt.Errorf("%w: %w", checkup.ErrUnasked, err)
		case handoff.DialDenied, handoff.DialFailed:
		}
	}
	return err
}

// exchange writes what is to be sent and waits for what is to come.
func exchange(c *net.TCPConn, ask *snapshot.Probe) error {
	if _, err := c.Write(ask.Send); err != nil {
		return fmt.Errorf("send probe: %w", err)
	}
	var got []byte
	buf := make([]byte, 4096)
	for !inOrder(got, ask.Receive) {
		if len(got) > maxAnswer {
			return errors.New("read answer: what is expected does not come")
		}
		n, err := c.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil && !inOrder(got, ask.Receive) {
			return fmt.Errorf("read answer: %w", err)
		}
	}
	return nil
}

// inOrder tells whether got has all pieces, in their order, anything between.
func inOrder(got []byte, pieces [][]byte) bool {
	for _, piece := range pieces {
		i := bytes.Index(got, piece)
		if i < 0 {
			return false
		}
		got = got[i+len(piece):]
	}
	return true
}

// probeID is the id of our one request on the connection.
const probeID = 1

// call sends one Dubbo request and waits for its answer, which must be OK. An exception
// is none: nothing in an echo can throw one but what the provider has in its way.
func call(c *net.TCPConn, request []byte) error {
	if _, err := c.Write(request); err != nil {
		return fmt.Errorf("send probe: %w", err)
	}
	for range 16 { // heartbeats of the provider's own may come before
		h, body, err := read(c)
		switch {
		case err != nil:
			return fmt.Errorf("read answer: %w", err)
		case dubbo.IsReadOnly(h, body):
			return errors.New("the provider is about to stop")
		case h.Request() || h.ID != probeID:
			continue
		case h.Status != dubbo.StatusOK:
			return fmt.Errorf("the provider answered %s", dubbo.StatusName(h.Status))
		case !h.Event() && dubbo.AnswerKind(h, body) == rpc.ResultException:
			return fmt.Errorf("the provider threw %s", dubbo.ExceptionClass(h.Serialization(), body))
		}
		return nil
	}
	return errors.New("read answer: it does not come")
}

// read reads one frame.
func read(c *net.TCPConn) (codec.Header, []byte, error) {
	var head [dubbo.HeaderLen]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return codec.Header{}, nil, fmt.Errorf("read header: %w", err)
	}
	h, err := dubbo.ParseHeader(head[:])
	if err != nil {
		return codec.Header{}, nil, err
	}
	if h.Body > maxAnswer {
		return codec.Header{}, nil, fmt.Errorf("a frame of %d bytes, more than %d", h.Body, maxAnswer)
	}
	body := make([]byte, h.Body)
	if _, err := io.ReadFull(c, body); err != nil {
		return codec.Header{}, nil, fmt.Errorf("read body: %w", err)
	}
	return h, body, nil
}
