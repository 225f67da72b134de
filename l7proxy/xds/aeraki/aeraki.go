// Package aeraki asks Aeraki's server for the tables of routes that listeners with its
// MetaProtocolProxy name, and that the control plane does not have: by Envoy's
// RouteDiscoveryService, whole responses at a time, since its server prepares tables only
// for who asks so. What the tables mean is package xds' business; who is asked for
// everything else is package ads'.
//
// While a server is away, the tables that it told last hold.
package aeraki

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"

	"github.com/dubway/dubway/l7proxy/pause"
	"github.com/dubway/dubway/l7proxy/xds"
)

// How soon a stream that ended is begun again: at first, and at most.
const (
	soonest = 100 * time.Millisecond
	latest  = 5 * time.Second
)

// Store says which tables are wanted, and takes them.
type Store interface {
	// Served returns the names of wanted tables by the cluster whose server has them, sorted.
	Served() map[string][]string
	// Address is where that server is: HOST:PORT; "" if that is not known.
	Address(cluster string) string
	// Take takes an update and returns what of it is rejected.
	Take(u xds.Update) []xds.Rejection
	// Versions are those of the tables that are held, by their names.
	Versions(typ string) map[string]string
}

var _ Store = (*xds.Store)(nil)

// Options say who asks, and how.
type Options struct {
	Store Store
	// Default is where a server is whose cluster is not told, as Envoys know it from their
	// bootstrap: HOST:PORT.
	Default string
	Node    func() *corev3.Node
	// Dial makes a connection to HOST:PORT. It need not wait for it.
	Dial func(ctx context.Context, address string) (*grpc.ClientConn, error)
	// News is called when tables were taken, and when a server was lost.
	News   func()
	Logger *slog.Logger
}

// State is how things are with one server.
type State struct {
	Cluster   string
	Address   string // "" if nobody says where it is
	Connected bool   // it has answered on the stream that is open
	Since     time.Time
	Reason    string // why it is not connected; "" if it has not been tried yet
	Wanted    int    // tables
	Missing   int    // of those, what was never told
	Refused   string // why tables of the last response are rejected; "" if none is
}

// Client asks all servers that listeners name. Its methods are safe for concurrent use.
type Client struct {
	opts Options
	wake chan struct{}

	mu      sync.Mutex
	servers map[string]*server // by cluster
}

// server is one server that is asked.
type server struct {
	client  *Client
	cluster string
	stop    context.CancelFunc
	wake    chan struct{} // names may have changed
	state   State
}

// New returns a Client that has asked nobody yet.
func New(opts Options) *Client {
	return &Client{opts: opts, wake: make(chan struct{}, 1), servers: make(map[string]*server)}
}

// Wake says that what is wanted may have changed. It costs nothing while it has not.
func (c *Client) Wake() { poke(c.wake) }

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Run asks until ctx ends, whoever is named.
func (c *Client) Run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		c.settle(ctx, &all)
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
	}
}

// settle begins with servers that are new, leaves those that nobody names any more, and
// forgets their tables.
func (c *Client) settle(ctx context.Context, all *sync.WaitGroup) {
	c.mu.Lock()
	wanted := c.opts.Store.Served()
	for cluster, s := range c.servers {
		if len(wanted[cluster]) == 0 {
			s.stop()
			delete(c.servers, cluster)
			continue
		}
		poke(s.wake)
	}
	for _, cluster := range slices.Sorted(maps.Keys(wanted)) {
		if c.servers[cluster] == nil {
			own, stop := context.WithCancel(ctx)
			s := &server{client: c, cluster: cluster, stop: stop, wake: make(chan struct{}, 1)}
			s.state = State{Cluster: cluster, Since: time.Now()}
			c.servers[cluster] = s
			all.Go(func() { s.run(own) })
		}
	}
	forgot := c.forget(wanted)
	c.mu.Unlock()
	if forgot {
		c.opts.News()
	}
}

// forget removes the tables that no listener names, and tells whether there were any. The
// caller locks: no stream takes one of them behind it.
func (c *Client) forget(wanted map[string][]string) bool {
	held := c.opts.Store.Versions(xds.TypeMetaRoute)
	for _, names := range wanted {
		for _, name := range names {
			delete(held, name)
		}
	}
	if len(held) > 0 {
		c.opts.Store.Take(xds.Update{Type: xds.TypeMetaRoute, Removed: slices.Sorted(maps.Keys(held))})
	}
	return len(held) > 0
}

// State tells how things are with each server, by clusters.
func (c *Client) State() []State {
	wanted, held := c.opts.Store.Served(), c.opts.Store.Versions(xds.TypeMetaRoute)
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]State, 0, len(c.servers))
	for _, cluster := range slices.Sorted(maps.Keys(c.servers)) {
		one := c.servers[cluster].state
		for _, name := range wanted[cluster] {
			one.Wanted++
			if _, ok := held[name]; !ok {
				one.Missing++
			}
		}
		list = append(list, one)
	}
	return list
}

var errNowhere = errors.New("the control plane does not say where it is: name it by --aeraki-server HOST:PORT")

// address is where the server is.
func (s *server) address() (string, error) {
	address := s.client.opts.Store.Address(s.cluster)
	if address == "" {
		address = s.client.opts.Default
	}
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	if s.state.Address = address; address == "" {
		return "", errNowhere
	}
	return address, nil
}

// run asks one server until ctx ends.
func (s *server) run(ctx context.Context) {
	for failures := 0; ; failures++ {
		answered, err := s.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if answered {
			failures = 0
		}
		s.lost(err)
		wait := time.After(pause.After(failures, soonest, latest))
		select {
		case <-ctx.Done():
			return
		case <-wait:
		}
	}
}

// lost notes that there is no stream. The log says so once for each reason.
func (s *server) lost(err error) {
	c := s.client
	c.mu.Lock()
	before := s.state
	if s.state.Reason = fmt.Sprint(err); before.Connected {
		s.state.Connected, s.state.Since = false, time.Now()
	}
	c.mu.Unlock()
	if before.Connected || before.Reason != fmt.Sprint(err) {
		c.opts.Logger.Warn("no server of Aeraki's tables; what it told last goes on",
			"cluster", s.cluster, "address", before.Address, "error", err)
	}
}

// answered notes that the server is there.
func (s *server) answered() {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	if !s.state.Connected {
		s.state.Connected, s.state.Since, s.state.Reason = true, time.Now(), ""
		s.client.opts.Logger.Info("the server of Aeraki's tables answers", "cluster", s.cluster, "address", s.state.Address)
	}
}
