package netns

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
)

// Addresses returns all addresses of the namespace's devices.
func (n *Namespace) Addresses() ([]netip.Addr, error) {
	var all []netip.Addr
	err := n.Do(func() error {
		list, err := net.InterfaceAddrs()
		if err != nil {
			return fmt.Errorf("ask for addresses: %w", err)
		}
		for _, a := range list {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				all = append(all, p.Addr().Unmap().WithZone(""))
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return all, nil
}

// ProcessAddresses returns the addresses of the network namespace of a process.
// It needs less than to enter the namespace, which for the host's first process
// is CAP_SYS_PTRACE: it reads the tables that /proc shows.
func ProcessAddresses(pid int) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, table := range []struct {
		name  string
		parse func(io.Reader) ([]netip.Addr, error)
	}{{"fib_trie", parseFibTrie}, {"if_inet6", parseIfInet6}} {
		file, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, table.name))
		if errors.Is(err, fs.ErrNotExist) && table.name == "if_inet6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		list, err := table.parse(file)
		_ = file.Close()
		if err != nil {
			return nil, fmt.Errorf("list addresses: read %s: %w", table.name, err)
		}
		all = append(all, list...)
	}
	return all, nil
}

// parseFibTrie finds the local addresses in the kernel's routing tables: a leaf
// "|-- 10.0.0.1" above a line "/32 host LOCAL".
func parseFibTrie(r io.Reader) ([]netip.Addr, error) {
	var all []netip.Addr
	var leaf netip.Addr
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if text, ok := strings.CutPrefix(line, "|-- "); ok {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("parse leaf: %w", err)
			}
			leaf = addr
		} else if line == "/32 host LOCAL" && leaf.IsValid() {
			all = append(all, leaf)
		}
	}
	return all, lines.Err()
}

// parseIfInet6 reads lines that begin with an address of 32 hexadecimal digits.
func parseIfInet6(r io.Reader) ([]netip.Addr, error) {
	var all []netip.Addr
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		digits, _, _ := strings.Cut(lines.Text(), " ")
		b, err := hex.DecodeString(digits)
		addr, ok := netip.AddrFromSlice(b)
		if err != nil || !ok {
			return nil, fmt.Errorf("parse address %q", digits)
		}
		all = append(all, addr)
	}
	return all, lines.Err()
}
