package lane

import (
	"strings"
	"testing"
)

func TestBuilds(t *testing.T) {
	const list = "# 6.1.1 #1 SMP\n6.18.44 #1 SMP PREEMPT_DYNAMIC Tue\n\n 6.12.43 #2 SMP\n"
	for build, want := range map[string]bool{
		"6.18.44 #1 SMP PREEMPT_DYNAMIC Tue": true,
		"6.12.43 #2 SMP":                     true,
		"6.18.44 #2 SMP PREEMPT_DYNAMIC Tue": false, // the same release, built anew
		"6.18.44":                            false,
		"6.1.1 #1 SMP":                       false,
		"# 6.1.1 #1 SMP":                     false,
		"":                                   false,
	} {
		if got := lists(list, build); got != want {
			t.Errorf("%q is listed: %t", build, got)
		}
	}
	name, listed, err := Build()
	if err != nil || len(strings.Fields(name)) < 2 || listed != lists(builds, name) {
		t.Errorf("this build is %q, listed %t, %v", name, listed, err)
	}
}
