package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/dubway/dubway/agent/datapath/host"
)

// report is what a machine said.
type report struct {
	version  string // of the kernel, as Debian numbers it: 6.1.192
	checks   []host.Check
	outcomes map[string]string // PASS, FAIL or SKIP, by package and name of a test
	ends     map[string]string // "ok", or how the process of a package's tests ended
	packages string            // how many the closing line counts; "" without that line
}

var (
	versionLine = regexp.MustCompile(`^guest: kernel \S+ .*Debian ([0-9.]+)`)
	endLine     = regexp.MustCompile(`^guest: end (\S+) (.*)$`)
	outcomeLine = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (\S+) \(`)
)

// read takes a report apart. It refuses nothing: what is missing judge finds.
func read(r io.Reader) (*report, error) {
	found := &report{outcomes: map[string]string{}, ends: map[string]string{}}
	room := ""
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		text := strings.TrimRight(lines.Text(), "\r")
		if match := versionLine.FindStringSubmatch(text); match != nil {
			found.version = match[1]
		}
		if check, ok := strings.CutPrefix(text, "guest: check "); ok {
			var c host.Check
			if err := json.Unmarshal([]byte(check), &c); err != nil {
				return nil, fmt.Errorf("read check: %w", err)
			}
			found.checks = append(found.checks, c)
		}
		if begun, ok := strings.CutPrefix(text, "guest: begin "); ok {
			room = begun
		}
		if match := outcomeLine.FindStringSubmatch(text); match != nil {
			found.outcomes[room+" "+match[2]] = match[1]
		}
		if match := endLine.FindStringSubmatch(text); match != nil {
			found.ends[match[1]] = match[2]
		}
		if count, ok := strings.CutPrefix(text, "guest: done "); ok {
			found.packages = count
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	return found, nil
}

// judge lists what is wrong with a report: nothing, if every test that was packed has
// passed, but for those that the line lists as missing, and every probe as well.
func (r *report) judge(l *line, tests map[string][]string) []string {
	var problems []string
	report := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if r.version == "" {
		report("the kernel did not tell its version: it did not boot")
	}
	if len(r.checks) == 0 {
		report("no probe answered")
	}
	for _, c := range r.checks {
		if !c.OK {
			report("probe %s: %s", c.Name, c.Detail)
		}
	}
	for _, room := range slices.Sorted(maps.Keys(tests)) {
		for _, name := range tests[room] {
			if r.outcomes[room+" "+name] == "" {
				report("%s %s did not come to an end", room, name)
			}
		}
		if end := r.ends[room]; end != "ok" {
			report("the tests of %s ended with %q", room, end)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.outcomes)) {
		switch _, allowed := l.missing[name]; {
		case r.outcomes[name] == "FAIL":
			report("%s failed", name)
		case r.outcomes[name] == "SKIP" && !allowed:
			report("%s was skipped, which line.go does not allow", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.missing)) {
		if r.outcomes[name] != "SKIP" {
			report("%s is to be skipped by line.go, and was not", name)
		}
	}
	if want := fmt.Sprint(len(tests)); r.packages != want {
		report("the closing line counts %q packages, want %s: the machine ended on the way", r.packages, want)
	}
	return problems
}

// count returns how many tests, with subtests, had an outcome.
func (r *report) count(outcome string) int {
	n := 0
	for _, o := range r.outcomes {
		if o == outcome {
			n++
		}
	}
	return n
}
