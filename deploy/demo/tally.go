package demo

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// tally counts what the consumer printed: calls by method and by who answered.
type tally struct {
	answers map[string]map[string]int // method, version
	failed  int
	errors  []string // the first few
}

// total is the number of calls that were answered.
func (t *tally) total() (n int) {
	for _, versions := range t.answers {
		for _, calls := range versions {
			n += calls
		}
	}
	return n
}

// version is the number of answers of a version, to a method or to all ("").
func (t *tally) version(method, version string) (n int) {
	for name, versions := range t.answers {
		if method == "" || name == method {
			n += versions[version]
		}
	}
	return n
}

// String is the tally for people: "398 calls: v1 361 (91 %), v2 37 (9 %), 0 failed".
func (t *tally) String() string {
	return fmt.Sprintf("%4d calls: %s, %d failed", t.total()+t.failed, t.shares(""), t.failed)
}

// shares tells who answered a method, or all.
func (t *tally) shares(method string) string {
	versions := map[string]bool{}
	sum := 0
	for name, answers := range t.answers {
		if method != "" && name != method {
			continue
		}
		for version, calls := range answers {
			versions[version] = true
			sum += calls
		}
	}
	var parts []string
	for _, version := range slices.Sorted(maps.Keys(versions)) {
		calls := t.version(method, version)
		parts = append(parts, fmt.Sprintf("%s %d (%d %%)", version, calls, (100*calls+sum/2)/sum))
	}
	if len(parts) == 0 {
		return "nobody answered"
	}
	return strings.Join(parts, ", ")
}

// reader reads on in the consumer's output.
type reader struct {
	path   string
	offset int64
}

// read counts what was printed since the last read.
func (r *reader) read() (*tally, error) {
	t := &tally{answers: map[string]map[string]int{}}
	file, err := os.Open(r.path)
	if err != nil {
		return t, fmt.Errorf("read consumer: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return t, fmt.Errorf("read consumer: %w", err)
	}
	content := make([]byte, info.Size()-r.offset)
	if _, err := file.ReadAt(content, r.offset); err != nil && len(content) > 0 {
		return t, fmt.Errorf("read consumer: %w", err)
	}
	// A line that is still being written waits for the next read.
	content = content[:bytes.LastIndexByte(content, '\n')+1]
	r.offset += int64(len(content))
	for line := range strings.Lines(string(content)) {
		t.line(strings.Fields(line))
	}
	return t, nil
}

// line counts one line: "TIME METHOD VERSION MICROSECONDS" or "TIME METHOD error TEXT".
func (t *tally) line(fields []string) {
	if len(fields) < 4 {
		return
	}
	method, version := fields[1], fields[2]
	if version == "error" {
		t.failed++
		if len(t.errors) < 3 {
			t.errors = append(t.errors, strings.Join(fields[1:], " "))
		}
		return
	}
	if t.answers[method] == nil {
		t.answers[method] = map[string]int{}
	}
	t.answers[method][version]++
}
