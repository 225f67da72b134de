//go:build e2e

package istiod_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// planned is a case of testdata/plan/cases.yaml.
type planned struct {
	name, refused string
	objects       string
}

// cases reads them.
func cases(t *testing.T) (all []planned) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "plan", "cases.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		var head struct{ Case, Refused string }
		if err := yaml.Unmarshal([]byte(document), &head); err != nil {
			t.Fatal(err)
		}
		if head.Case != "" {
			all = append(all, planned{name: head.Case, refused: head.Refused})
			continue
		}
		last := &all[len(all)-1]
		last.objects += "---\n" + document + "\n"
	}
	return all
}

// plans: what dubwayctl plan says of an object, before anything is enrolled, is what the proxy
// says to istiod when it is there.
func (w *world) plans() {
	const vip = "198.19.0.60"
	defer w.with("plan/base")()
	ctl := filepath.Join(meshtest.Binaries, "dubwayctl")
	w.settled("without a policy", at(vip, "buy"), map[string]int{"v1": 10})
	w.generates(ctl)
	whole := w.T
	for _, c := range cases(w.T) {
		whole.Run(c.name, func(t *testing.T) {
			defer func() { w.T = whole }()
			w.T = t
			if said := w.rejectedFields(ctl, c); (len(said) > 0) != (c.refused != "") {
				t.Errorf("the plan says that these are rejected: %v; the proxy is to refuse %q", said, c.refused)
			}
			before := w.generations()
			w.apply(c.objects)
			if c.refused != "" {
				w.refuses(c.refused)
			} else {
				w.Eventually("the proxy is told", func() bool { return w.generations() > before })
				w.settled("taken", at(vip, "buy"), map[string]int{"v1": 10})
			}
			w.accepted()
			w.Must(w.plane.API.Delete(w.Ctx, c.objects))
			w.settled("without it", at(vip, "buy"), map[string]int{"v1": 10})
		})
	}
}

// generations counts what has come to hold in the views.
func (w *world) generations() (n uint64) {
	w.T.Helper()
	for _, v := range w.views() {
		n += v.Generation
	}
	return n
}

// generates: the API takes what dubwayctl generate services writes, and calls to the pods' own
// addresses are then the Service's.
func (w *world) generates(ctl string) {
	w.T.Helper()
	out, err := exec.CommandContext(w.Ctx, ctl, "generate", "services", "-n", "shop", "--from-pods", "app=provider",
		"--from", "testdata/plan/pods.yaml").Output()
	w.Must(err)
	counted := func() int {
		return w.Sum("istio_requests_total{", `destination_service_name="provider"`, `reporter="source"`)
	}
	before := counted()
	w.apply(string(out))
	w.Eventually("calls to a pod are the Service's", func() bool {
		w.calls(1, at(w.v1.Addresses[0].String(), "buy"))
		return counted() > before
	})
	w.settled("the pod that was dialled", at(w.v1.Addresses[0].String(), "buy"), map[string]int{"v1": 10})
	w.Must(w.plane.API.Delete(w.Ctx, string(out)))
}

// rejectedFields are those of which the plan says so.
func (w *world) rejectedFields(ctl string, c planned) (fields []string) {
	w.T.Helper()
	file := filepath.Join(w.T.TempDir(), "case.yaml")
	w.Must(os.WriteFile(file, []byte(c.objects), 0o600))
	from := "testdata/plan/base.yaml,testdata/plan/pods.yaml," + file
	out, err := exec.CommandContext(w.Ctx, ctl, "plan", "-n", "shop", "--from", from, "-o", "json").Output()
	var document struct {
		Policies []struct {
			Findings []struct {
				Field, Effect string
				Blocks        bool
			}
		}
	}
	if wrong := json.Unmarshal(out, &document); wrong != nil {
		w.T.Fatalf("dubwayctl plan: %v: %v: %s", err, wrong, out)
	}
	blocks := false
	for _, p := range document.Policies {
		for _, f := range p.Findings {
			if f.Effect == "rejected" {
				fields = append(fields, f.Field)
			}
			blocks = blocks || f.Blocks
		}
	}
	if blocks != (err != nil) {
		w.T.Errorf("something blocks: %v; its end: %v", blocks, err)
	}
	return fields
}
