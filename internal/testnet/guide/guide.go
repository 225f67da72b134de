// Package guide reads the commands of a document, as whoever follows it does: the lines of
// its blocks of sh, in order. Tests hold them against the programs that are meant, and run
// them.
package guide

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Command is one line.
type Command struct {
	Section string // the heading of the second or third level that it stands below
	Line    string // as a shell would read it, lines that end with \ joined
}

// Read returns the commands of a document. Comments are left out.
func Read(path string) ([]Command, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read guide: %w", err)
	}
	commands, err := parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("read guide %s: %w", path, err)
	}
	return commands, nil
}

func parse(text string) (commands []Command, err error) {
	section, fence, joined := "", "", ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case fence == "" && strings.HasPrefix(line, "```"):
			fence = line
			if fence == "```" {
				fence = "```text"
			}
		case fence == "":
			if heading := strings.TrimLeft(line, "#"); len(line)-len(heading) == 2 || len(line)-len(heading) == 3 {
				section = strings.TrimSpace(heading)
			}
		case line == "```":
			if joined != "" {
				return nil, fmt.Errorf("section %q: %q is not finished", section, joined)
			}
			fence = ""
		case fence != "```sh", joined == "" && (strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#")):
		default:
			before, continued := strings.CutSuffix(line, `\`)
			joined += strings.TrimLeft(before, " ")
			if !continued {
				commands = append(commands, Command{Section: section, Line: joined})
				joined = ""
			}
		}
	}
	if fence != "" {
		return nil, fmt.Errorf("section %q: a block is not closed", section)
	}
	return commands, nil
}

// Section returns those below a heading.
func Section(all []Command, heading string) []Command {
	return slices.DeleteFunc(slices.Clone(all), func(c Command) bool { return c.Section != heading })
}

// Lines are the commands alone: what every language's text has in common.
func Lines(all []Command) (lines []string) {
	for _, c := range all {
		lines = append(lines, c.Line)
	}
	return lines
}

// Words takes a line apart as a shell does that knows single quotes and > alone. What comes
// behind a > is left out.
func (c *Command) Words() (words []string) {
	word, begun, quoted := strings.Builder{}, false, false
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for _, r := range c.Line {
		switch {
		case r == '\'':
			quoted, begun = !quoted, true
		case quoted:
			word.WriteRune(r)
		case r == ' ':
			end()
		case r == '>':
			end()
			return words
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	end()
	return words
}
