package ads

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/status"

	"github.com/dubway/dubway/l7proxy/xds"
)

// When what has come is made to hold: once it has been quiet for so long, so that what one
// push says of several types is one change; but while something is missing that was asked
// for, only after patience, since a listener without its routes would refuse its calls.
const (
	quiet    = 10 * time.Millisecond
	enough   = 40 * time.Millisecond // quiet or not
	patience = 5 * time.Second
)

// all is in place of a name where a type is asked for as a whole.
const all = ""

// names are names of resources.
type names map[string]bool

// stream is one stream to the control plane.
type stream struct {
	source *Source
	wire   discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	node   *corev3.Node

	next chan struct{} // wakes receive

	said     bool                // which node we are
	asked    map[string][]string // by type, sorted; a type that is in it has been asked for
	missing  map[string]names    // of those, what is not held and was not answered
	since    time.Time           // when something began to be missing
	taken    time.Time           // when the first came of what does not hold yet
	answered bool
}

// follow follows one stream to its end. It tells whether there was an answer.
func (s *Source) follow(ctx context.Context) (answered bool, err error) {
	conn, err := s.dial(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	ctx, node := s.begin(ctx)
	defer s.end(nil)
	done, err := s.opts.Turns.take(ctx, conn)
	if err != nil {
		return false, err
	}
	defer done()
	wire, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx,
		grpc.ForceCodecV2(decoder{encoding.GetCodecV2(protocodec.Name)}))
	if err != nil {
		return false, fmt.Errorf("open stream: %w", err)
	}
	t := &stream{source: s, wire: wire, node: node, asked: make(map[string][]string), missing: make(map[string]names),
		next: make(chan struct{}, 1)}
	t.begin()
	responses, failed := make(chan *push), make(chan error, 1)
	go t.receive(ctx, responses, failed)
	ripe := time.NewTimer(patience)
	ripe.Stop()
	slow := time.AfterFunc(patience, done)
	defer slow.Stop()
	for {
		select {
		case <-ctx.Done():
			return t.answered, fmt.Errorf("follow stream: %w", context.Cause(ctx))
		case err := <-failed:
			return t.answered, fmt.Errorf("follow stream: %w", t.ended(ctx, err))
		case r := <-responses:
			slow.Stop()
			if s.opts.Received != nil {
				s.opts.Received(r.bytes)
			}
			if err := t.take(r); err != nil {
				return t.answered, fmt.Errorf("follow stream: %w", err)
			}
			t.next <- struct{}{}
			ripe.Reset(t.ripeness())
			slow.Reset(patience)
		case <-s.served.news:
			t.served()
			ripe.Reset(t.ripeness())
		case <-ripe.C:
			if t.blind() {
				ripe.Reset(patience)
				continue
			}
			s.published()
			done()
			t.taken, t.missing = time.Time{}, make(map[string]names)
		}
	}
}

// blind tells whether nothing holds yet and the listeners were not told: what would hold
// then would look like a view in which nothing is steered.
func (t *stream) blind() bool {
	return t.source.Snapshot().Generation == 0 && t.missing[xds.TypeListener][all]
}

// ended publishes what came whole before the stream ended, and says why it did.
func (t *stream) ended(ctx context.Context, err error) error {
	if t.answered && len(t.missing) == 0 {
		t.source.published()
	} else if !t.taken.IsZero() {
		t.source.served.half = true
	}
	switch {
	case errors.Is(err, io.EOF):
		return errEnded
	case ctx.Err() != nil:
		return context.Cause(ctx) //nolint:wrapcheck // follow wraps it
	}
	return err
}

// receive receives until the stream ends. What comes next is not received before what came
// last is taken: two pushes in memory would be twice as much.
func (t *stream) receive(ctx context.Context, responses chan<- *push, failed chan<- error) {
	for {
		r := new(push)
		if err := t.wire.RecvMsg(r); err != nil {
			failed <- err
			return
		}
		select {
		case responses <- r:
		case <-ctx.Done():
			r.close()
			return
		}
		select {
		case <-t.next:
		case <-ctx.Done():
			return
		}
	}
}

// begin asks for everything, and tells what is held already: what of it is gone is told
// only then.
func (t *stream) begin() {
	for _, typ := range []string{xds.TypeCluster, xds.TypeListener} {
		held := t.source.Versions(typ)
		t.asked[typ] = []string{all}
		if len(held) == 0 {
			t.miss(typ, all)
		}
		t.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ, InitialResourceVersions: held})
	}
	t.follow(xds.TypeEndpoint)
	t.follow(xds.TypeRoute)
	t.expect()
}

// send sends a request. If that fails the stream has ended, and Recv says why.
func (t *stream) send(r *discoveryv3.DeltaDiscoveryRequest) {
	if !t.said {
		r.Node, t.said = t.node, true
	}
	_ = t.wire.Send(r)
}

