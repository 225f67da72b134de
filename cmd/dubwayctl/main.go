// Command dubwayctl is the operator's view of Dubway on this node: what runs,
// which pods are enrolled, where a call would go and why, whether xDS files are
// valid, what is wrong with the machine, which requests there are now; and of a
// cluster what Dubway would do to it. It asks the agent and the proxy by their admin
// sockets, on this node or by kubectl on another, or works offline on files; it
// changes nothing but what demo makes and what accesslog and mode switch.
//
// Every command prints a table for people, or JSON with stable fields and an
// apiVersion with -o json. The exit status is 0 if all is well, else 1, with a
// sentence on the standard error that says what to do.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/cmd/dubwayctl/accesslog"
	"github.com/dubway/dubway/cmd/dubwayctl/ask"
	"github.com/dubway/dubway/cmd/dubwayctl/clusters"
	"github.com/dubway/dubway/cmd/dubwayctl/dump"
	"github.com/dubway/dubway/cmd/dubwayctl/echo"
	"github.com/dubway/dubway/cmd/dubwayctl/generate"
	"github.com/dubway/dubway/cmd/dubwayctl/kubectl"
	"github.com/dubway/dubway/cmd/dubwayctl/lane"
	"github.com/dubway/dubway/cmd/dubwayctl/lanes"
	"github.com/dubway/dubway/cmd/dubwayctl/live"
	"github.com/dubway/dubway/cmd/dubwayctl/modes"
	"github.com/dubway/dubway/cmd/dubwayctl/plan"
	"github.com/dubway/dubway/cmd/dubwayctl/remote"
	"github.com/dubway/dubway/cmd/dubwayctl/timeouts"
	"github.com/dubway/dubway/cmd/dubwayctl/unknown"
	"github.com/dubway/dubway/cmd/dubwayctl/views"
	"github.com/dubway/dubway/internal/admin"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := newCommand(&env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}).ExecuteContext(ctx)
	stop()
	os.Exit(exitStatus(err, os.Stderr))
}

// env is what commands share: where they write, and the global flags.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	stateDir string
	output   string
	cluster  kubectl.Kubectl
}

func newCommand(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:               "dubwayctl",
		Short:             "See and explain what Dubway does on this node",
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return e.checkOutput() },
	}
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	flags := root.PersistentFlags()
	flags.StringVar(&e.stateDir, "state-dir", admin.DefaultStateDir, "directory of the agent's and the proxy's sockets")
	flags.StringVarP(&e.output, "output", "o", outputTable, "table or json")
	e.cluster.Flags(flags)
	root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions( //nolint:errcheck // errs for an unknown flag alone
		[]string{outputTable, outputJSON}, cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(
		e.statusCommand(), e.workloadsCommand(), e.routesCommand(), e.explainCommand(),
		e.checkCommand(), e.doctorCommand(), e.demoCommand(), e.versionCommand(),
	)
	proxy, agent := &ask.Params{Client: e.proxy, Write: e.writeRows}, &ask.Params{Client: e.agent, Write: e.writeRows}
	root.AddCommand(
		accesslog.Command(proxy), timeouts.Command(proxy), modes.Command(proxy), views.Command(proxy), clusters.Command(proxy),
		lanes.Command(proxy), unknown.Command(agent), lane.Command(agent), echo.Command(e.writeRows),
		dump.Command(&dump.Params{Stdout: e.stdout, Proxy: e.proxy, Pods: e.completeWorkloads}),
	)
	root.AddCommand(live.Commands(&live.Params{
		Stdin: e.stdin, Stdout: e.stdout, Stderr: e.stderr, Proxy: e.proxy, Pods: e.completeWorkloads, JSON: e.json,
	})...)
	root.AddCommand(
		plan.Command(&plan.Params{Cluster: &e.cluster, Write: e.writeRows}),
		generate.Command(&generate.Params{Stdout: e.stdout, Stderr: e.stderr, Cluster: &e.cluster, JSON: e.json, Write: e.writeRows}),
	)
	remote.Join(root, os.Args[0], &remote.Params{
		Stdin: e.stdin, Stdout: e.stdout, Stderr: e.stderr, Cluster: &e.cluster, Write: e.writeRows,
		Ended: commandEnd, StateDir: func() string { return e.stateDir },
	})
	return root
}

// The values of --output.
const outputTable, outputJSON = "table", "json"

func (e *env) json() bool { return e.output == outputJSON }

func (e *env) checkOutput() error {
	if !slices.Contains([]string{outputTable, outputJSON}, e.output) {
		return fmt.Errorf("unknown output %q: use table or json", e.output)
	}
	return nil
}

// write writes a document, or what show makes of it.
func (e *env) write(document any, show func(t *table)) error {
	if e.json() {
		encoder := json.NewEncoder(e.stdout)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(document); err != nil {
			return fmt.Errorf("write json: %w", err)
		}
		return nil
	}
	var t table
	show(&t)
	aligned := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	_, err := io.WriteString(aligned, t.text.String())
	if err := errors.Join(err, aligned.Flush()); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}

// writeRows writes a document, or a table.
func (e *env) writeRows(document any, rows [][]any) error {
	return e.write(document, func(t *table) {
		for _, row := range rows {
			t.row(row...)
		}
	})
}

func (e *env) agent() *admin.Client { return admin.NewClient(admin.AgentSocket(e.stateDir)) }
func (e *env) proxy() *admin.Client { return admin.NewClient(admin.ProxySocket(e.stateDir)) }

// table is text for people. The columns of rows that follow each other are
// aligned.
type table struct {
	text strings.Builder
}

// row adds a line of cells. Empty ones are shown as "-"; control characters,
// which may come from a pod's name, are taken out.
func (t *table) row(cells ...any) {
	for i, cell := range cells {
		text := strings.Map(printable, fmt.Sprint(cell))
		if text == "" {
			text = "-"
		}
		if i > 0 {
			t.text.WriteByte('\t')
		}
		t.text.WriteString(text)
	}
	t.text.WriteByte('\n')
}

// linef adds a line that takes no part in columns.
func (t *table) linef(format string, args ...any) {
	t.text.WriteString(strings.Map(printable, fmt.Sprintf(format, args...)))
	t.text.WriteByte('\n')
}

// gap leaves a line free.
func (t *table) gap() { t.text.WriteByte('\n') }

func printable(r rune) rune {
	if r < ' ' || r >= 0x7f && r < 0xa0 {
		return '?'
	}
	return r
}
