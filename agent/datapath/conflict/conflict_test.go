package conflict

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/datapath/host"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// check returns the one check of a name.
func check(t *testing.T, n Node, name string) host.Check {
	t.Helper()
	checks := Find(n)
	i := slices.IndexFunc(checks, func(c host.Check) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no check %q in %v", name, checks)
	}
	c := checks[i]
	if c.Detail == "" || c.OK != (c.Fix == "") {
		t.Errorf("%+v: a check says what it found, and a fix if something is wrong", c)
	}
	return c
}

// want holds a check against a part of its text: of its fix if something is wrong.
func want(t *testing.T, c host.Check, ok bool, text string) {
	t.Helper()
	if c.OK != ok || !strings.Contains(c.Detail+" "+c.Fix, text) {
		t.Errorf("%+v, want OK %t and %q", c, ok, text)
	}
}

// write makes files below dir, by name.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte(text), 0o644))
	}
}

// cgroup makes one, and bpffs a file system for pins, of this test's own.
func cgroup(t *testing.T) string {
	t.Helper()
	root, err := host.FindCgroupRoot()
	must(t, err)
	dir := filepath.Join(root, fmt.Sprintf("dubway-conflict-%d-%s", os.Getpid(), t.Name()))
	must(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() { must(t, os.Remove(dir)) })
	return dir
}

