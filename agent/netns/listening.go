package netns

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Listening returns where TCP sockets of the namespace listen. The kernel lists those
// alone (sock_diag(7)): what a pod has of connections costs nothing.
func (n *Namespace) Listening() ([]netip.AddrPort, error) {
	var all []netip.AddrPort
	err := n.Do(func() error {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			ask := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
			ask.AddRawData(diagRequest(family))
			answers, err := ask.Execute(unix.NETLINK_INET_DIAG, 0)
			if err != nil {
				return fmt.Errorf("ask sock_diag: %w", err)
			}
			for _, a := range answers {
				if at, ok := diagAnswer(a); ok {
					all = append(all, at)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list listening sockets: %w", err)
	}
	return all, nil
}

// Sizes and offsets of struct inet_diag_req_v2 and inet_diag_msg (linux/inet_diag.h).
const (
	diagRequestSize = 56
	diagAnswerSize  = 72
	diagSourcePort  = 4
	diagSource      = 8
)

// diagRequest is a struct inet_diag_req_v2 for listening TCP sockets.
func diagRequest(family uint8) []byte {
	const listening = 1 << 10 // TCP_LISTEN
	b := make([]byte, diagRequestSize)
	b[0], b[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], listening)
	return b
}

// diagAnswer reads the local end of a struct inet_diag_msg.
func diagAnswer(b []byte) (netip.AddrPort, bool) {
	if len(b) < diagAnswerSize {
		return netip.AddrPort{}, false
	}
	size := 16
	if b[0] == unix.AF_INET {
		size = 4
	}
	addr, ok := netip.AddrFromSlice(b[diagSource : diagSource+size])
	return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(b[diagSourcePort:])), ok
}
