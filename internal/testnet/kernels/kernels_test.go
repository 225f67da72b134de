package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dubway/dubway/agent/datapath/host"
)

const good = "guest: kernel 6.1.0-57-cloud-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.1.192-3 (2026-11-26)\r\n" +
	`guest: check {"Name":"kernel BTF","OK":true,"Detail":"readable"}` + "\r\n" +
	"guest: begin agent/datapath\r\n=== RUN   TestA\r\n--- PASS: TestA (0.00s)\r\n    --- PASS: TestA/one (0.00s)\r\n" +
	"    --- SKIP: TestA/two (0.00s)\r\nguest: end agent/datapath ok\r\n" +
	"guest: begin bpf\r\n--- PASS: TestB (0.00s)\r\nPASS\r\nguest: end bpf ok\r\nguest: done 2\r\n"

func TestJudge(t *testing.T) {
	l := &line{missing: map[string]string{"agent/datapath TestA/two": noCookie}}
	tests := map[string][]string{"agent/datapath": {"TestA"}, "bpf": {"TestB"}}
	for _, test := range []struct{ name, old, new, want string }{
		{"as it should be", "", "", ""},
		{"a failure", "--- PASS: TestB", "--- FAIL: TestB", "bpf TestB failed"},
		{"a failed subtest", "--- PASS: TestA/one", "--- FAIL: TestA/one", "agent/datapath TestA/one failed"},
		{"a test that did not end", "--- PASS: TestB (0.00s)\r\n", "", "bpf TestB did not come to an end"},
		{"a skip", "--- PASS: TestB", "--- SKIP: TestB", "bpf TestB was skipped"},
		{"a skip that is none", "--- SKIP: TestA/two", "--- PASS: TestA/two", "TestA/two is to be skipped by line.go, and was not"},
		{"a process that died", "end bpf ok", "end bpf exit status 2", `ended with "exit status 2"`},
		{"a package that is not there", "guest: end bpf ok\r\n", "", `ended with ""`},
		{"no closing line", "guest: done 2\r\n", "", "the machine ended on the way"},
		{"a package too few", "guest: done 2", "guest: done 1", `counts "1" packages, want 2`},
		{"a probe", `"OK":true`, `"OK":false`, "probe kernel BTF: readable"},
		{"no probe", "guest: check", "guest: chuck", "no probe answered"},
		{"nothing", good, "", "did not boot"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := read(strings.NewReader(strings.Replace(good, test.old, test.new, 1)))
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(r.judge(l, tests), "\n")
			if test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("problems %q, want one with %q", got, test.want)
			}
		})
	}
}

func TestByVersion(t *testing.T) {
	want := []string{
		"linux-image-5.10.0-9-cloud-amd64", "linux-image-5.10.0-46-cloud-amd64", "linux-image-6.12.99+deb12-cloud-amd64",
		"linux-image-6.12.117+deb12-cloud-amd64", "linux-image-6.18.15+deb13-cloud-amd64",
		"linux-image-7.3.4+deb13-cloud-amd64", "linux-binary-7.3.4+deb13-cloud-amd64",
	}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, byVersion)
	if !slices.Equal(got, want) {
		t.Errorf("ordered %q, want %q", got, want)
	}
}

