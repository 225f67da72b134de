package install

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/cni/entry"
)

const (
	plain   = `{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"ptp"}]}`
	chained = `{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"ptp"},{"type":"dubway-cni","mode":"closed",` +
		`"socket":"/run/dubway/cni.sock","exempt":["dubway-system","kube-system"]}]}`
	single = `{"cniVersion":"1.0.0","name":"n","type":"ptp"}`
)

// eventually waits for what Run does by itself.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// run lets the installer run until the test ends, or stop is called.
func (r *rig) run() (stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				r.t.Error(err)
			}
		}
	}
	r.t.Cleanup(stop)
	return stop
}

func (r *rig) text(name string) string {
	text, err := os.ReadFile(filepath.Join(r.opts.ConfDir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Error(err)
	}
	return string(text)
}

// TestRun keeps the plugin in its place while a CNI comes, rewrites its file in both
// ways and moves to another.
func TestRun(t *testing.T) {
	r := newRig(t, nil)
	stop := r.run()
	eventually(t, "the binary", r.binary.present)
	if s := r.Status().String(); !strings.Contains(s, "no CNI configuration yet") && s != "chained in " {
		t.Errorf("status is %q", s)
	}
	r.put("10-n.conflist", plain)
	eventually(t, "chained into a new file", func() bool { return r.text("10-n.conflist") == chained })
	r.put("10-n.conflist", strings.Replace(plain, "ptp", "bridge", 1))
	eventually(t, "chained into a file that was written over", func() bool {
		return r.text("10-n.conflist") == strings.Replace(chained, "ptp", "bridge", 1)
	})
	r.put(".new", plain)
	if err := os.Rename(filepath.Join(r.opts.ConfDir, ".new"), filepath.Join(r.opts.ConfDir, "10-n.conflist")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "chained into a file that was replaced", func() bool { return r.text("10-n.conflist") == chained })
	r.put("05-other.conflist", plain)
	eventually(t, "moved to the file that comes first", func() bool {
		return r.text("05-other.conflist") == chained && r.text("10-n.conflist") == plain
	})
	if err := os.Remove(r.binary.path()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the binary again", r.binary.present)
	stop()
	if r.text("05-other.conflist") != chained || !r.binary.present() {
		t.Error("the plugin did not stay when the installer ended")
	}
	// The next release of the agent, in another mode.
	next := r.opts
	next.Mode = entry.Open
	i, err := New(next)
	if err != nil {
		t.Fatal(err)
	}
	i.look()
	if got := r.text("05-other.conflist"); got != strings.Replace(chained, "closed", "open", 1) {
		t.Errorf("after a change of mode: %s", got)
	}
	if err := i.Remove(); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, files(t, r.opts.ConfDir), map[string]string{"05-other.conflist": plain, "10-n.conflist": plain})
	i.look()
	if r.text("05-other.conflist") != plain {
		t.Error("it came back after it was removed")
	}
}

// TestRunMalformed waits for a first file that nobody can read yet.
func TestRunMalformed(t *testing.T) {
	r := newRig(t, map[string]string{"20-n.conflist": plain})
	r.put("10-n.conflist", plain[:30])
	r.run()
	eventually(t, "a problem is told", func() bool {
		s := r.Status().String()
		return strings.HasPrefix(s, "not chained; 10-n.conflist: malformed")
	})
	if r.text("10-n.conflist") != plain[:30] || r.text("20-n.conflist") != plain {
		t.Error("a file was touched while the first may still be written")
	}
	r.put("10-n.conflist", plain)
	eventually(t, "chained into the file when it was whole", func() bool { return r.text("10-n.conflist") == chained })
	if r.text("20-n.conflist") != plain {
		t.Error("the second file was touched")
	}
}

func TestScan(t *testing.T) {
	first := `{"cniVersion":"1.0.0","name":"n","plugins":[` + strings.TrimSuffix(strings.Split(chained, `"ptp"},`)[1], "]}") + `,{"type":"ptp"}]}`
	behind := strings.TrimSuffix(chained, "]}") + `,{"type":"istio-cni"}]}`
	tests := []struct {
		name     string
		in, want map[string]string
		status   string // contained in it
	}{
		{"no configuration", nil, nil, "no CNI configuration yet"},
		{"others behind us stay", map[string]string{"1.conflist": behind}, map[string]string{"1.conflist": behind}, "chained in 1.conflist"},
		{"before the network's plugin", map[string]string{"1.conflist": first}, map[string]string{"1.conflist": chained}, "chained in 1.conflist"},
		{"twice", map[string]string{"1.conflist": strings.Replace(chained, `{"type":"ptp"}`, `{"type":"ptp"},{"type":"dubway-cni","mode":"open","socket":"/x"}`, 1)},
			map[string]string{"1.conflist": chained}, "chained in 1.conflist"},
		{"too old", map[string]string{"1.conflist": strings.Replace(plain, "1.0.0", "0.2.0", 1), "2.conflist": plain}, nil, `not chained; 1.conflist: cniVersion is "0.2.0"`},
		{"too new", map[string]string{"1.conflist": strings.Replace(plain, "1.0.0", "2.0.0", 1)}, nil, "a newer one is needed"},
		{"one of several versions", map[string]string{"1.conflist": strings.Replace(plain, `"cniVersion":"1.0.0"`, `"cniVersions":["0.3.0","1.0.0"]`, 1)},
			map[string]string{"1.conflist": strings.Replace(chained, `"cniVersion":"1.0.0"`, `"cniVersions":["0.3.0","1.0.0"]`, 1)}, "chained in"},
		{"no plugins", map[string]string{"1.conflist": `{"cniVersion":"1.0.0","name":"n"}`}, nil, "malformed"},
		{"none that makes a network", map[string]string{"1.conflist": strings.Replace(chained, `{"type":"ptp"},`, "", 1)}, nil, "no plugin that makes a network"},
		{"no name", map[string]string{"1.conflist": strings.Replace(plain, `"name":"n",`, "", 1)}, nil, "it has no name"},
		{"a list by the wrong name", map[string]string{"1.conf": plain}, nil, "must end in .conflist"},
		{"no JSON", map[string]string{"1.conf": "type: ptp\n", "2.conflist": plain},
			map[string]string{"1.conf": "type: ptp\n", "2.conflist": chained}, "chained in 2.conflist; 1.conf: malformed"},
		{"something behind it", map[string]string{"1.conflist": plain + "{}"}, nil, "something follows"},
		{"a list in the way", map[string]string{"1.conf": single, "1.conflist": plain}, nil, "1.conflist, which is another's"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, test.in)
			r.look()
			want := test.want
			if want == nil {
				want = test.in
			}
			sameFiles(t, files(t, r.opts.ConfDir), want)
			if s := r.Status().String(); !strings.Contains(s, test.status) {
				t.Errorf("status is %q, want %q in it", s, test.status)
			}
		})
	}
}

