// Package lack is how the agent asks whether the way of a pod's calls works, over that
// way itself (Asked), and what the proxy's answer may say is missing: a closed set, so
// that the agent compares bytes and parses none.
package lack

import "fmt"

// Lack is what a workload lacks until its calls go by its own configuration.
type Lack string

// The answers.
const (
	None    Lack = ""        // what it sees is in force, in the proxy and in the kernel
	View    Lack = "view"    // the proxy was not told yet what it sees
	Plane   Lack = "plane"   // nor will be, while the control plane is away: nothing was kept
	Table   Lack = "table"   // what it sees is not in force in the kernel yet
	Refused Lack = "refused" // nor will be: the agent refused it, or there are too many tables
)

// All returns every Lack, None first.
func All() []Lack { return []Lack{None, View, Plane, Table, Refused} }

// Answer is all that a connection to one of Asked reads, whoever made it: it says
// that the proxy took it for one of this workload. It is no secret.
func (l Lack) Answer(uid string) []byte {
	if l == None {
		return []byte("dubway: the way of " + uid + "\n")
	}
	return fmt.Appendf(nil, "dubway: the way of %s lacks its %s\n", uid, string(l))
}

// Of tells which answer for a workload some bytes are; false if they are none.
func Of(uid string, answer []byte) (Lack, bool) {
	for _, l := range All() {
		if string(answer) == string(l.Answer(uid)) {
			return l, true
		}
	}
	return None, false
}

// Longest is the length of the longest answer for a workload, in bytes.
func Longest(uid string) int {
	n := 0
	for _, l := range All() {
		n = max(n, len(l.Answer(uid)))
	}
	return n
}
