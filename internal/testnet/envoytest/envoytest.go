// Package envoytest finds the stock Envoy that stands for Istio's sidecars in tests.
package envoytest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
)

// Binary builds, or finds, the real Envoy. It is for tests two folders below internal.
var Binary = sync.OnceValues(func() (string, error) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		return "", fmt.Errorf("find repository: %w", err)
	}
	if text, err := exec.Command("make", "-C", root, "build/peers/envoy").CombinedOutput(); err != nil {
		return "", fmt.Errorf("get Envoy: %w: %s", err, text)
	}
	return filepath.Join(root, "build", "peers", "envoy"), nil
})
