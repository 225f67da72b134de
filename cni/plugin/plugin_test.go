package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/cni/wire"
)

const previous = `{"cniVersion":"1.0.0","interfaces":[{"name":"veth1"},{"name":"eth0","sandbox":"/n"}],` +
	`"ips":[{"interface":1,"address":"10.1.2.3/24"},{"interface":1,"address":"fd00::3/64"},{"interface":0,"address":"10.1.2.1/24"}]}`

// agent is an agent that a test plays: it does with each connection what the next of
// its acts says, the last one again and again.
type agent struct {
	socket string

	mu       sync.Mutex
	acts     []act
	requests []*wire.Request
}

// act is what happens to a connection. The request was read.
type act func(c *wire.Conn, u *net.UnixConn)

func answers(err error) act { return func(c *wire.Conn, _ *net.UnixConn) { _ = c.Answer(err) } }

// dies hangs up in the middle.
func dies(*wire.Conn, *net.UnixConn) {}

// hangs says nothing until the plugin goes.
func hangs(c *wire.Conn, _ *net.UnixConn) { c.Gone() }

func newAgent(t *testing.T, acts ...act) *agent {
	t.Helper()
	a := &agent{socket: filepath.Join(t.TempDir(), "cni.sock"), acts: acts}
	if len(acts) > 0 {
		a.start(t)
	}
	return a
}

func (a *agent) start(t *testing.T) {
	t.Helper()
	l, err := net.ListenUnix(wire.Network, &net.UnixAddr{Name: a.socket, Net: wire.Network})
	if err != nil {
		t.Error(err)
		return
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			u, err := l.AcceptUnix()
			if err != nil {
				return
			}
			all.Go(func() { a.serve(t, u) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
}

func (a *agent) serve(t *testing.T, u *net.UnixConn) {
	c, err := wire.New(u)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	r, f, err := c.Receive()
	if err != nil {
		t.Error(err)
		return
	}
	if f != nil {
		f.Close()
	}
	a.mu.Lock()
	a.requests = append(a.requests, r)
	next := a.acts[0]
	if len(a.acts) > 1 {
		a.acts = a.acts[1:]
	}
	a.mu.Unlock()
	next(c, u)
}

func (a *agent) got() []*wire.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.requests)
}

// rig runs the plugin's verbs.
type rig struct {
	Plugin

	out, log bytes.Buffer
	args     *skel.CmdArgs
}

// newRig makes what a runtime gives. More is put into the configuration.
func newRig(socket, more string) *rig {
	r := &rig{args: &skel.CmdArgs{
		ContainerID: "c1", Netns: "/proc/self/ns/net", IfName: "eth0",
		Args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-1;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u1",
	}}
	r.Out, r.Log, r.Node = &r.out, &r.log, "node-1"
	r.configure(socket, `"prevResult":`+previous+more)
	return r
}

func (r *rig) configure(socket, more string) {
	r.args.StdinData = fmt.Appendf(nil, `{"cniVersion":"1.0.0","name":"n","type":"dubway-cni","socket":%q,"exempt":["dubway-system"],%s}`, socket, more)
}

// code is the code of an error of the specification, 0 for none.
func code(err error) uint {
	if e, ok := errors.AsType[*types.Error](err); ok {
		return e.Code
	}
	return 0
}

func TestAdd(t *testing.T) {
	t.Parallel()
	quick := `,"timeoutSeconds":1`
	tests := []struct {
		name   string
		acts   []act // none: there is no agent
		config string
		args   string // of the pod; "" for those of an ordinary one
		code   uint   // of the error
		say    string // in the error or the log
		asked  int    // requests that the agent got
	}{
		{"an agent", []act{answers(nil)}, "", "", 0, "", 1},
		{"refused", []act{answers(errors.New("no proxy is connected"))}, "", "", 11, "shop/cart-1 is kept from running outside the mesh: the agent says: no proxy is connected", 1},
		{"refused, open", []act{answers(errors.New("no proxy"))}, `,"mode":"open"`, "", 0, "starts outside the mesh, because the mode is open: the agent says: no proxy", 1},
		{"no agent", nil, quick, "", 11, "no agent serves ", 0},
		{"no agent: what to do", nil, quick, "", 11, "spec.nodeName=node-1", 0},
		{"no agent, open", nil, quick + `,"mode":"open"`, "", 0, "starts outside the mesh", 0},
		{"no agent, exempt", nil, "", "K8S_POD_NAMESPACE=dubway-system;K8S_POD_NAME=a", 0, "", 0},
		{"no pod of Kubernetes", nil, "", "IgnoreUnknown=1", 0, "", 0},
		{"no arguments", nil, "", ";", 0, "", 0},
		{"an old runtime", []act{answers(nil)}, "", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-1", 0, "", 1},
		{"it hangs", []act{hangs}, quick, "", 11, "did not answer within ", 1},
		{"it hangs, open", []act{hangs}, quick + `,"mode":"open"`, "", 0, "did not answer within ", 1},
		{"it dies, another comes", []act{dies, answers(nil)}, "", "", 0, "", 2},
		{"it is of another release, another comes", []act{other, answers(nil)}, "", "", 0, "", 2},
		{"it is of another release", []act{other}, `,"timeoutSeconds":3`, "", 11, "it speaks version 99", -1},
		{"a bad mode", nil, `,"mode":"ajar"`, "", 7, "mode", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t, test.acts...)
			r := newRig(a.socket, test.config)
			if test.args != "" {
				r.args.Args = test.args
			}
			err := r.Add(r.args)
			text := r.log.String()
			if err != nil {
				text = err.Error()
			}
			if code(err) != test.code || (err != nil) != (test.code != 0) || !strings.Contains(text, test.say) {
				t.Errorf("code %d, %v; log %s", code(err), err, &r.log)
			}
			if got := len(a.got()); got != test.asked && test.asked >= 0 {
				t.Errorf("the agent was asked %d times, want %d", got, test.asked)
			}
			if printed := r.out.String() != ""; printed != (err == nil) {
				t.Errorf("printed %q with %v", r.out.String(), err)
			}
			if err == nil && !sameJSON(t, r.out.String(), previous) {
				t.Errorf("result is %s", &r.out)
			}
		})
	}
}

