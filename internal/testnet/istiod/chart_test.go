//go:build e2e

package istiod_test

import (
	"os"
	"strings"
)

// helmTest: the address that the chart's `helm test` calls below istiod is the provider's, and
// exists in the mesh alone.
func (w *world) helmTest() {
	rendered, err := os.ReadFile("../../../deploy/chart/testdata/istiod.golden.yaml")
	w.Must(err)
	var entry string
	for document := range strings.SplitSeq(string(rendered), "\n---\n") {
		if strings.Contains(document, "\nkind: ServiceEntry\n") {
			entry = strings.NewReplacer(
				"namespace: default", "namespace: shop",
				"app.kubernetes.io/name: dubway-test-provider, app.kubernetes.io/instance: dubway}", "app: provider}",
			).Replace(document)
		}
	}
	w.apply(entry)
	defer func() { w.Must(w.plane.API.Delete(w.Ctx, entry)) }()
	const nowhere = "240.0.208.80"
	w.both(at(nowhere, "echo"))
	if r := w.calls(1, at(nowhere, "echo").ofStranger()); r.By["connect"] != 1 {
		w.T.Errorf("a pod that is not part of the mesh: %v %q", r.By, r.Errors)
	}
}
