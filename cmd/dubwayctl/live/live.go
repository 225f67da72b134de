// Package live holds the commands that show requests while they happen: tap, one
// by one, and top, added up. They read what the proxy streams over its admin
// socket; bodies are decoded here, by package values, and not in the proxy.
package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/internal/admin"
)

// Params is what the commands take from dubwayctl.
type Params struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Proxy          func() *admin.Client // to be closed by whoever asked
	JSON           func() bool          // whether -o json was given
	// Pods offers the names of pods to the shell.
	Pods func(c *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective)
}

// Commands returns the commands.
func Commands(p *Params) []*cobra.Command {
	all := []*cobra.Command{p.tapCommand(), p.topCommand()}
	for _, c := range all {
		untilEOF := c.Flags().Bool(UntilEOF, false, "end when standard input does")
		c.Flags().MarkHidden(UntilEOF) //nolint:errcheck // errs for an unknown flag alone
		run := c.RunE
		c.RunE = func(c *cobra.Command, args []string) error {
			if *untilEOF {
				ctx, end := context.WithCancel(c.Context())
				defer end()
				go func() {
					_, _ = io.Copy(io.Discard, p.Stdin)
					end()
				}()
				c.SetContext(ctx)
			}
			return run(c, args)
		}
	}
	return all
}

// UntilEOF is the flag with which the commands end when their standard input does. kubectl exec tells
// a command in a pod nothing else of whoever gave it having gone.
const UntilEOF = "until-eof"

// errEnough ends a stream of which the operator has seen what was asked for.
var errEnough = errors.New("there are enough")

// errEnded says that the proxy ended what was to go on.
var errEnded = errors.New("dubway-proxy ended the stream: has it been stopped?")

// follow reads lines until there are enough (each returns errEnough), the operator
// ends the command, or its time is over.
func (p *Params) follow(ctx context.Context, path string, request any, each func(line []byte) error) error {
	proxy := p.Proxy()
	defer proxy.Close()
	err := proxy.Follow(ctx, path, request, each)
	switch {
	case errors.Is(err, errEnough), ctx.Err() != nil:
		return nil
	case err == nil:
		return errEnded
	}
	return err
}

// writeJSON writes a document as one line.
func (p *Params) writeJSON(document any) error {
	encoder := json.NewEncoder(p.Stdout)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(document); err != nil {
		return fmt.Errorf("write json: %w", err)
	}
	return nil
}

// clock is how times are shown: as in the access log, which is in UTC too.
const clock = "15:04:05.000Z"

// printable takes out what a terminal would obey, and what turns text around:
// names come from the wire.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), r >= '\u2028' && r <= '\u202e', r >= '\u2066' && r <= '\u2069':
			return '?'
		}
		return r
	}, s)
}

// words offers fixed values of a flag to the shell.
func words(c *cobra.Command, flag string, values []string) {
	c.RegisterFlagCompletionFunc(flag, //nolint:errcheck // errs for an unknown flag alone
		cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}
