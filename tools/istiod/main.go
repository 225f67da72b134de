// istiod is Istio's control plane as Istio builds it, from the module of one version,
// for `make e2e-istiod`. It is a module of its own: what it requires is not ours.
package main

import (
	"fmt"
	"os"

	"istio.io/istio/pilot/cmd/pilot-discovery/app"
)

func main() {
	if err := app.NewRootCommand().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
