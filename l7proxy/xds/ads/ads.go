// Package ads is the client of a control plane: it asks istiod, or what speaks like it, for
// one pod's view of the mesh by delta xDS, and keeps the last good answer on disk. What
// the answers mean is package xds' business, which rejects what it does not implement.
// Which views there are is package views'.
//
// It speaks gRPC from the proxy's own network namespace: in plaintext with no proof of who
// it is, port 15010 of istiod, or over TLS with a certificate of the workload that it asks
// for, port 15012.
//
// Clusters and listeners are asked for as a whole, route configurations and endpoints by
// the names that those refer to. What an answer does not name stays; what is not asked for
// any more goes.
package ads

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"

	"github.com/dubway/dubway/l7proxy/pause"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds"
	"github.com/dubway/dubway/l7proxy/xds/aeraki"
	"github.com/dubway/dubway/l7proxy/xds/kept"
)

// How soon a stream that ended is begun again: at first, and at most. istiod ends streams
// of a certain age, and all that it has when it restarts: half of each wait is chance, so
// that nodes do not come back together.
const (
	soonest = 100 * time.Millisecond
	latest  = 5 * time.Second
)

// Options say whom to ask, and for what.
type Options struct {
	Server string // HOST:PORT
	Node   Node
	Owner  string // whose view it is, whichever pod it is asked for; "" for the node's
	Path   string // of the file with the last good configuration
	// Keeper keeps it; nil: one for the directory of Path alone.
	Keeper *kept.Keeper
	// Library has what this Source has in common with others; nil: with none.
	Library *xds.Library
	// Pace waits until a stream may be begun, or until the context ends. Nil: at once.
	Pace func(context.Context) error
	// Turns, if not nil, are those of the streams that get their first push one after another.
	Turns *Turns
	// Received, if not nil, is told of each push how many bytes it was.
	Received func(bytes int)
	Logger   *slog.Logger
	// Way, if not nil, says before each stream how to reach it. While it fails there is none.
	Way func() (Way, error)
	// Aeraki is where Aeraki's server is, HOST:PORT, unless the control plane tells of the
	// cluster that its listeners name; "" if that is not known.
	Aeraki string
}

// State is how things are with the control plane.
type State struct {
	Connected  bool // it has answered on the stream that is open
	Since      time.Time
	Reason     string    // why it is not connected; "" if it has not been tried yet
	Updated    time.Time // when the last update came; zero: none yet
	Updates    uint64    // that came, with and without news
	Refused    uint64    // updates that were refused, for a part of what they hold
	Reconnects uint64    // streams after the first that were answered
	Kept       bool      // what holds is from disk: no update has come since the start
	Servers    []aeraki.State
}

// Source publishes a snapshot for each change that a control plane tells of. Its methods
// are safe for concurrent use.
type Source struct {
	*xds.Store

	opts   Options
	owner  string        // of what is kept
	save   chan struct{} // one is as good as many
	tables *aeraki.Client
	served served // of tables, from other servers

	mu    sync.Mutex
	node  *corev3.Node
	end   context.CancelCauseFunc // of the stream that is open
	state State
	once  bool // answered before
}

// CheckServer tells whether a control plane can be at an address: HOST:PORT.
func CheckServer(address string) error {
	if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
		return fmt.Errorf("control plane %q is not HOST:PORT", address)
	}
	return nil
}

// New returns a Source that has asked for nothing yet.
func New(opts Options) (*Source, error) {
	if err := CheckServer(opts.Server); err != nil {
		return nil, err
	}
	node, err := opts.Node.message()
	if err != nil {
		return nil, err
	}
	if opts.Keeper == nil {
		opts.Keeper = kept.In(filepath.Dir(opts.Path))
	}
	library := opts.Library
	if library == nil {
		library = new(xds.Library)
	}
	s := &Source{
		Store: xds.NewStore(library, opts.Server, snapshot.Viewer, opts.Logger), opts: opts, node: node,
		owner: fmt.Sprintf("%s %s %s %s",
			opts.Server, cmp.Or(opts.Owner, opts.Node.ID+fmt.Sprint(opts.Node.Labels)), opts.Node.Cluster, opts.Node.Locality),
		save:   make(chan struct{}, 1),
		state:  State{Since: time.Now()},
		served: served{news: make(chan struct{}, 1), awaited: make(names)},
	}
	s.tables = s.askTables()
	return s, nil
}

