//go:build e2e

package cluster_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet/cluster"
	"github.com/dubway/dubway/internal/testnet/guide"
)

// guides are those whose commands are given here, and whose Chinese texts have the same.
var guides = []string{"install.md", "adopt.md", "observe.md", "troubleshoot.md"} //nolint:gochecknoglobals // a constant that Go cannot say

// elsewhere are the guides' commands that are not given here, and why.
var elsewhere = map[string]string{ //nolint:gochecknoglobals // the same
	"make build": "make e2e has done it",
	`ln -sf "$PWD/bin/dubwayctl" /usr/local/bin/dubwayctl`:                                                                 "Cluster.Operator gives the names, where no machine has to be changed",
	`ln -sf "$PWD/bin/dubwayctl" /usr/local/bin/kubectl-dubway`:                                                            "the same",
	"kubectl -n istio-system set env deployment/istiod CA_TRUSTED_NODE_ACCOUNTS=istio-system/ztunnel,dubway-system/dubway": "there is no istiod: internal/testnet/istiod starts a real one with this variable, and make chart-check gives the command to a real API server",
	"helm install dubway deploy/chart -n dubway-system --wait --set xds.mode=istiod":                                       "the same: make chart-check has Helm render it, and the binaries read what comes of it",
	"helm test dubway -n dubway-system":                                                                                    "TestMesh gives it",
}

// TestGuides follows the guides one after the other: whoever does what they say installs the
// mesh, has a namespace of theirs join it, sees what it does, mends it, and has none at the end.
// No call of that namespace is lost on the way.
func TestGuides(t *testing.T) {
	w := begin(t)
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	t.Cleanup(cancel)
	w.ctx = ctx
	t.Cleanup(w.clear)
	w.step("image imported", w.release)
	r := w.reader()
	r.installs()
	r.fleet()
	r.adopts()
	r.observes()
	r.goesBack()
	r.mends()
	r.uninstalls()
	r.complete()
}

// reader follows the guides, in a folder that has what a checkout has of files that they name.
type reader struct {
	*world

	dir      string
	guides   map[string][]guide.Command // by the name of their file
	given    map[string]bool            // lines
	operator *cluster.Operator
	values   string            // a file for the chart
	shop     string            // the xDS file of namespace shop, once it is another than the guide's
	mended   string            // the pod that a guide calls POD
	revision string            // the release's that it calls REVISION
	shaped   map[string]string // lines that do not end by themselves, or not with status 0
}

// reader opens the guides.
func (w *world) reader() *reader {
	w.Helper()
	r := &reader{world: w, dir: w.TempDir(), guides: map[string][]guide.Command{}, given: map[string]bool{}, values: w.nodeValues(), shaped: shaped()}
	for _, name := range guides {
		commands, err := guide.Read(filepath.Join(w.checkout(), "docs", name))
		w.must(err)
		r.guides[name] = commands
	}
	w.must(os.Symlink(filepath.Join(w.checkout(), "deploy"), filepath.Join(r.dir, "deploy")))
	var err error
	r.operator, err = w.Operator(r.dir, filepath.Join(w.checkout(), "bin/dubwayctl"))
	w.must(err)
	return r
}

// told is what becomes of a command: what it must say, and what is to be waited for or looked at
// after it.
type told struct {
	says []string
	then func(said string)
	done bool // it was given before, where the guide says one or the other
}

// follow gives the commands of a guide's section in order. Each line of the table is one of them.
func (r *reader) follow(name, section string, table map[string]told) {
	r.Helper()
	lines := guide.Lines(guide.Section(r.guides[name], section))
	if len(lines) == 0 {
		r.Fatalf("docs/%s has no commands in section %q", name, section)
	}
	for line := range table {
		if !slices.Contains(lines, line) {
			r.Errorf("section %q of docs/%s has no command %q", section, name, line)
		}
	}
	for _, line := range lines {
		if table[line].done {
			continue
		}
		said := r.give(line)
		for _, part := range table[line].says {
			if !strings.Contains(said, part) {
				r.Errorf("%s does not say %q, but\n%s", line, part, said)
			}
		}
		if then := table[line].then; then != nil {
			then(said)
		}
	}
}

// give gives one command of the guides, as somebody with this cluster writes it.
func (r *reader) give(line string) (said string) {
	r.Helper()
	r.given[line] = true
	r.step(line, func() { said = r.shell(r.written(line)) })
	return said
}

// shell gives any command.
func (r *reader) shell(line string) string {
	r.Helper()
	said, err := r.operator.Shell(r.ctx, line)
	r.must(err)
	return said
}

// written is a line of a guide as somebody with this cluster writes it.
func (r *reader) written(line string) string {
	if other, ok := r.shaped[line]; ok {
		line = other
	}
	if strings.HasPrefix(line, "helm ") && strings.Contains(line, "deploy/chart") {
		line += " --values " + r.values
	}
	if r.shop != "" {
		line = strings.ReplaceAll(line, "=deploy/quickstart/", "="+r.shop+"/")
	}
	return strings.NewReplacer("--node NODE", "--node n1", "worker-1", "n1", "pod POD ", "pod "+r.mended+" ", " REVISION ", " "+r.revision+" ",
		"10.96.0.20:", stock+":", "zookeeper.infra:2181", "127.0.0.1:2181").Replace(line)
}

// complete wants every command of the guides to have been given, but for those of elsewhere.
func (r *reader) complete() {
	r.Helper()
	for name, commands := range r.guides {
		for _, line := range guide.Lines(commands) {
			if _, other := elsewhere[line]; !r.given[line] && !other {
				r.Errorf("docs/%s: nobody gave the command %q", name, line)
			}
		}
	}
	for line := range maps.Keys(elsewhere) {
		if !slices.ContainsFunc(guides, func(name string) bool { return slices.Contains(guide.Lines(r.guides[name]), line) }) {
			r.Errorf("no guide has the command %q", line)
		}
	}
}

// shaped are commands that a person ends, or whose status says something: which lines of them
// are enough.
func shaped() map[string]string {
	all := map[string]string{
		// Differences are status 1.
		"kubectl diff -f services.yaml": "kubectl diff -f services.yaml || test $? = 1",
	}
	for endless, lines := range map[string]int{"kubectl dubway tap --pod shop/orders-0": 3, "kubectl dubway top --node NODE": 8} {
		all[endless] = fmt.Sprintf("%s | head -n %d", endless, lines)
	}
	// Nobody may be so slow: it is asked to end, as by Ctrl-C.
	slow := "kubectl dubway tap --pod shop/orders-0 --slower-than 50ms -o json"
	all[slow] = "timeout --signal=INT 3 " + slow + " || test $? = 124"
	forward := "kubectl -n dubway-system port-forward daemonset/dubway 15020"
	all[forward] = beside(forward, "pod get http://127.0.0.1:15020/metrics")
	registry := "kubectl dubway generate services --from-registry zookeeper://zookeeper.infra:2181 -n shop > services.yaml"
	all[registry] = beside("kubectl -n infra port-forward pod/zookeeper 2181", registry)
	return all
}

// beside gives a line while another one forwards a port.
func beside(forward, line string) string {
	return forward + " > forwarded 2>&1 & trap 'kill $!' EXIT; until grep -q Forwarding forwarded; do sleep 0.1; done; " + line
}