// follow asks for the names of a type that are referred to now and no more for others.
func (t *stream) follow(typ string) {
	wanted := t.source.Wanted(typ)
	asked, before := t.asked[typ]
	if before && slices.Equal(asked, wanted) {
		return
	}
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ}
	held := t.source.Versions(typ)
	for _, name := range wanted {
		if has(asked, name) {
			continue
		}
		r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, name)
		if _, isHeld := held[name]; !isHeld {
			t.miss(typ, name)
		}
	}
	for _, name := range asked {
		if !has(wanted, name) {
			r.ResourceNamesUnsubscribe = append(r.ResourceNamesUnsubscribe, name)
			t.found(typ, name)
		}
	}
	var gone []string
	for name := range held {
		if !has(wanted, name) {
			gone = append(gone, name)
			delete(held, name)
		}
	}
	if len(gone) > 0 {
		t.source.Take(xds.Update{Type: typ, Removed: gone})
	}
	if len(r.GetResourceNamesSubscribe())+len(r.GetResourceNamesUnsubscribe()) == 0 {
		return // a first request without names would ask for all
	}
	t.asked[typ] = wanted
	if !before {
		r.InitialResourceVersions = held
	}
	t.send(r)
}

// has tells whether a name is in a sorted list.
func has(sorted []string, name string) bool {
	_, found := slices.BinarySearch(sorted, name)
	return found
}

// take takes a response and acknowledges it, or refuses it for what is rejected of it: the
// rest holds nevertheless. An error is the end of the stream.
func (t *stream) take(r *push) error {
	defer r.close()
	// What it takes us to read thousands of resources is no time that the control plane let
	// pass.
	defer func(begun, since time.Time) {
		if t.since.Equal(since) {
			t.since = since.Add(time.Since(begun))
		}
	}(time.Now(), t.since)
	typ := r.GetTypeUrl()
	asked, ok := t.asked[typ]
	if !ok {
		t.source.opts.Logger.Warn("the control plane sends what was not asked for", "type", typ)
		return nil
	}
	t.answered = true
	if t.taken.IsZero() {
		t.taken = time.Now()
	}
	whole, over := has(asked, all), []string(nil)
	rejected := t.source.Take(xds.Update{Type: typ, Removed: r.GetRemovedResources(), Each: func(yield func(xds.Resource) bool) {
		for one := range r.resources() {
			t.found(typ, one.GetName())
			switch sent := resource(one); {
			case surplus(typ, sent):
				over = append(over, sent.Name)
			case whole, has(asked, sent.Name): // or it crossed the request that wants it no more
				if !yield(sent) {
					return
				}
			}
		}
	}})
	if r.err != nil {
		return r.err
	}
	if len(over) > 0 { // there may be a version that was none
		t.source.Take(xds.Update{Type: typ, Removed: over})
	}
	for _, name := range r.GetRemovedResources() {
		t.found(typ, name)
	}
	t.found(typ, all)
	t.source.updated(len(rejected) > 0)
	answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ, ResponseNonce: r.GetNonce()}
	if len(rejected) > 0 {
		answer.ErrorDetail = status.New(codes.InvalidArgument, reasons(rejected)).Proto()
	}
	t.send(answer)
	switch typ {
	case xds.TypeCluster:
		t.follow(xds.TypeEndpoint)
	case xds.TypeListener:
		t.follow(xds.TypeRoute)
		t.expect()
	}
	t.source.tables.Wake()
	return nil
}

// maxReasons bounds what is said of an update that is refused, in bytes: it goes into the
// control plane's log.
const maxReasons = 2 << 10

// reasons says why resources are rejected.
func reasons(rejected []xds.Rejection) string {
	var b strings.Builder
	for i := range rejected {
		r := &rejected[i]
		line := r.Kind + " " + r.Name + ": " + strings.TrimPrefix(r.Field+": "+r.Reason, ": ")
		if b.Len()+len(line) > maxReasons {
			fmt.Fprintf(&b, "\nand %d more", len(rejected)-i)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(line)
	}
	return strings.ToValidUTF8(b.String(), "?")
}

// miss notes that something is waited for.
func (t *stream) miss(typ, name string) {
	if len(t.missing) == 0 {
		t.since = time.Now()
	}
	if t.missing[typ] == nil {
		t.missing[typ] = make(names)
	}
	t.missing[typ][name] = true
}

// found notes that something is not waited for any more.
func (t *stream) found(typ, name string) {
	delete(t.missing[typ], name)
	if len(t.missing[typ]) == 0 {
		delete(t.missing, typ)
	}
}

// ripeness is how long to wait, from now, before what was taken may hold.
func (t *stream) ripeness() time.Duration {
	if len(t.missing) == 0 {
		return min(quiet, enough-time.Since(t.taken))
	}
	return max(quiet, patience-time.Since(t.since))
}
