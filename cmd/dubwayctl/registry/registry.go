// Package registry is what Dubbo's registries say of providers, whichever registry it is:
// package zookeeper and package nacos read theirs. It only reads; it registers nothing and
// watches nothing.
package registry

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"slices"
)

// Provider is one address at which something is served.
type Provider struct {
	// Host is the address as it is registered: an IP address, or a name.
	Host string
	Port int
	// Application is Dubbo's name of it; "" if it is not told.
	Application string
	// Interfaces are what it serves, as far as the registry tells: interfaces that it
	// registers one by one, and those that the registry maps to its application.
	Interfaces []string
}

// Address is the registered address, if it is one; never v4-mapped.
func (p *Provider) Address() (netip.Addr, bool) {
	a, err := netip.ParseAddr(p.Host)
	return a.Unmap(), err == nil
}

// Protocols are those of which a registered address is worth a Service; there are also
// addresses of REST, of RMI, and of calls within a process.
var protocols = []string{"dubbo", "tri", "dubbo2"}

// Speaks tells whether a protocol is one of Dubbo's that a mesh can carry.
func Speaks(protocol string) bool { return slices.Contains(protocols, protocol) }

// Endpoints reads the metadata dubbo.endpoints of an application's instance: the ports of
// Dubbo's protocols; nil if it names none.
func Endpoints(text string) []int {
	var all []struct {
		Port     int    `json:"port"`
		Protocol string `json:"protocol"`
	}
	if json.Unmarshal([]byte(text), &all) != nil {
		return nil
	}
	var ports []int
	for _, e := range all {
		if Speaks(e.Protocol) {
			ports = append(ports, e.Port)
		}
	}
	return ports
}

// Merge joins what is told of one address in several places, in order.
func Merge(all []Provider) []Provider {
	type key struct {
		host string
		port int
	}
	at := map[key]*Provider{}
	var order []key
	for _, p := range all {
		k := key{p.Host, p.Port}
		if at[k] == nil {
			at[k] = &Provider{Host: p.Host, Port: p.Port}
			order = append(order, k)
		}
		m := at[k]
		m.Application = cmp.Or(m.Application, p.Application)
		m.Interfaces = append(m.Interfaces, p.Interfaces...)
	}
	slices.SortFunc(order, func(a, b key) int { return cmp.Or(cmp.Compare(a.host, b.host), cmp.Compare(a.port, b.port)) })
	merged := make([]Provider, 0, len(order))
	for _, k := range order {
		slices.Sort(at[k].Interfaces)
		at[k].Interfaces = slices.Compact(at[k].Interfaces)
		merged = append(merged, *at[k])
	}
	return merged
}