// TestKept takes the newest kernel of a line, and none of another.
func TestKept(t *testing.T) {
	cache := t.TempDir()
	for _, dir := range []string{"6.1/a-6.1.9", "6.1/a-6.1.10", "6.1/a-6.1.11", "6.12/a-6.12.1"} {
		if err := os.MkdirAll(filepath.Join(cache, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"6.1/a-6.1.9", "6.1/a-6.1.10", "6.12/a-6.12.1"} { // one was never finished
		if err := os.MkdirAll(filepath.Join(cache, dir, "modules"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"vmlinuz", "modules/inet_diag.ko", "modules/tcp_diag.ko", "modules/veth.ko"} {
			if err := os.WriteFile(filepath.Join(cache, dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if k, ok := lineOf("6.1").kept(cache); !ok || k.image != filepath.Join(cache, "6.1/a-6.1.10/vmlinuz") {
		t.Errorf("kept %+v, %t", k, ok)
	}
	if err := os.Remove(filepath.Join(cache, "6.12/a-6.12.1/modules/tcp_diag.ko")); err != nil {
		t.Fatal(err)
	}
	if k, ok := lineOf("6.12").kept(cache); ok {
		t.Errorf("kept %+v without a module", k)
	}
	if k, ok := lineOf("5.10").kept(cache); ok {
		t.Errorf("kept %+v of a line that is not there", k)
	}
}

// TestMissingAreTests: what line.go allows to be skipped exists.
func TestMissingAreTests(t *testing.T) {
	for _, l := range lines {
		for name, why := range l.missing {
			room, test, _ := strings.Cut(name, " ")
			test, _, _ = strings.Cut(test, "/")
			files, err := filepath.Glob(filepath.Join("../../..", room, "*_test.go"))
			if err != nil || why == "" {
				t.Fatalf("%s: %v, because of %q", name, err, why)
			}
			if !slices.ContainsFunc(files, func(file string) bool {
				text, err := os.ReadFile(file)
				return err == nil && strings.Contains(string(text), "func "+test+"(")
			}) {
				t.Errorf("%s may skip %s, which is no test", l.name, name)
			}
		}
	}
}

// TestOf leaves out what a kernel has no use for, and nothing that is only called alike.
func TestOf(t *testing.T) {
	s := &suite{tests: map[string][]string{"a/lane": {"TestA"}, "a/lane/deep": {"TestB"}, "a/lanes": {"TestC"}, "a": {"TestD"}}}
	own := s.of(&line{without: map[string]string{"a/lane": noLane}})
	slices.Sort(own.left)
	if len(own.tests) != 2 || own.tests["a/lanes"] == nil || own.tests["a"] == nil || !slices.Equal(own.left, []string{"a%2Flane", "a%2Flane%2Fdeep"}) {
		t.Errorf("run %v, left %v", own.tests, own.left)
	}
	if all := s.of(&line{}); len(all.tests) != 4 || all.left != nil {
		t.Errorf("run %v, left %v", all.tests, all.left)
	}
	for _, l := range lines {
		for room := range l.without {
			if _, err := os.Stat(filepath.Join("../../..", room)); err != nil {
				t.Errorf("%s is without %s: %v", l.name, room, err)
			}
		}
	}
}

func TestTable(t *testing.T) {
	var checks []host.Check
	for _, name := range features() {
		checks = append(checks, host.Check{Name: name, OK: true})
	}
	other := slices.Clone(checks)
	other[0].OK, other[1].Choice = false, "cookie"
	got := table([]finding{
		{&line{missing: map[string]string{"a": noMPTCP, "b": noMPTCP, "c": noCookie}}, &report{version: "5.10.1", checks: checks[1:]}},
		{&line{}, &report{version: "6.1.2", checks: other}},
	})
	for _, want := range []string{
		"| dubwayctl doctor | Linux 5.10.1 | Linux 6.1.2 |\n|---|---|---|\n",
		"| " + checks[0].Name + " | not asked | no |\n",
		"| " + checks[1].Name + " | yes | cookie |\n",
		"| tests of the data path | pass, without " + noMPTCP + ", " + noCookie + " | pass |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the table has no %q:\n%s", want, got)
		}
	}
}

func TestWriteTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "d.md")
	if err := os.WriteFile(file, []byte("before\n"+tableBegin+"old\n"+tableEnd+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := writeTable(file, "new\n"); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "before\n"+tableBegin+"new\n"+tableEnd+"after\n" {
		t.Errorf("written %q (%v)", text, err)
	}
	if err := os.WriteFile(file, []byte("no table\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeTable(file, "new\n"); err == nil || !strings.Contains(err.Error(), "it has no lines") {
		t.Errorf("a document without a place for the table: %v", err)
	}
}

// TestDocumentIsOfThisBuild: the table of docs/kernels.md has the rows and columns that
// this build would write, and says of no kernel that it lacks something.
func TestDocumentIsOfThisBuild(t *testing.T) {
	text, err := os.ReadFile("../../../docs/kernels.md")
	if err != nil {
		t.Fatal(err)
	}
	_, written, _, err := splitTable(string(text))
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSpace(written), "\n")
	want := slices.Concat([]string{"dubwayctl doctor", "---"}, features(), []string{"tests of the data path"})
	if len(rows) != len(want) {
		t.Fatalf("%d rows, want %d: run make kernel-matrix-all", len(rows), len(want))
	}
	for i, text := range rows {
		cells := strings.Split(strings.Trim(text, "|"), "|")
		if strings.TrimSpace(cells[0]) != want[i] || len(cells) != 1+len(lines) {
			t.Errorf("row %q, want %q and %d kernels: run make kernel-matrix-all", text, want[i], len(lines))
			continue
		}
		for j, cell := range cells[1:] {
			switch cell = strings.TrimSpace(cell); {
			case i == 0 && lines[j].name != newest && !strings.HasPrefix(cell, "Linux "+lines[j].name+"."):
				t.Errorf("column %q, want Linux %s: run make kernel-matrix-all", cell, lines[j].name)
			case cell == "" || cell == "no" || cell == "not asked":
				t.Errorf("row %q: a kernel does not pass", text)
			}
		}
	}
}
