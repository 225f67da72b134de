package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dubway/dubway/agent/datapath/host"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"dubway-agent": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: elsewhere,
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Getuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
	})
}

// elsewhere makes an empty cgroup that nothing of the test runs in, ELSEWHERE.
func elsewhere(env *testscript.Env) error {
	root, err := host.FindCgroupRoot()
	if err != nil || os.Getuid() != 0 {
		return nil //nolint:nilerr // the scripts that need it say why they cannot run
	}
	dir := filepath.Join(root, fmt.Sprintf("dubway-elsewhere-%d-%s", os.Getpid(), filepath.Base(env.WorkDir)))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make cgroup: %w", err)
	}
	env.Setenv("ELSEWHERE", dir)
	env.Defer(func() { _ = os.Remove(dir) })
	return nil
}
