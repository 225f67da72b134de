package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

func TestExitStatus(t *testing.T) {
	tests := []struct {
		name   string
		err    error
		status int
		says   string
	}{
		{"no error", nil, 0, ""},
		{"an error", errors.New("no demo is up"), 1, "dubwayctl: no demo is up\n"},
		{"the user's command failed", commandEnd(fmt.Errorf("run: %w", exec.Command("sh", "-c", "exit 7").Run())), 7, ""},
		{"it was killed", commandEnd(exec.Command("sh", "-c", "kill -9 $$").Run()), 1, "dubwayctl: signal: killed\n"},
		{"it did not start", commandEnd(errors.New("no demo is up")), 1, "dubwayctl: no demo is up\n"},
		{"it ended well", commandEnd(nil), 0, ""},
		{"a command of ours failed", fmt.Errorf("build: %w", exec.Command("sh", "-c", "exit 7").Run()), 1, "dubwayctl: build: exit status 7\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var said strings.Builder
			if got := exitStatus(test.err, &said); got != test.status || said.String() != test.says {
				t.Errorf("exit status %d, says %q; want %d, %q", got, said.String(), test.status, test.says)
			}
		})
	}
}

func TestPodCommand(t *testing.T) {
	tests := []struct {
		args    string
		pod     string
		command string // "" for an error
	}{
		{"consumer -- ls -l --", "consumer", "ls -l --"},
		{"consumer ls -l", "consumer", "ls -l"},
		{"consumer -- -x", "consumer", "-x"},
		{"consumer --", "", ""},
		{"consumer", "", ""},
		{"", "", ""},
	}
	for _, test := range tests {
		pod, command, err := podCommand(strings.Fields(test.args))
		if pod != test.pod || strings.Join(command, " ") != test.command || (err == nil) != (test.command != "") {
			t.Errorf("%q is split into %q, %q, %v", test.args, pod, command, err)
		}
	}
}
