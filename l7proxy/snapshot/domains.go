package snapshot

import (
	"cmp"
	"slices"
	"strings"
	"sync"
)

// domains finds virtual hosts by name. It is made when first asked: a table of
// a thousand services costs nothing in proxies that route by address.
type domains struct {
	once  sync.Once
	exact map[string]*VirtualHost
	// suffixes ("*.shop") and prefixes ("com.x.*") hold the part beside the
	// star, longest first.
	suffixes, prefixes []wildcard
	any                *VirtualHost
}

type wildcard struct {
	part string
	host *VirtualHost
}

// VirtualHost returns the virtual host of the best domain for any of names, and
// nil if there is none. As in Envoy an exact domain goes before the longest
// suffix, that before the longest prefix, and "*" is last; among exact domains
// that of the earlier name goes first. Names are compared without regard to
// the case of ASCII letters; empty ones are skipped. It allocates only when
// first called, or for a name with capitals that is longer than 128 bytes.
func (rc *RouteConfig) VirtualHost(names ...string) *VirtualHost {
	d := &rc.domains
	d.once.Do(func() { d.build(rc.VirtualHosts) })
	if len(d.exact) > 0 {
		for _, name := range names {
			if vh := d.lookup(name); vh != nil {
				return vh
			}
		}
	}
	for _, w := range d.suffixes {
		for _, name := range names {
			if len(name) > len(w.part) && equalFold(name[len(name)-len(w.part):], w.part) {
				return w.host
			}
		}
	}
	for _, w := range d.prefixes {
		for _, name := range names {
			if len(name) > len(w.part) && equalFold(name[:len(w.part)], w.part) {
				return w.host
			}
		}
	}
	return d.any
}

// hasDomain tells whether one of names is an exact domain.
func (rc *RouteConfig) hasDomain(names ...string) bool {
	d := &rc.domains
	d.once.Do(func() { d.build(rc.VirtualHosts) })
	for _, name := range names {
		if d.lookup(name) != nil {
			return true
		}
	}
	return false
}

func (d *domains) build(hosts []*VirtualHost) {
	d.exact = make(map[string]*VirtualHost)
	for _, vh := range hosts {
		for _, domain := range vh.Domains {
			d.add(strings.ToLower(domain), vh)
		}
	}
	longest := func(a, b wildcard) int { return cmp.Compare(len(b.part), len(a.part)) }
	slices.SortStableFunc(d.suffixes, longest)
	slices.SortStableFunc(d.prefixes, longest)
}

// add keeps the first host of a domain; package xds rejects a second one.
func (d *domains) add(domain string, vh *VirtualHost) {
	switch {
	case domain == "*":
		if d.any == nil {
			d.any = vh
		}
	case strings.HasPrefix(domain, "*"):
		d.suffixes = append(d.suffixes, wildcard{domain[1:], vh})
	case strings.HasSuffix(domain, "*"):
		d.prefixes = append(d.prefixes, wildcard{domain[:len(domain)-1], vh})
	case d.exact[domain] == nil:
		d.exact[domain] = vh
	}
}

// lookup finds an exact domain.
func (d *domains) lookup(name string) *VirtualHost {
	if name == "" {
		return nil
	}
	var stack [128]byte
	lower := append(stack[:0], name...)
	for i, c := range lower {
		lower[i] = lowerASCII(c)
	}
	return d.exact[string(lower)]
}

// equalFold compares a with a lower-case b of the same length.
func equalFold(a, b string) bool {
	for i := range len(a) {
		if lowerASCII(a[i]) != b[i] {
			return false
		}
	}
	return true
}

func lowerASCII(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
