// Package version holds the release name of the binaries. It holds nothing
// about wire or seam versions: those live beside the seam that they version.
package version

// Version is the release, "X.Y.Z-dev" between releases.
const Version = "0.1.0-dev"
