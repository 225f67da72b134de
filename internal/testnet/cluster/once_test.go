//go:build e2e

package cluster_test

// done is what once has done: images stay on the nodes' disks as long as the cluster.
var done = map[string]bool{} //nolint:gochecknoglobals // of the one cluster of all tests

// once does something for the first test that asks for it. Tests run one after another.
func (w *world) once(what string, do func()) {
	w.Helper()
	if done[what] {
		return
	}
	do() // or the test ends here
	done[what] = true
}
