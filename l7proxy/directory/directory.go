// Package directory says which address a host's name stands for in what a workload sees: as
// the listeners and the clusters of its configuration have it. It asks no resolver: what a
// name stands for in the pod's DNS may be something else.
package directory

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Found is what a name stands for.
type Found struct {
	Host        string           // its whole name
	Address     netip.AddrPort   // the first of Addresses
	Addresses   []netip.AddrPort // of what listeners are for, or of providers
	IsProviders bool             // no listener is for the host: these are its providers' own addresses
}

// String says it in a sentence.
func (f *Found) String() string {
	said := "stands for " + f.Address.String()
	if f.IsProviders {
		said = "has no listener of its own: one of its providers, " + f.Address.String()
	}
	if n := len(f.Addresses) - 1; n > 0 {
		said += fmt.Sprintf(", the first of %d addresses", n+1)
	}
	return said
}

// Find finds HOST or HOST:PORT. A name in a Kubernetes cluster may be short, as a pod of the
// namespace writes it: "provider", "provider.shop". An error says what to write in its place.
func Find(s *snapshot.Snapshot, name, namespace string) (*Found, error) {
	host, port, err := split(name)
	if err != nil {
		return nil, err
	}
	d := read(s)
	whole, err := d.whole(host, namespace)
	if err != nil {
		return nil, err
	}
	found := d.dialled[whole]
	f := &Found{Host: whole}
	if len(found) == 0 {
		found, f.IsProviders = d.providers[whole], true
	}
	ports := make(map[uint16]bool)
	for _, one := range found {
		ports[one.port] = true
		if (port == 0 || one.port == port) && !slices.Contains(f.Addresses, one.address) {
			f.Addresses = append(f.Addresses, one.address)
		}
	}
	switch {
	case port == 0 && len(ports) > 1:
		first := slices.Min(slices.Collect(maps.Keys(ports)))
		return nil, fmt.Errorf("%s has the ports %s: say which, such as %s:%d", whole, join(ports), whole, first)
	case len(f.Addresses) == 0 && len(ports) > 0:
		return nil, fmt.Errorf("%s has no port %d; it has %s", whole, port, join(ports))
	case len(f.Addresses) == 0:
		return nil, fmt.Errorf("%s is known, but no listener and no provider of it has an address: say one", whole)
	}
	slices.SortFunc(f.Addresses, func(a, b netip.AddrPort) int {
		return cmp.Or(cmp.Compare(a.Addr().BitLen(), b.Addr().BitLen()), a.Compare(b))
	})
	f.Address = f.Addresses[0]
	return f, nil
}

// split reads HOST or HOST:PORT; port 0 means that none was said.
func split(name string) (host string, port uint16, err error) {
	if _, err := netip.ParseAddr(name); err == nil {
		return "", 0, fmt.Errorf("read %q: an address needs its port", name)
	}
	host = name
	if strings.Contains(name, ":") {
		var said string
		if host, said, err = net.SplitHostPort(name); err != nil {
			return "", 0, fmt.Errorf("read %q: it is not HOST:PORT", name)
		}
		number, err := strconv.ParseUint(said, 10, 16)
		if err != nil || number == 0 {
			return "", 0, fmt.Errorf("read %q: %q is no port", name, said)
		}
		port = uint16(number)
	}
	if host = strings.ToLower(strings.TrimSuffix(host, ".")); host == "" {
		return "", 0, fmt.Errorf("read %q: it names no host", name)
	}
	return host, port, nil
}

// place is an address, and the port of the service that it belongs to.
type place struct {
	address netip.AddrPort
	port    uint16
}

// directory is what hosts have, by their whole names.
type directory struct {
	dialled, providers map[string][]place
}

// read reads what the snapshot's listeners and clusters say.
func read(s *snapshot.Snapshot) *directory {
	d := &directory{dialled: make(map[string][]place), providers: make(map[string][]place)}
	for _, l := range s.Listeners {
		d.listener(l)
	}
	for name, c := range s.Clusters {
		host, port := ofCluster(name)
		if host == "" {
			host = strings.ToLower(c.Service.Host)
		}
		d.providers[host] = append(d.providers[host], ofEndpoints(c, port)...)
	}
	return d
}

