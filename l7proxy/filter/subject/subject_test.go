package subject_test

import (
	"net/netip"
	"testing"

	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/rpc"
)

func TestConsumers(t *testing.T) {
	whole := &rpc.Peer{Namespace: "shop", ServiceAccount: "web", App: "front"}
	mapped, plain := netip.MustParseAddr("::ffff:198.18.1.10"), netip.MustParseAddr("198.18.1.10")
	for _, tt := range []struct {
		name          string
		peer          *rpc.Peer
		authenticated bool
		want          subject.Consumer
	}{
		{"a pod", whole, true, subject.Consumer{Principal: "spiffe://td/ns/shop/sa/web", Cluster: "front.shop", Address: plain, Remote: "198.18.1.10"}},
		{"a guess", whole, false, subject.Consumer{Cluster: "front.shop", Address: plain, Remote: "198.18.1.10"}},
		{"no service account", &rpc.Peer{Namespace: "shop", App: "front"}, true, subject.Consumer{Cluster: "front.shop", Address: plain, Remote: "198.18.1.10"}},
		{"no namespace", &rpc.Peer{ServiceAccount: "web", App: "front"}, true, subject.Consumer{Address: plain, Remote: "198.18.1.10"}},
		{"nobody", nil, true, subject.Consumer{Address: plain, Remote: "198.18.1.10"}},
	} {
		if got := subject.NewConsumer(tt.peer, mapped, "td", tt.authenticated); *got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, *got, tt.want)
		}
	}
}
