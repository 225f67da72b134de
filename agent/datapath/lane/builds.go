package lane

import (
	_ "embed"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

//go:embed builds.txt
var builds string

// Build names the kernel that runs, and tells whether the soak has passed on it.
func Build() (name string, listed bool, err error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", false, fmt.Errorf("ask for the kernel's build: %w", err)
	}
	name = unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Version[:])
	return name, lists(builds, name), nil
}

// lists tells whether one of the lines of a text is a build.
func lists(text, build string) bool {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && line == build && !strings.HasPrefix(line, "#") {
			return true
		}
	}
	return false
}
