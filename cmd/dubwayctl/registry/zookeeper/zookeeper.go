// Package zookeeper reads the providers that are registered in a ZooKeeper, as Dubbo Java
// and dubbo-go write them:
//
//	/ROOT/INTERFACE/providers/URL   one node for each provider of an interface, its name an
//	                                encoded URL; ROOT is the group, dubbo unless told otherwise
//	/ROOT/mapping/INTERFACE         the applications that serve it, separated by commas
//	/services/APPLICATION/HOST:PORT one node for each instance of an application (Dubbo 3)
package zookeeper

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/dubway/dubway/cmd/dubwayctl/registry"
)

const (
	defaultPort = "2181"
	defaultRoot = "dubbo"
	// instances is where Dubbo registers applications, whatever the root of interfaces.
	instances = "/services"
	// session is how long ZooKeeper keeps a client that is away: nothing depends on it.
	session = 10 * time.Second
)

// Read reads what is registered at zookeeper://[USER:PASSWORD@]HOST:PORT[,...][?root=ROOT&backup=...].
func Read(ctx context.Context, at *url.URL) ([]registry.Provider, error) {
	servers := strings.Split(at.Host, ",")
	if more := at.Query().Get("backup"); more != "" {
		servers = append(servers, strings.Split(more, ",")...)
	}
	for i, s := range servers {
		if _, _, err := net.SplitHostPort(s); err != nil {
			servers[i] = net.JoinHostPort(strings.Trim(s, "[]"), defaultPort)
		}
	}
	c, err := connect(ctx, servers)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	// A call has no context of its own: it ends with the connection.
	stop := context.AfterFunc(ctx, c.Close)
	defer stop()
	if password, set := at.User.Password(); set {
		if err := c.AddAuth("digest", []byte(at.User.Username()+":"+password)); err != nil {
			return nil, fmt.Errorf("say who asks: %w", err)
		}
	}
	r := &reader{zk: c, root: "/" + strings.Trim(cmp.Or(at.Query().Get("root"), at.Query().Get("group"), defaultRoot), "/")}
	all, err := r.all()
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("read ZooKeeper: %w", ctx.Err())
	}
	return all, err
}

// connect waits until one of the servers answers.
func connect(ctx context.Context, servers []string) (*zk.Conn, error) {
	c, events, err := zk.Connect(servers, session, zk.WithLogger(silent{}))
	if err != nil {
		return nil, fmt.Errorf("connect to ZooKeeper: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			c.Close()
			return nil, fmt.Errorf("connect to ZooKeeper at %s: nobody answers: "+
				"is it reachable from here, perhaps by kubectl port-forward? %w", strings.Join(servers, ","), ctx.Err())
		case e := <-events:
			if e.State == zk.StateHasSession {
				return c, nil
			}
		}
	}
}

// silent takes what the client has to say of its attempts: what comes of them is told by
// whoever waits.
type silent struct{}

var _ zk.Logger = silent{}

// Printf writes nothing.
func (silent) Printf(string, ...any) {}

// reader reads one ZooKeeper.
type reader struct {
	zk   *zk.Conn
	root string
}

// all reads both ways in which a provider may be registered. A ZooKeeper without any of
// them is not the one that was meant.
func (r *reader) all() ([]registry.Provider, error) {
	byInterface, found, err := r.interfaces()
	if err != nil {
		return nil, err
	}
	byApplication, more, err := r.applications()
	if err != nil {
		return nil, err
	}
	if !found && !more {
		return nil, fmt.Errorf("neither %s nor %s is there: name the group of the registry with ?root=", r.root, instances)
	}
	return registry.Merge(append(byInterface, byApplication...)), nil
}

// children lists what is below a path; false if there is no such path.
func (r *reader) children(path string) ([]string, bool, error) {
	names, _, err := r.zk.Children(path)
	if errors.Is(err, zk.ErrNoNode) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("list %s: %w", path, err)
	}
	return names, true, nil
}

// content reads a node, which may have gone since it was listed.
func (r *reader) content(path string) (string, error) {
	text, _, err := r.zk.Get(path)
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return string(text), nil
}

// interfaces reads the providers of each interface.
func (r *reader) interfaces() (all []registry.Provider, found bool, err error) {
	names, found, err := r.children(r.root)
	if err != nil || !found {
		return nil, found, err
	}
	for _, name := range names {
		urls, _, err := r.children(r.root + "/" + name + "/providers")
		if err != nil {
			return nil, true, err
		}
		for _, text := range urls {
			if p, ok := provider(text, name); ok {
				all = append(all, p)
			}
		}
	}
	return all, true, nil
}

// provider reads the URL of a provider, as the name of a node.
func provider(encoded, iface string) (registry.Provider, bool) {
	text, err := url.PathUnescape(encoded)
	if err != nil {
		return registry.Provider{}, false
	}
	u, err := url.Parse(text)
	if err != nil || !registry.Speaks(u.Scheme) {
		return registry.Provider{}, false
	}
	port, err := strconv.Atoi(u.Port())
	return registry.Provider{
		Host: u.Hostname(), Port: port, Application: u.Query().Get("application"), Interfaces: []string{iface},
	}, err == nil
}

// applications reads the instances of each application, with the interfaces that are mapped
// to it.
func (r *reader) applications() (all []registry.Provider, found bool, err error) {
	names, found, err := r.children(instances)
	if err != nil || !found {
		return nil, found, err
	}
	mapped, err := r.mapping()
	if err != nil {
		return nil, true, err
	}
	for _, name := range names {
		ids, _, err := r.children(instances + "/" + name)
		if err != nil {
			return nil, true, err
		}
		for _, id := range ids {
			text, err := r.content(instances + "/" + name + "/" + id)
			if err != nil {
				return nil, true, err
			}
			all = append(all, instance(text, name, mapped[name])...)
		}
	}
	return all, true, nil
}

// mapping reads which interfaces an application serves.
func (r *reader) mapping() (map[string][]string, error) {
	path := r.root + "/mapping"
	names, _, err := r.children(path)
	if err != nil {
		return nil, err
	}
	mapped := map[string][]string{}
	for _, name := range names {
		text, err := r.content(path + "/" + name)
		if err != nil {
			return nil, err
		}
		for app := range strings.SplitSeq(text, ",") {
			if app = strings.TrimSpace(app); app != "" {
				mapped[app] = append(mapped[app], name)
			}
		}
	}
	return mapped, nil
}

// instance reads the document of an application's instance, which Curator writes.
func instance(text, app string, interfaces []string) (all []registry.Provider) {
	var document struct {
		Address string `json:"address"`
		Port    int    `json:"port"`
		Payload struct {
			Metadata map[string]string `json:"metadata"`
		} `json:"payload"`
	}
	if json.Unmarshal([]byte(text), &document) != nil || document.Address == "" {
		return nil
	}
	ports := []int{document.Port}
	if told := document.Payload.Metadata["dubbo.endpoints"]; told != "" {
		ports = registry.Endpoints(told)
	}
	for _, port := range ports {
		all = append(all, registry.Provider{Host: document.Address, Port: port, Application: app, Interfaces: interfaces})
	}
	return all
}
