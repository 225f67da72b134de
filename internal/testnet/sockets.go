package testnet

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tcpEstablished is the kernel's number of the state.
const tcpEstablished = 1

// Socket is an established TCP connection of a process as its kernel has it: a
// steered one has the mesh's listener as its remote address, whatever the process
// is told.
type Socket struct {
	Local, Remote netip.AddrPort // not v4-mapped
	Received      uint64         // bytes
}

// Sockets returns the established TCP connections that a process has open.
func (p *Process) Sockets() ([]Socket, error) {
	proc := fmt.Sprintf("/proc/%d", p.Pid())
	held, err := heldSockets(filepath.Join(proc, "fd"))
	if err != nil {
		return nil, fmt.Errorf("list sockets of %s: %w", p.Name, err)
	}
	var all []Socket
	err = inNetns(filepath.Join(proc, "ns", "net"), func() error {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			found, err := netlink.SocketDiagTCPInfo(family)
			if err != nil {
				return fmt.Errorf("ask sock_diag: %w", err)
			}
			for _, s := range found {
				if m := s.InetDiagMsg; m != nil && s.TCPInfo != nil && m.State == tcpEstablished && held[m.INode] {
					all = append(all, socketOf(m.ID, s.TCPInfo.Bytes_received))
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list sockets of %s: %w", p.Name, err)
	}
	return all, nil
}

func socketOf(id netlink.SocketID, received uint64) Socket {
	local, _ := netip.AddrFromSlice(id.Source)
	remote, _ := netip.AddrFromSlice(id.Destination)
	return Socket{
		Local:    netip.AddrPortFrom(local.Unmap(), id.SourcePort),
		Remote:   netip.AddrPortFrom(remote.Unmap(), id.DestinationPort),
		Received: received,
	}
}

// heldSockets returns the inodes of the sockets in a directory of descriptors.
func heldSockets(dir string) (map[uint32]bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list descriptors: %w", err)
	}
	held := map[uint32]bool{}
	for _, entry := range entries {
		// A descriptor may be closed meanwhile.
		target, _ := os.Readlink(filepath.Join(dir, entry.Name()))
		var inode uint32
		if n, _ := fmt.Sscanf(target, "socket:[%d]", &inode); n == 1 {
			held[inode] = true
		}
	}
	return held, nil
}