// other answers in a version that is not ours.
func other(_ *wire.Conn, u *net.UnixConn) { _, _ = u.Write([]byte(`{"version":99,"later":true}`)) }

// TestAddSays looks at what the agent is told.
func TestAddSays(t *testing.T) {
	a := newAgent(t, answers(nil))
	r := newRig(a.socket, `,"timeoutSeconds":20`)
	if err := r.Add(r.args); err != nil {
		t.Fatal(err)
	}
	got := a.got()[0]
	s := got.Sandbox
	want := []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::3")}
	if got.Verb != wire.Add || s.ContainerID != "c1" || s.UID != "u1" || s.Namespace != "shop" || s.Name != "cart-1" || !slices.Equal(s.Addresses, want) {
		t.Errorf("said %+v, %+v", got, s)
	}
	if left := got.Timeout(); left > 20*time.Second || left < time.Second {
		t.Errorf("said to wait %s", left)
	}
}

// TestAddWaits starts the agent after the pod.
func TestAddWaits(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.acts = []act{answers(nil)}
	r := newRig(a.socket, "")
	waiting := make(chan struct{})
	r.Log = writer(func(b []byte) (int, error) {
		if strings.Contains(string(b), "waits for the agent") {
			close(waiting)
		}
		return len(b), nil
	})
	go func() {
		<-waiting
		a.start(t)
	}()
	if err := r.Add(r.args); err != nil || len(a.got()) != 1 {
		t.Errorf("%v after %d requests", err, len(a.got()))
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func TestAddRefusesConfiguration(t *testing.T) {
	for more, want := range map[string]uint{
		`"mode":"closed"`:                  7, // it is not chained behind anything
		`"prevResult":{"cniVersion":"9"}`:  6,
		`"prevResult":"x"`:                 6,
		`"prevResult":` + previous + `,1]`: 6,
	} {
		r := newRig("/nowhere", "")
		r.configure("/nowhere", more)
		if err := r.Add(r.args); code(err) != want {
			t.Errorf("%s: %v", more, err)
		}
	}
	r := newRig("/nowhere", "")
	r.args.Netns = "/nowhere"
	if err := r.Add(r.args); code(err) != 11 || !strings.Contains(err.Error(), "network namespace") {
		t.Errorf("no namespace: %v", err)
	}
}

// TestRemove is about what must never hold a pod's end up.
func TestRemove(t *testing.T) {
	t.Parallel()
	for name, acts := range map[string][]act{"nobody": nil, "refused": {answers(errors.New("broken"))}, "dies": {dies}, "hangs": {hangs}, "fine": {answers(nil)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t, acts...)
			r := newRig(a.socket, "")
			r.configure(a.socket, `"cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"},{"containerID":"c1","ifname":"eth1"},{"containerID":"c2","ifname":"eth0"}]`)
			r.args.Netns = ""
			if err := r.Del(r.args); err != nil {
				t.Error(err)
			}
			if err := r.GC(r.args); err != nil {
				t.Error(err)
			}
			if r.log.String() == "" != (name == "fine") {
				t.Errorf("log is %q", &r.log)
			}
			if acts == nil {
				return
			}
			if got := a.got(); len(got) != 2 || got[0].Verb != wire.Delete || got[0].Sandbox.UID != "u1" ||
				got[1].Verb != wire.Keep || !slices.Equal(got[1].Containers, []string{"c1", "c2"}) {
				t.Errorf("said %+v", got)
			}
		})
	}
}

