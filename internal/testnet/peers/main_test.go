package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// built is where the peers are; written once, by TestMain.
var built string //nolint:gochecknoglobals // built once for all tests

func TestMain(m *testing.M) {
	testnet.Dispatch(map[string]testnet.Helper{"raw": raw, "flood": flood, "bytes": sendBytes})
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(meshtest.Main(m, "pe", "pe2", "pe3", "pe4"))
}

// build brings the peers up to date; make knows what has changed.
func build() error {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(out)))
	built = filepath.Join(root, "build", "peers")
	if text, err := exec.Command("make", "-C", root, "peers").CombinedOutput(); err != nil {
		return fmt.Errorf("build the peers: %w\n%s", err, text)
	}
	return nil
}