// listener notes which hosts a listener is for: those that its route configuration is called
// after, else whose cluster gets what is opaque; at any address, those of its domains.
func (d *directory) listener(l *snapshot.Listener) {
	host, port := ofRoute(l.RouteName)
	if host == "" && l.Prefix.IsSingleIP() && len(l.TCP) > 0 {
		host, port = ofCluster(l.TCP[0].Cluster)
	}
	if l.Prefix.IsSingleIP() {
		if host != "" && (l.Port != 0 || port != 0) {
			at := netip.AddrPortFrom(l.Prefix.Addr(), cmp.Or(l.Port, port))
			d.dialled[host] = append(d.dialled[host], place{at, at.Port()})
		}
		return
	}
	if l.Route == nil || l.Port == 0 {
		return
	}
	for _, vh := range l.Route.VirtualHosts { // names and addresses of one service are one virtual host's
		var names []string
		var addresses []place
		for _, domain := range vh.Domains {
			bare := strings.TrimSuffix(domain, fmt.Sprintf(":%d", l.Port))
			if ip, err := netip.ParseAddr(strings.Trim(bare, "[]")); err == nil {
				addresses = append(addresses, place{netip.AddrPortFrom(ip, l.Port), l.Port})
			} else if !strings.Contains(bare, "*") {
				names = append(names, bare)
			}
		}
		for _, name := range names {
			if strings.Contains(name, ".") {
				d.dialled[name] = append(d.dialled[name], addresses...)
			}
		}
	}
}

// ofRoute reads the name of a route configuration: HOST:PORT of istiod, HOST_PORT of Aeraki.
func ofRoute(name string) (host string, port uint16) {
	at := strings.LastIndexAny(name, ":_")
	if at <= 0 {
		return "", 0
	}
	number, err := strconv.ParseUint(name[at+1:], 10, 16)
	if err != nil {
		return "", 0
	}
	return strings.ToLower(name[:at]), uint16(number)
}

// ofCluster reads the name of a cluster of a control plane: outbound|PORT|SUBSET|HOST.
func ofCluster(name string) (host string, port uint16) {
	parts := strings.Split(name, "|")
	if len(parts) != 4 || parts[0] != "outbound" {
		return "", 0
	}
	number, err := strconv.ParseUint(parts[1], 10, 16)
	if err != nil {
		return "", 0
	}
	return strings.ToLower(parts[3]), uint16(number)
}

// ofEndpoints lists the providers of a cluster; port is its service's, 0 if it says none.
func ofEndpoints(c *snapshot.Cluster, port uint16) []place {
	list := []place{}
	for _, l := range c.Localities {
		for _, e := range l.Endpoints {
			if e.Address.IsValid() {
				list = append(list, place{e.Address, cmp.Or(port, e.Address.Port())})
			}
		}
	}
	return list
}

// whole finds the whole name of a host.
func (d *directory) whole(host, namespace string) (string, error) {
	if d.has(host) {
		return host, nil
	}
	longer := make(map[string]bool)
	for _, known := range []map[string][]place{d.dialled, d.providers} {
		for name := range known {
			if strings.HasPrefix(name, host+".") && strings.Contains(name, ".svc.") {
				longer[name] = true
			}
		}
	}
	all := slices.Sorted(maps.Keys(longer))
	own := slices.DeleteFunc(slices.Clone(all), func(name string) bool {
		return namespace == "" || !strings.HasPrefix(name, host+"."+namespace+".svc.")
	})
	switch {
	case len(own) == 1:
		return own[0], nil
	case len(all) == 1 && (namespace == "" || strings.Contains(host, ".")):
		return all[0], nil
	case len(all) > 0:
		return "", fmt.Errorf("%q is short for none of this namespace: say the whole name, one of %s", host, strings.Join(few(all), ", "))
	}
	return "", fmt.Errorf("what the workload sees has no host %q: say an address, or a name that dubwayctl clusters lists", host)
}

func (d *directory) has(host string) bool {
	_, dialled := d.dialled[host]
	_, providers := d.providers[host]
	return dialled || providers
}

// few bounds a list that is said in an error.
func few(names []string) []string {
	const most = 5
	if len(names) <= most {
		return names
	}
	return append(names[:most:most], fmt.Sprintf("and %d more", len(names)-most))
}

func join(ports map[uint16]bool) string {
	var list []string
	for _, p := range slices.Sorted(maps.Keys(ports)) {
		list = append(list, strconv.Itoa(int(p)))
	}
	return strings.Join(list, ", ")
}
