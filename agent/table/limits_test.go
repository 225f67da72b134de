package table

import (
	"net/netip"
	"testing"

	"github.com/dubway/dubway/agent/datapath"
)

func TestCheckDestinations(t *testing.T) {
	for text, ok := range map[string]bool{
		"10.0.0.0/8": true, "10.0.0.1/32": true, "fd00::/8": true, "0.0.0.0/0": true, "::/0": true,
		"127.0.0.0/8": false, "127.0.0.1/32": false, "::1/128": false, "169.254.169.254/32": false,
		"169.254.0.0/16": false, "fe80::/64": false, "224.0.0.0/24": false, "255.255.255.255/32": false,
		"ff02::1/128": false, "0.0.0.0/8": false,
	} {
		good := datapath.Destination{Prefix: netip.MustParsePrefix("10.0.0.9/32")}
		err := checkDestinations([]datapath.Destination{good, {Prefix: netip.MustParsePrefix(text), Port: 80}})
		if (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
