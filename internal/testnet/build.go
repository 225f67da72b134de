package testnet

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// Build compiles the program in a directory into a file, without cgo, so that it
// runs wherever it is copied to.
func Build(ctx context.Context, dir, output string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", output, ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", dir, err, text)
	}
	return nil
}
