package handoff

import "path/filepath"

// Socket is the path of the handoff socket in a state directory.
func Socket(stateDir string) string { return filepath.Join(stateDir, "agent", "handoff.sock") }