func bpffs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("bpf", dir, "bpf", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// steer opens a datapath and returns the ids of its programs.
func steer(t *testing.T, cgroup, pinPath string) []uint32 {
	t.Helper()
	d, err := datapath.Open(datapath.Options{Cgroup: cgroup, PinPath: pinPath, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(func() {
		must(t, d.Close())
		must(t, datapath.Uninstall(pinPath))
	})
	status, err := d.Status()
	must(t, err)
	var ids []uint32
	for _, p := range status.Programs {
		ids = append(ids, p.ID)
	}
	return ids
}

// foreign attaches somebody else's connect program.
func foreign(t *testing.T, cgroup, name string) link.Link {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name, Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	must(t, err)
	defer p.Close()
	l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: ebpf.AttachCGroupInet4Connect, Program: p})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

func TestOtherPrograms(t *testing.T) {
	const name = "other programs"
	dir, pins := cgroup(t), bpffs(t)
	n := Node{Cgroup: dir, PinPath: pins + "/dubway"}
	want(t, check(t, n, name), true, "none at "+dir)

	cilium := foreign(t, dir, "cil_sock4_conne")
	want(t, check(t, n, name), false, "socketLB.hostNamespaceOnly=true") // it would be before ours
	n.Ours = steer(t, dir, n.PinPath)
	want(t, check(t, n, name), false, "socketLB.hostNamespaceOnly=true")
	want(t, check(t, Node{Cgroup: dir, PinPath: n.PinPath}, name), false, "Cilium's socket load balancer") // nobody says which are ours
	must(t, cilium.Close())
	want(t, check(t, n, name), true, "none at")
	foreign(t, dir, "cil_sock4_conne")
	want(t, check(t, n, name), true, "none of which sees a connect before the mesh")

	// A program of a pod's own cgroup runs before those of the cgroups above it.
	below := n
	below.Cgroup = filepath.Join(dir, "pod")
	must(t, os.Mkdir(below.Cgroup, 0o755))
	t.Cleanup(func() { must(t, os.Remove(below.Cgroup)) })
	foreign(t, below.Cgroup, "somebody")
	want(t, check(t, below, name), false, "bpftool prog show")
	want(t, check(t, n, name), true, "none of which")

	steer(t, dir, pins+"/another")
	want(t, check(t, n, name), false, "stop the other dubway-agent")
}

func TestSockmapPrograms(t *testing.T) {
	const name = "sockmap programs"
	n := Node{Cgroup: cgroup(t), PinPath: bpffs(t) + "/dubway"}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.SockMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	must(t, err)
	defer m.Close()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "obi_packet_exte", Type: ebpf.SkMsg, AttachType: ebpf.AttachSkMsgVerdict, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	must(t, err)
	must(t, link.RawAttachProgram(link.RawAttachProgramOptions{Target: m.FD(), Program: p, Attach: ebpf.AttachSkMsgVerdict}))
	info, err := p.Info()
	must(t, err)
	id, _ := info.ID()
	p.Close() // the map has it
	found := fmt.Sprintf("%d (obi_packet_exte)", id)
	want(t, check(t, n, name), false, found)
	want(t, check(t, n, name), false, "OTEL_EBPF_BPF_CONTEXT_PROPAGATION=disabled")
	n.Ours = []uint32{uint32(id)}
	if c := check(t, n, name); strings.Contains(c.Detail, found) {
		t.Errorf("%+v names a program of ours", c)
	}
	n.Ours = nil
	must(t, m.Close())
	deadline := time.Now().Add(30 * time.Second) // programs end in the background
	for strings.Contains(check(t, n, name).Detail, found) {
		if time.Now().After(deadline) {
			t.Fatal("a program that is gone is still named")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestPins(t *testing.T) {
	const name = "pins of other meshes"
	dir := bpffs(t)
	n := Node{Cgroup: "/none", PinPath: dir + "/dubway"}
	must(t, os.Mkdir(dir+"/dubway", 0o700))
	want(t, check(t, n, name), true, "none in "+dir)
	must(t, os.Mkdir(dir+"/bpf_kmesh_workload", 0o700))
	want(t, check(t, n, name), false, "bpf_kmesh_workload (Kmesh)")
	must(t, os.MkdirAll(dir+"/tc/globals/cookie_original_dst", 0o700))
	want(t, check(t, n, name), false, "uninstall Merbridge")
}

func TestConfigurations(t *testing.T) {
	const folder, istio = "CNI folder", "Istio's CNI plugin"
	for _, test := range []struct {
		name, check string
		files       map[string]string
		ok          bool
		want        string
	}{
		{"empty", folder, nil, true, "no configuration"},
		{"alone", folder, map[string]string{"10-flannel.conflist": `{}`}, true, "uses 10-flannel.conflist"},
		{"Cilium beside others", folder, map[string]string{"05-cilium.conflist": `{}`, "10-flannel.conflist": `{}`}, true, "uses 05-cilium.conflist"},
		{"Cilium alone", folder, map[string]string{"05-cilium.conflist": `{}`, "10-flannel.conflist.cilium_bak": `{}`}, false, "cni.exclusive=false"},
		{"no Istio", istio, map[string]string{"10-a.conflist": `{"plugins":[{"type":"bridge"}]}`, "20-b.conf": "no JSON"}, true, "not in"},
		{"Istio chained", istio, map[string]string{"10-a.conflist": `{"plugins":[{"type":"bridge"},{"type":"istio-cni"}]}`}, true, "in 10-a.conflist: pods"},
		{"Istio alone", istio, map[string]string{"YYY-istio-cni.conf": `{"type":"istio-cni"}`}, true, "in YYY-istio-cni.conf: pods"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, test.files)
			want(t, check(t, Node{ConfDir: dir, PinPath: "/none/dubway"}, test.check), test.ok, test.want)
		})
	}
	want(t, check(t, Node{ConfDir: "/none", PinPath: "/none/dubway"}, folder), false, "--cni-conf-dir")
	for _, c := range Find(Node{PinPath: "/none/dubway"}) {
		if c.Name == folder || c.Name == istio {
			t.Errorf("%+v without a folder", c)
		}
	}
}

func TestKubeProxy(t *testing.T) {
	const heading = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
	proxy := func(args string) map[string]string {
		return map[string]string{
			"1/comm": "systemd\n", "1/net/ip_vs": heading, "77/comm": "kube-proxy\n",
			"77/cmdline": "/usr/local/bin/kube-proxy\x00" + args + "\x00--v=2\x00",
		}
	}
	with := func(files map[string]string, name, text string) map[string]string {
		files[name] = text
		return files
	}
	for _, test := range []struct {
		name  string
		files map[string]string
		ok    bool
		want  string
	}{
		{"none", map[string]string{"1/comm": "systemd\n"}, true, "none is seen"},
		{"by default", proxy("--v=1"), true, "mode iptables, by default"},
		{"nftables", proxy("--proxy-mode=nftables"), true, "mode nftables"},
		{"ipvs", proxy("--proxy-mode\x00ipvs"), false, "use kube-proxy's mode nftables"},
		{"nftables by file", with(proxy("--config=/var/lib/kube-proxy/config.conf"), "77/root/var/lib/kube-proxy/config.conf",
			"kind: KubeProxyConfiguration\nmode: \"nftables\"\n"), true, "mode nftables"},
		{"default by file", with(proxy("--config=/c"), "77/root/c", "mode: \"\"\nmetricsBindAddress: x\n"), true, "by default"},
		{"file out of reach", with(proxy("--config=/c"), "1/net/ip_vs", heading+"TCP  0A600001:01BB rr\n"), false, "mode ipvs"},
		{"in another process", map[string]string{"5/comm": "k3s-server\n", "1/net/ip_vs": heading + "TCP  0A600001:01BB rr\n"}, false, "mode ipvs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, test.files)
			want(t, check(t, Node{PinPath: "/none/dubway", proc: dir}, "kube-proxy"), test.ok, test.want)
		})
	}
}

func TestPinsOutliveTheContainer(t *testing.T) {
	const name = "bpffs is the host's"
	dir, proc := bpffs(t), t.TempDir()
	n := Node{PinPath: dir + "/dubway", proc: proc}
	want(t, check(t, n, name), true, "not to be seen")
	write(t, proc, map[string]string{"1/root" + dir + "/x": ""}) // the host has a plain folder there
	want(t, check(t, n, name), false, "mountPropagation HostToContainer")
	must(t, os.RemoveAll(filepath.Join(proc, "1/root")))
	must(t, os.Symlink("/", filepath.Join(proc, "1/root")))
	want(t, check(t, n, name), true, dir)
	n.PinPath = "/none/dubway"
	want(t, check(t, n, name), false, "mount the host's /sys/fs/bpf")
}

func TestMultipath(t *testing.T) {
	dir := t.TempDir()
	n := Node{PinPath: "/none/dubway", proc: dir}
	want(t, check(t, n, "MPTCP"), true, "off")
	write(t, dir, map[string]string{"sys/net/mptcp/enabled": "1\n"})
	want(t, check(t, n, "MPTCP"), true, "on: clients")
}
