package listener

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/l7proxy/sock"
)

// soOriginalDst is SO_ORIGINAL_DST at level SOL_IP and IP6T_SO_ORIGINAL_DST at
// level SOL_IPV6 (linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h). The
// agent's getsockopt program answers both.
const soOriginalDst = 80

// errDirect: somebody connected to the listener itself.
var errDirect = errors.New("the connection was not steered here")

// original returns what the consumer dialled, never v4-mapped.
func original(c *sock.Conn, inbound bool) (netip.AddrPort, error) {
	if inbound {
		// sk_lookup changes no address.
		local := c.Local()
		if local.Port() == InboundPort {
			return netip.AddrPort{}, errDirect
		}
		return local, nil
	}
	raw, err := c.TCP().SyscallConn()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("get raw connection: %w", err)
	}
	var dst netip.AddrPort
	ctlErr := raw.Control(func(fd uintptr) { dst, err = originalDst(int(fd), c.Local().Addr().Is4()) })
	if err = errors.Join(ctlErr, err); err != nil {
		return netip.AddrPort{}, err
	}
	if !dst.IsValid() || dst.Addr().IsLoopback() || dst.Addr().IsUnspecified() {
		return netip.AddrPort{}, errDirect
	}
	return dst, nil
}

func originalDst(fd int, v4 bool) (netip.AddrPort, error) {
	if v4 {
		var sa unix.RawSockaddrInet4
		if err := getsockopt(fd, unix.SOL_IP, unsafe.Pointer(&sa), unsafe.Sizeof(sa)); err != nil {
			return netip.AddrPort{}, err
		}
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), port(sa.Port)), nil
	}
	var sa unix.RawSockaddrInet6
	if err := getsockopt(fd, unix.SOL_IPV6, unsafe.Pointer(&sa), unsafe.Sizeof(sa)); err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), port(sa.Port)), nil
}

func getsockopt(fd, level int, value unsafe.Pointer, size uintptr) error {
	length := uint32(size)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), soOriginalDst,
		uintptr(value), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return fmt.Errorf("get original destination: %w", errno)
	}
	return nil
}

// port converts the network byte order of a raw socket address.
func port(be uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], be)
	return binary.BigEndian.Uint16(b[:])
}
