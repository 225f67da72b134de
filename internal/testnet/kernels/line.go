package main

import "strings"

// line is one of the kernels that the matrix runs.
type line struct {
	name  string // as the command line and the table name it
	suite string // of Debian, that has it
	// packages is a regular expression of apt's: of those with such a name the newest is
	// taken. Since 6.19 image and modules are in packages of their own.
	packages string
	// missing are the tests that this kernel has no use for, by package and name, each with
	// what it lacks. Every other skip is a failure, and so is a test here that runs.
	missing map[string]string
	// without are the packages, with those below them, that this kernel has no use for, each
	// with what it lacks: they are not run there.
	without map[string]string
}

// has tells whether the tests of a package are run.
func (l *line) has(room string) bool {
	for name := range l.without {
		if room == name || strings.HasPrefix(room, name+"/") {
			return false
		}
	}
	return true
}

// What kernels lack.
const (
	noMPTCP  = "MPTCP (CONFIG_MPTCP)"
	noCookie = "the netns cookie in sockops programs (5.15)"
	noErrno  = "the choice of a refused connect's error (6.0)"
	noLane   = "lanes (6.1)"
)

// lines are all that there are, oldest first.
var lines = []line{
	{
		name: "5.10", suite: "bullseye-security", packages: `^linux-image-5\.10\..*-cloud-amd64$`,
		missing: map[string]string{
			"agent/datapath TestMPTCPListenerIsRefused":                       noMPTCP,
			"agent/datapath TestMPTCPClient":                                  noMPTCP,
			"agent/datapath TestSteerShowsEverybodyTheOtherEnd/byInode=false": noCookie,
			"agent/datapath TestUnknownDestinations/setErrno=true":            noErrno,
			"agent/datapath TestUnknownIsRefusedByEveryWay/setErrno=true":     noErrno,
		},
		without: map[string]string{"agent/datapath/lane": noLane},
	},
	{name: "6.1", suite: "bookworm-security", packages: `^linux-image-6\.1\.0-[0-9]+-cloud-amd64$`},
	{name: "6.12", suite: "bookworm-security", packages: `^linux-image-6\.12\..*-cloud-amd64$`},
	{name: newest, suite: "trixie-backports", packages: `^linux-(image|binary)-[0-9.]+\+deb13-cloud-amd64$`},
}

// newest is the name of the line that moves.
const newest = "newest"

// lineOf returns nil for a name that no line has.
func lineOf(name string) *line {
	for i := range lines {
		if lines[i].name == name {
			return &lines[i]
		}
	}
	return nil
}
