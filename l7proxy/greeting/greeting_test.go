package greeting_test

import (
	"sync/atomic"
	"testing"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/seam"
	"github.com/dubway/dubway/l7proxy/greeting"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock/socktest"
)

// TestFirstAtTheEnd: a connection whose proxy ends before its first bytes were looked at is not
// closed in front of them.
func TestFirstAtTheEnd(t *testing.T) {
	for _, said := range []bool{true, false} {
		conn, far := socktest.Pair(t)
		stopping := new(atomic.Bool)
		stopping.Store(true)
		if said {
			if _, err := far.Write([]byte{0xda, 0xbb, 0xc2, 0}); err != nil {
				t.Fatal(err)
			}
		}
		conn.Interrupt()
		g := greeting.Greeting{Known: codec.Set{seam.Protocol()}, Conn: conn, Stopping: stopping}
		want := rpc.ProtocolUnknown
		if said {
			want = rpc.ProtocolDubbo
		}
		if got, app := g.First(); got != want || app != nil {
			t.Errorf("its consumer has said something: %t; the protocol is %q", said, got)
		}
	}
}
