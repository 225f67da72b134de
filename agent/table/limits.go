package table

import (
	"fmt"
	"net/netip"

	"github.com/dubway/dubway/agent/datapath"
)

// What a proxy may fill: more than a node's pods need, less than would exhaust the
// node. Twice as much can be there while one proxy takes over from another.
const (
	maxEntries   = 1 << 18 // of all tables; an entry takes some 150 bytes of the kernel's memory
	maxWorkloads = 2 * 4096
)

// neverSteered are ranges that no rule steers: a call to one of them is the
// pod's own business. A wider range around them is allowed; the programs leave
// loopback alone whatever the range says.
var neverSteered = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

// checkDestinations refuses destinations that lie within what is never steered.
func checkDestinations(all []datapath.Destination) error {
	for _, d := range all {
		for _, n := range neverSteered {
			if n.Bits() <= d.Prefix.Bits() && n.Contains(d.Prefix.Addr()) {
				return fmt.Errorf("check destination %s port %d: %s is never steered", d.Prefix, d.Port, n)
			}
		}
	}
	return nil
}

// check refuses a generation that may not be in force, or is too much beside the
// other tables. Half of what the proxy asked for would be something that nobody
// asked for.
func (t *Tables) check(slot uint32, g *Generation) error {
	if err := checkDestinations(g.Destinations); err != nil {
		return err
	}
	ours, all := len(g.Destinations), len(g.Destinations)
	earlier := make(map[uint32]bool)
	for _, s := range t.earlier() {
		earlier[s] = true
	}
	for s, table := range t.tables {
		if s == slot {
			continue
		}
		all += table.Entries
		if !earlier[s] {
			ours += table.Entries
		}
	}
	// Table 0 ends what earlier proxies left: whatever that is, it has to get in.
	if ours > maxEntries || slot != 0 && all > 2*maxEntries {
		return fmt.Errorf("check table %d: %d entries in all tables, %d with those of earlier proxies; %d are allowed",
			g.Number, ours, all, maxEntries)
	}
	workloads := len(t.of)
	for _, uid := range g.Workloads {
		if _, ok := t.of[uid]; !ok {
			workloads++
		}
	}
	if workloads > maxWorkloads {
		return fmt.Errorf("check table %d: %d workloads in all tables, %d are allowed", g.Number, workloads, maxWorkloads)
	}
	return nil
}