func TestRemoveOddities(t *testing.T) {
	a := newAgent(t, answers(nil))
	tests := []struct {
		name   string
		config string
		args   string
		gc     bool
		said   bool
	}{
		{"configuration is broken", `"mode":7`, "", false, false},
		{"configuration is broken, gc", `"mode":7`, "", true, false},
		{"exempt", `"mode":"open"`, "K8S_POD_NAMESPACE=dubway-system;K8S_POD_NAME=a", false, false},
		{"no pod of Kubernetes", `"mode":"open"`, "x=y", false, false},
		{"the runtime lists nothing", `"mode":"open"`, "", true, false},
		{"the runtime knows none", `"cni.dev/valid-attachments":null`, "", true, true},
		{"the runtime knows too many", `"cni.dev/valid-attachments":[` + many(2000) + `]`, "", true, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := len(a.got())
			r := newRig(a.socket, "")
			r.configure(a.socket, test.config)
			if test.args != "" {
				r.args.Args = test.args
			}
			verb := r.Del
			if test.gc {
				verb = r.GC
			}
			if err := verb(r.args); err != nil || (len(a.got()) > before) != test.said {
				t.Errorf("%v, said %v; log %s", err, a.got()[before:], &r.log)
			}
		})
	}
}

func many(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(`{"containerID":"c%d","ifname":"eth0"}`, i)
	}
	return strings.Join(all, ",")
}

func TestCheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		acts   []act
		config string
		code   uint
	}{
		{"as it should be", []act{answers(nil)}, "", 0},
		{"not enrolled", []act{answers(errors.New("its path does not answer"))}, "", 11},
		{"not enrolled, open", []act{answers(errors.New("its path does not answer"))}, `,"mode":"open"`, 11},
		{"hangs, open", []act{hangs}, `,"mode":"open"`, 0},
		{"no agent", nil, "", 11},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t, test.acts...)
			r := newRig(a.socket, test.config)
			if err := r.Check(r.args); code(err) != test.code || (err != nil) != (test.code != 0) {
				t.Errorf("error is %v", err)
			}
		})
	}
	r := newRig("/nowhere", "")
	r.args.Args = "K8S_POD_NAMESPACE=dubway-system;K8S_POD_NAME=a"
	if err := r.Check(r.args); err != nil {
		t.Errorf("exempt: %v", err)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	report := `,"reportStatus":true`
	tests := []struct {
		name   string
		acts   []act
		config string
		code   uint
		log    bool
	}{
		{"ready", []act{answers(nil)}, report, 0, false},
		{"not ready", []act{answers(errors.New("no proxy"))}, report, 50, false},
		{"not ready, open", []act{answers(errors.New("no proxy"))}, report + `,"mode":"open"`, 0, false},
		{"no agent", nil, report, 51, false},
		{"hangs", []act{hangs}, report, 51, false},
		{"no agent, not to be reported", nil, "", 0, true},
		{"not ready, not to be reported", []act{answers(errors.New("no proxy"))}, "", 0, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t, test.acts...)
			r := newRig(a.socket, test.config)
			if err := r.Status(r.args); code(err) != test.code || (err != nil) != (test.code != 0) || (r.log.Len() > 0) != test.log {
				t.Errorf("error is %v, log %q", err, &r.log)
			}
		})
	}
}

// TestPeer does not hand a pod's namespace to whoever made a socket, and does not wait
// for him to be root.
func TestPeer(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("another user's socket needs root")
	}
	socket := fmt.Sprintf("@dubway-plugin-test-%d", os.Getpid())
	l, err := listenAsNobody(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	namespace, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer namespace.Close()
	a := &asker{socket: socket, timeout: time.Hour, patience: time.Hour, log: t.Logf}
	r := &wire.Request{Verb: wire.Add, Sandbox: &wire.Sandbox{ContainerID: "c", Namespace: "n", Name: "p"}}
	if err := a.ask(t.Context(), r, namespace); !errors.Is(err, wire.ErrPeer) {
		t.Errorf("error is %v", err)
	}
}

// listenAsNobody listens as another user, which only a thread is, for that long: Go's own
// setresuid is of all threads.
func listenAsNobody(socket string) (*net.UnixListener, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	keep := ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, 65534, keep); errno != 0 {
		return nil, errno
	}
	defer unix.RawSyscall(unix.SYS_SETRESUID, keep, 0, keep)
	return net.ListenUnix(wire.Network, &net.UnixAddr{Name: socket, Net: wire.Network})
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	if err := errors.Join(json.Unmarshal([]byte(a), &x), json.Unmarshal([]byte(b), &y)); err != nil {
		t.Error(err)
	}
	return reflect.DeepEqual(x, y)
}