// TestSingle is about a configuration of one plugin, whose place a list takes.
func TestSingle(t *testing.T) {
	r := newRig(t, map[string]string{"1-n.conf": single})
	r.look()
	list := r.text("1-n.conflist")
	sameFiles(t, files(t, r.opts.ConfDir), map[string]string{"1-n.conflist": list, "1-n.conf.dubway": single})
	// The CNI writes its file again: it would come first.
	changed := strings.Replace(single, "ptp", "bridge", 1)
	r.put("1-n.conf", changed)
	r.look()
	list = r.text("1-n.conflist")
	sameFiles(t, files(t, r.opts.ConfDir), map[string]string{"1-n.conflist": list, "1-n.conf.dubway": changed})
	if !strings.Contains(list, `"bridge"`) || r.Status().File != "1-n.conflist" {
		t.Errorf("list is %s (%s)", list, r.Status())
	}
	// It writes it, and we are removed before we see it.
	r.put("1-n.conf", single)
	if err := r.Remove(); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, files(t, r.opts.ConfDir), map[string]string{"1-n.conf": single})
	// Somebody chained himself into the list: his work stays.
	r = newRig(t, map[string]string{"1-n.conf": single})
	r.look()
	l, err := parseList([]byte(r.text("1-n.conflist")))
	if err != nil {
		t.Fatal(err)
	}
	r.put("1-n.conflist", string(splice(l.text, l.plugins[1].end, l.plugins[1].end, []byte(`,{"type":"other"}`))))
	if err := r.Remove(); err != nil {
		t.Fatal(err)
	}
	left := files(t, r.opts.ConfDir)
	if len(left) != 1 || strings.Contains(left["1-n.conflist"], entry.Type) || !strings.Contains(left["1-n.conflist"], `"other"`) {
		t.Errorf("left is %q", left)
	}
}

// TestRemoveChanged takes our element out of files that others wrote meanwhile.
func TestRemoveChanged(t *testing.T) {
	reformatted := "{ \"plugins\" : [\n{ \"type\":\"dubway-cni\" ,\"mode\": \"closed\"},\n {\"type\":\"ptp\", \"mtu\": 1e3}\n], \"name\":\"n\" }"
	r := newRig(t, map[string]string{
		"1.conflist": reformatted,
		"2.conflist": strings.TrimSuffix(chained, "]}") + `, {"type":"istio-cni"} ]}`,
		"3.conflist": `{"plugins":[{"type":"dubway-cni"`,
		"4.conf":     single,
	})
	err := r.Remove()
	if err == nil || !strings.Contains(err.Error(), "3.conflist") || !strings.Contains(err.Error(), "by hand") {
		t.Errorf("error is %v", err)
	}
	sameFiles(t, files(t, r.opts.ConfDir), map[string]string{
		"1.conflist": "{ \"plugins\" : [\n{\"type\":\"ptp\", \"mtu\": 1e3}\n], \"name\":\"n\" }",
		"2.conflist": strings.TrimSuffix(plain, "]}") + `, {"type":"istio-cni"} ]}`,
		"3.conflist": `{"plugins":[{"type":"dubway-cni"`,
		"4.conf":     single,
	})
}

