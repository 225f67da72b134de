package testnet_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
)

const tag = "rig"

func TestMain(m *testing.M) {
	testnet.Dispatch(map[string]testnet.Helper{
		"cat": func(args []string) error {
			for _, path := range args {
				content, err := os.ReadFile(path)
				if err != nil {
					return fmt.Errorf("cat: %w", err)
				}
				os.Stdout.Write(content)
			}
			return nil
		},
		"leave": func([]string) error { // makes a node and is killed
			node, err := testnet.New(testnet.Options{Tag: tag + "-killed"})
			if err != nil {
				return err
			}
			pod, err := node.AddPod("a", nil)
			if err != nil {
				return err
			}
			process, err := pod.Start(testnet.Command{Path: "/bin/sleep", Args: []string{"60"}})
			if err != nil {
				return err
			}
			fmt.Fprintln(os.Stdout, "ready", node.Name(), process.Pid())
			time.Sleep(time.Minute)
			return nil
		},
	})
	os.Exit(m.Run())
}

func newNode(t *testing.T, number int) *testnet.Node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces and cgroups")
	}
	name := fmt.Sprintf("%s-%d", tag, number)
	if _, err := testnet.CleanStale(name); err != nil {
		t.Fatal(err)
	}
	node, err := testnet.New(testnet.Options{Tag: name, Number: number})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
		if left := traces(t, node.Name()); len(left) > 0 {
			t.Errorf("Close left %v", left)
		}
	})
	return node
}

// traces returns what carries a node's name.
func traces(t *testing.T, name string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"/run/", "/run/netns/", "/sys/fs/cgroup/", "/sys/fs/cgroup/unified/"} {
		paths, err := filepath.Glob(pattern + name + "*")
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, paths...)
	}
	return found
}

func addPod(t *testing.T, node *testnet.Node, name string) *testnet.Pod {
	t.Helper()
	pod, err := node.AddPod(name, map[string]string{"app": name}, 20880)
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// ask connects from one pod to a listener that answers with its peer's address.
func ask(t *testing.T, from *testnet.Pod, listener net.Listener, address string) string {
	t.Helper()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, conn.RemoteAddr().(*net.TCPAddr).IP.String())
		_ = conn.Close()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := from.DialContext(ctx, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func TestPodsReachEachOther(t *testing.T) {
	one, two := newNode(t, 1), newNode(t, 2)
	if err := testnet.Link(one, two); err != nil {
		t.Fatal(err)
	}
	a, b, c := addPod(t, one, "a"), addPod(t, one, "b"), addPod(t, two, "c")
	for _, to := range []*testnet.Pod{b, c} {
		listener, err := to.Listen(":20880")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		for i, address := range []string{to.Addr(20880).String(), to.Addr6(20880).String()} {
			if got, want := ask(t, a, listener, address), a.Addresses[i].String(); got != want {
				t.Errorf("%s saw %s as its peer, want %s", to.Name, got, want)
			}
		}
	}
}

func TestProcessLivesInPod(t *testing.T) {
	pod := addPod(t, newNode(t, 1), "a")
	process, err := pod.StartHelper("cat", "/proc/self/cgroup", "/proc/self/net/fib_trie")
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	output := process.Output()
	if !strings.Contains(output, "/"+filepath.Base(filepath.Dir(filepath.Dir(pod.Cgroup)))+"/pods/a\n") {
		t.Errorf("the process is not in the pod's cgroup:\n%s", output)
	}
	if !strings.Contains(output, pod.Addresses[0].String()) {
		t.Errorf("the process is not in the pod's network namespace:\n%s", output)
	}
}

func TestWorkloadFile(t *testing.T) {
	node := newNode(t, 1)
	pod := addPod(t, node, "a")
	if err := pod.Enroll(); err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile(filepath.Join(node.WorkloadsDir(), "a.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`apiVersion: dubway.io/v1alpha1
kind: Workload
metadata:
  name: a
  namespace: shop
  labels:
    app: "a"
spec:
  serviceAccount: a
  netns: %s
  cgroup: %s
  addresses:
    - "10.88.1.3"
    - "fd00:88:1::3"
  ports:
    - 20880
`, pod.Netns, pod.Cgroup)
	if got := string(document); got != want {
		t.Errorf("workload file:\n%s\nwant:\n%s", got, want)
	}
	if err := pod.Withdraw(); err != nil {
		t.Fatal(err)
	}
}

func TestCleanStale(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces and cgroups")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	maker := exec.Command(self)
	maker.Env = append(os.Environ(), "DUBWAY_TESTNET_HELPER=leave")
	output, err := maker.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := maker.Start(); err != nil {
		t.Fatal(err)
	}
	var name string
	var pid int
	if _, err := fmt.Fscanf(output, "ready %s %d\n", &name, &pid); err != nil {
		t.Fatal(err)
	}
	if removed, err := testnet.CleanStale(tag + "-killed"); err != nil || len(removed) != 0 {
		t.Errorf("CleanStale = %v, %v while the maker lives; want none", removed, err)
	}
	if live := testnet.Live(tag + "-killed"); len(live) != 1 {
		t.Errorf("Live = %v, want %s", live, name)
	}
	if err := maker.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = maker.Wait()
	if left := testnet.Left(tag + "-killed"); len(left) != 1 || filepath.Base(left[0]) != name {
		t.Errorf("Left = %v, want %s", left, name)
	}
	if removed, err := testnet.CleanStale(tag + "-killed"); err != nil || len(removed) != 1 {
		t.Errorf("CleanStale = %v, %v; want %s", removed, err, name)
	}
	if left := traces(t, name); len(left) > 0 {
		t.Errorf("CleanStale left %v", left)
	}
	// A zombie that its new parent has not reaped has no executable.
	if _, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil {
		t.Errorf("process %d of the killed node still runs", pid)
	}
}

func TestUnprivileged(t *testing.T) {
	node := newNode(t, 1)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	process, err := node.StartUnprivileged(testnet.Command{
		Name: "caps", Path: self, Args: []string{"/proc/self/status"},
		Env: []string{"DUBWAY_TESTNET_HELPER=cat"}, RealtimePriority: 5,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	output := process.Output()
	none := "0000000000000000"
	for _, want := range []string{
		"Uid:\t65532\t65532\t65532\t65532", "Gid:\t65532\t65532\t65532\t65532",
		"CapPrm:\t" + none, "CapEff:\t" + none, "CapBnd:\t" + none, "NoNewPrivs:\t1",
	} {
		if !strings.Contains(output, want) {
			t.Errorf("status lacks %q:\n%s", want, output)
		}
	}
}
