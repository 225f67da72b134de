package conflict

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath/host"
)

var configuredMode = regexp.MustCompile(`(?m)^mode:[ \t]*"?(\w*)"?`)

// kubeProxy tells how services' addresses are translated. All of its modes work on packets,
// after the mesh has seen the connect.
func (n Node) kubeProxy() host.Check {
	const name = "kube-proxy"
	mode, running := n.proxyMode()
	// Whatever process or command translates, the kernel's table says so.
	services, _ := os.ReadFile(filepath.Join(n.proc, "1/net/ip_vs"))
	if mode == "" && bytes.Count(services, []byte("\n")) > 3 { // three lines of heading
		mode, running = "ipvs", true
	}
	switch {
	case !running:
		return fine(name, "none is seen on this node: services are translated by something else, such as the CNI")
	case mode == "ipvs":
		return host.Check{
			Name: name, Detail: "mode ipvs: services' addresses are the node's there, and the agent dials none of those for the proxy: " +
				"a call that is routed to a service's address and not to its endpoints fails",
			Fix: "use kube-proxy's mode nftables or iptables; ipvs is deprecated",
		}
	case mode == "":
		mode = "iptables, by default"
	}
	return fine(name, "mode "+mode)
}

// proxyMode finds kube-proxy among the processes that this one sees, and what it was told.
func (n Node) proxyMode() (mode string, running bool) {
	names, err := filepath.Glob(filepath.Join(n.proc, "[0-9]*", "comm"))
	if err != nil {
		return "", false
	}
	for _, file := range names {
		if name, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(name)) != "kube-proxy" {
			continue
		}
		dir := filepath.Dir(file)
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil {
			return "", true
		}
		args := strings.Split(string(line), "\x00")
		if mode := flag(args, "--proxy-mode"); mode != "" {
			return mode, true
		}
		// Without CAP_SYS_PTRACE the file is out of reach, and the mode stays unknown.
		text, err := os.ReadFile(filepath.Join(dir, "root", flag(args, "--config")))
		if err != nil {
			return "", true
		}
		if match := configuredMode.FindSubmatch(text); match != nil {
			return string(match[1]), true
		}
		return "", true
	}
	return "", false
}

// flag returns the value of --name=VALUE or --name VALUE.
func flag(args []string, name string) string {
	for i, arg := range args {
		if value, ok := strings.CutPrefix(arg, name+"="); ok {
			return value
		}
		if arg == name && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

// bpffs tells whether the pins outlive this process's container: whether their file
// system is the one that the host has there.
func (n Node) bpffs() host.Check {
	const name = "bpffs is the host's"
	dir := filepath.Dir(n.PinPath)
	var ours, hosts unix.Stat_t
	if err := unix.Stat(dir, &ours); err != nil {
		return unknown(name, fmt.Errorf("stat %s: %w", dir, err), "mount the host's /sys/fs/bpf into the agent's container")
	}
	if err := unix.Stat(filepath.Join(n.proc, "1/root", dir), &hosts); err != nil {
		return fine(name, "not to be seen from here without CAP_SYS_PTRACE and the host's processes")
	}
	if ours.Dev == hosts.Dev {
		return fine(name, dir)
	}
	return host.Check{
		Name: name, Detail: dir + " is another file system than the host's: what is pinned there ends with this container, " +
			"and pods go unsteered",
		Fix: "mount the host's /sys/fs/bpf there (hostPath, mountPropagation HostToContainer), and on the host: " +
			"mount -t bpf none /sys/fs/bpf",
	}
}

// multipath tells of MPTCP, which is no conflict but has an effect that somebody may look for.
func (n Node) multipath() host.Check {
	const name = "MPTCP"
	on, err := os.ReadFile(filepath.Join(n.proc, "sys/net/mptcp/enabled"))
	if err != nil || strings.TrimSpace(string(on)) == "0" {
		return fine(name, "off")
	}
	return fine(name, "on: clients that use it are steered, and see 127.0.0.1 as their peer's address")
}