// TestReplaceChanged makes the change between our look and our write that would be lost.
func TestReplaceChanged(t *testing.T) {
	r := newRig(t, map[string]string{"1.conflist": "newer"})
	path := filepath.Join(r.opts.ConfDir, "1.conflist")
	if err := replace(path, []byte("older"), []byte("ours")); !errors.Is(err, errChanged) {
		t.Errorf("error is %v", err)
	}
	sameFiles(t, files(t, r.opts.ConfDir), map[string]string{"1.conflist": "newer"})
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 12, 34); err != nil {
		t.Fatal(err)
	}
	if err := replace(path, []byte("newer"), []byte("ours")); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, files(t, r.opts.ConfDir), map[string]string{"1.conflist": "ours"})
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if s := info.Sys().(*syscall.Stat_t); info.Mode() != 0o640 || s.Uid != 12 || s.Gid != 34 {
		t.Errorf("mode %s, owner %d:%d", info.Mode(), s.Uid, s.Gid)
	}
}

// TestLink leaves a link alone, whose target is a path of the host.
func TestLink(t *testing.T) {
	r := newRig(t, nil)
	if err := os.Symlink("/elsewhere/10-n.conflist", filepath.Join(r.opts.ConfDir, "10-n.conflist")); err != nil {
		t.Fatal(err)
	}
	r.look()
	if s := r.Status().String(); !strings.Contains(s, "--cni-conf-dir") {
		t.Errorf("status is %q", s)
	}
}

// TestBinary replaces the plugin while it runs, and only if it is another.
func TestBinary(t *testing.T) {
	r := newRig(t, map[string]string{"1.conflist": plain})
	if err := os.Remove(r.opts.Source); err != nil {
		t.Fatal(err)
	}
	r.look()
	if s := r.Status().String(); r.text("1.conflist") != plain || !strings.Contains(s, "--cni-source") {
		t.Errorf("without a binary: %s", s)
	}
	sleep, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.opts.Source, sleep, 0o600); err != nil {
		t.Fatal(err)
	}
	r.look()
	if r.text("1.conflist") != chained {
		t.Errorf("with it: %s", r.Status())
	}
	running := exec.Command(r.binary.path(), "60")
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = running.Process.Kill()
		_ = running.Wait()
	}()
	first, err := os.Stat(r.binary.path())
	if err != nil {
		t.Fatal(err)
	}
	// Another agent of the same release.
	i, err := New(r.opts)
	if err != nil {
		t.Fatal(err)
	}
	i.look()
	if second, err := os.Stat(r.binary.path()); err != nil || !os.SameFile(first, second) {
		t.Errorf("an equal binary was replaced: %v", err)
	}
	if err := os.WriteFile(r.opts.Source, append(sleep, "newer"...), 0o600); err != nil {
		t.Fatal(err)
	}
	i.look()
	now, err := os.ReadFile(r.binary.path())
	if err != nil || len(now) != len(sleep)+5 || i.Status().String() != "chained in 1.conflist" {
		t.Errorf("%d bytes, %v, %s", len(now), err, i.Status())
	}
	if err := i.Remove(); err != nil || !i.binary.present() {
		t.Errorf("the binary went, which pods may need at their end: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	r := newRig(t, nil)
	for _, change := range []func(*Options){
		func(o *Options) { o.Mode = "off" },
		func(o *Options) { o.Socket = "cni.sock" },
		func(o *Options) { o.Exempt = []string{""} },
		func(o *Options) { o.BinDir = "" },
	} {
		opts := r.opts
		change(&opts)
		if _, err := New(opts); err == nil {
			t.Errorf("accepted %+v", opts)
		}
	}
}

// FuzzList holds the promise of every edit: what it put in, it takes out again, and
// nothing else.
func FuzzList(f *testing.F) {
	for _, text := range []string{plain, chained, single, `{"plugins":[]}`, "{\"plugins\": [\n\t{\n\t\t\"type\":\"a\"\n\t}\n]}", `{"plugins":[{"type":"a"}],"plugins":[ {"type":"b"} , {"type":"c"}]}`} {
		f.Add([]byte(text))
	}
	e := &entry.Entry{Type: entry.Type, Mode: entry.Closed, Socket: "/s"}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parseList(text)
		if err != nil {
			return
		}
		next, err := l.with(e)
		if err != nil {
			return
		}
		with, err := parseList(next)
		if err != nil {
			t.Fatalf("%q became %q: %v", text, next, err)
		}
		if ours := with.ours(); len(ours) != 1 || ours[0] == 0 || !equal(next[with.plugins[ours[0]].start:with.plugins[ours[0]].end], []byte(`{"type":"dubway-cni","mode":"closed","socket":"/s"}`)) {
			t.Fatalf("%q became %q", text, next)
		}
		if again, err := with.with(e); err != nil || string(again) != string(next) {
			t.Fatalf("%q became %q, then %q: %v", text, next, again, err)
		}
		back, err := with.without()
		if err != nil {
			t.Fatal(err)
		}
		bare, err := l.without()
		if err != nil {
			t.Fatal(err)
		}
		if string(back) != string(bare) || len(l.ours()) == 0 && string(back) != string(text) {
			t.Fatalf("%q became %q, and back %q", text, next, back)
		}
	})
}