// Reload publishes the last good configuration that was kept on disk, if there is one that
// can be read. Call it once, before Run: later there is nothing to read.
func (s *Source) Reload() {
	some, err := s.opts.Keeper.Load(filepath.Base(s.opts.Path), s.owner, func(u xds.Update) { s.Take(u) })
	if err != nil {
		s.opts.Logger.Warn("the kept configuration is not used; nothing holds until the control plane answers",
			"file", s.opts.Path, "error", err)
		return
	}
	if !some {
		s.opts.Logger.Info("no configuration was kept; nothing holds until the control plane answers", "file", s.opts.Path)
		return
	}
	s.Publish()
	s.mu.Lock()
	s.state.Kept = true
	s.mu.Unlock()
	s.opts.Logger.Info("the kept configuration holds until the control plane answers", "file", s.opts.Path)
}

// Run follows the control plane until ctx ends; it returns nil then. While there is none,
// what holds goes on.
func (s *Source) Run(ctx context.Context) error {
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		s.keep(ctx)
	}()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		s.tables.Run(ctx)
	}()
	defer func() {
		<-asked
		<-kept
		s.keepLast()
	}()
	for failures := 0; ; failures++ {
		if ctx.Err() != nil {
			return nil
		}
		answered, err := s.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errPosed) {
			s.lost(err)
			continue
		}
		if answered {
			failures = 0
		}
		s.lost(err)
		s.rest(ctx, pause.After(failures, soonest, latest))
	}
}

// errPosed ends a stream that is to be begun anew for another pod.
var errPosed = errors.New("the view is asked for another of its pods")

// Pose asks for the view of another pod, which is the same view, from now on: the one that
// it was asked for is about to go.
func (s *Source) Pose(n Node) error {
	node, err := n.message()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if proto.Equal(node, s.node) {
		return nil
	}
	s.node = node
	if s.end != nil {
		s.end(errPosed)
	}
	return nil
}

// begin makes the context of a stream, which Pose ends, and says for which node it is.
func (s *Source) begin(ctx context.Context) (context.Context, *corev3.Node) {
	ctx, end := context.WithCancelCause(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end = end
	return ctx, s.node
}

// Node is whom the view is asked for.
func (s *Source) Node() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.node.GetId()
}

// State tells how things are.
func (s *Source) State() State {
	servers := s.tables.State()
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.state
	state.Servers = servers
	return state
}

// lost notes that there is no stream. The log says so once for each reason.
func (s *Source) lost(err error) {
	reason := strings.ReplaceAll(err.Error(), "\n", " ")
	s.mu.Lock()
	before := s.state
	if s.state.Reason = reason; before.Connected {
		s.state.Connected, s.state.Since = false, time.Now()
	}
	s.mu.Unlock()
	switch {
	case before.Connected: // as every half an hour
		s.opts.Logger.Info("the control plane's stream ended; what holds goes on", "server", s.opts.Server, "reason", reason)
	case before.Reason != reason:
		s.opts.Logger.Warn("no control plane; what holds goes on", "server", s.opts.Server, "error", reason)
	}
}

// updated notes an update, and that the control plane is there.
func (s *Source) updated(refused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Updated = time.Now()
	s.state.Updates++
	s.state.Kept = false
	if refused {
		s.state.Refused++
	}
	if s.state.Connected {
		return
	}
	if s.once {
		s.state.Reconnects++
	}
	s.once, s.state.Connected, s.state.Since, s.state.Reason = true, true, s.state.Updated, ""
	s.opts.Logger.Info("the control plane answers", "server", s.opts.Server, "node", s.node.GetId())
}

// published makes what was taken hold, and has it kept.
func (s *Source) published() {
	s.Publish()
	s.served.half = false
	select {
	case s.save <- struct{}{}:
	default:
	}
}

// keepTime is how long at least lies between two writes of the kept configuration.
const keepTime = 2 * time.Second

// keep writes what holds to disk, now and then, until ctx ends.
func (s *Source) keep(ctx context.Context) {
	failed := false
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-s.save:
			err := s.write()
			if err != nil && !failed {
				s.opts.Logger.Error("the configuration is not kept: a restart without the control plane will have none",
					"file", s.opts.Path, "error", err)
			}
			if failed = err != nil; failed {
				select { // it is still to be done
				case s.save <- struct{}{}:
				default:
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(keepTime):
			}
		}
	}
}

// write has the Keeper keep what is good.
func (s *Source) write() error {
	return s.opts.Keeper.Save(filepath.Base(s.opts.Path), s.owner, s.Good())
}

// keepLast writes what is still to be written.
func (s *Source) keepLast() {
	select {
	case <-s.save:
		if err := s.write(); err != nil {
			s.opts.Logger.Error("the configuration is not kept", "file", s.opts.Path, "error", err)
		}
	default:
	}
}

var errEnded = errors.New("the control plane ended the stream")
