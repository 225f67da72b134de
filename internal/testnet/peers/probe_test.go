package peers

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet/meshtest"
	probing "github.com/dubway/dubway/l7proxy/probe"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// dials connects in whatever namespace its caller is.
type dials struct{}

func (dials) Dial(ctx context.Context, key upstream.Key, _ netip.AddrPort) (upstream.Way, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", key.Endpoint.String())
	if err != nil {
		return upstream.Way{}, err
	}
	return upstream.Way{TCP: c.(*net.TCPConn)}, nil
}

// TestProbes: what health checks ask, real providers answer: a heartbeat, and $echo of
// a service that they export, in its group and version, and of no other.
func TestProbes(t *testing.T) {
	m := meshtest.New(t, "pe", 1, 10*time.Minute)
	service := probe // the interface that all peers export
	echo := func(iface, version, group string) snapshot.Probe {
		return snapshot.Probe{Kind: snapshot.ProbeEcho, Interface: iface, Version: version, Group: group}
	}
	probes := []struct {
		name  string
		probe snapshot.Probe
		fails bool
	}{
		{"tcp", snapshot.Probe{}, false},
		{"heartbeat", snapshot.Probe{Kind: snapshot.ProbeHeartbeat}, false},
		{"echo", echo(service, "", ""), false},
		{"echo of a group", echo(service, "1.2.0", "blue"), false},
		{"echo of no such version", echo(service, "9.9.9", "blue"), true},
		{"echo of no such service", echo("org.dubway.test.Nobody", "", ""), true},
	}
	kinds := map[string]kind{"provider-33": java33, "provider-32": java32, "provider-26": java26, "provider-go": dubboGo}
	for name, k := range kinds {
		p := m.Pod(name, port)
		_, ready := provide(m, p, k)
		ready()
		t.Run(string(k), func(t *testing.T) {
			for _, one := range probes {
				err := p.Do(func() error {
					// It listens before it exports.
					var err error
					for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
						ctx, cancel := context.WithTimeout(m.Ctx, 20*time.Second)
						err = probing.New(dials{}).Probe(ctx, "w", netip.MustParseAddrPort(fmt.Sprint("127.0.0.1:", port)), &one.probe)
						cancel()
						if (err != nil) == one.fails {
							return err
						}
					}
					return err
				})
				if (err != nil) != one.fails {
					t.Errorf("%s: %v", one.name, err)
				} else if err != nil && !strings.Contains(err.Error(), "the provider") {
					t.Errorf("%s: %v, want an answer that says no", one.name, err)
				}
			}
		})
	}
}
