package live

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/admin"
)

const topLong = `Show how many requests this node's pods make, how many fail and how long they take, for each method and
pair of workloads. The proxy adds up every request while top runs and none else: counts are exact, P50
and P99 within about 3 %. FAILED are those that got no OK answer, which a business exception is. LANE is the
share that the kernel carried; of those the latencies are those of the ones that the proxy was told of
(--lane-log).

On a terminal the table is drawn anew after each interval; elsewhere, or with -o json, reports follow each
other. SEEN tells at which end the proxy saw the requests; it sees those that stay on the node at both ends.`

// topFlags are the flags of top.
type topFlags struct {
	request  admin.TopRequest
	interval time.Duration
}

func (p *Params) topCommand() *cobra.Command {
	f := &topFlags{}
	c := &cobra.Command{
		Use: "top", Short: "Show calls per second, failures and latencies", Long: topLong, Args: cobra.NoArgs,
		Example: "  dubwayctl top\n  dubwayctl top --by method -n 1\n  dubwayctl top --pod shop/provider-0 -o json",
		RunE:    func(c *cobra.Command, _ []string) error { return p.top(c.Context(), f) },
	}
	s, q := c.Flags(), &f.request
	s.DurationVar(&f.interval, "interval", 2*time.Second, "time between two reports, 100ms to 1m")
	s.IntVarP(&q.Reports, "reports", "n", 0, "end after so many reports")
	s.StringVar(&q.By, "by", admin.TopByBoth, "what has a row: "+strings.Join(admin.TopBy(), ", "))
	s.StringVar(&q.Pod, "pod", "", "only of this `pod`, as consumer or provider: namespace/name, or name")
	s.StringVar(&q.Interface, "interface", "", "only of this interface; a * at its beginning or end stands for anything")
	s.StringVar(&q.Method, "method", "", "only of this method, likewise")
	c.RegisterFlagCompletionFunc("pod", p.Pods) //nolint:errcheck // errs for an unknown flag alone
	words(c, "interface", nil)
	words(c, "method", nil)
	words(c, "by", admin.TopBy())
	return c
}

func (p *Params) top(ctx context.Context, f *topFlags) error {
	f.request.Interval = f.interval.String()
	screen := terminal(p.Stdout)
	seen := 0
	return p.follow(ctx, admin.PathTop, &f.request, func(line []byte) error {
		var r admin.TopReport
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("read report: %w", err)
		}
		seen++
		if err := p.report(&r, screen, seen); err != nil {
			return err
		}
		if seen == f.request.Reports {
			return errEnough
		}
		return nil
	})
}

// report shows one report: in the place of the one before on a terminal, below it
// elsewhere.
func (p *Params) report(r *admin.TopReport, screen *os.File, number int) error {
	if p.JSON() {
		return p.writeJSON(r)
	}
	text := table(r)
	switch {
	case screen != nil:
		text = redrawn(text, screen)
	case number > 1:
		text = append([]byte{'\n'}, text...)
	}
	if _, err := p.Stdout.Write(text); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// table is a report for people.
func table(r *admin.TopReport) []byte {
	var b bytes.Buffer
	var calls, failed, exceptions uint64
	for i := range r.Items {
		calls += r.Items[i].Calls
		failed += r.Items[i].Failed
		exceptions += r.Items[i].Exceptions
	}
	fmt.Fprintf(&b, "%s  %.1f calls/s, %s failed, %s exceptions\n",
		r.Time.UTC().Format(clock), float64(calls)/r.Seconds, share(failed, calls), share(exceptions, calls))
	if len(r.Items) == 0 {
		return b.Bytes()
	}
	var rows strings.Builder
	fmt.Fprintln(&rows, "CALLS/S\tFAILED\tEXCEPTIONS\tP50 ms\tP99 ms\tLANE\tCALL\tCONSUMER\tPROVIDER\tSEEN")
	for i := range r.Items {
		row := &r.Items[i]
		method := row.Interface
		if row.Method != "" {
			method += "." + row.Method
		}
		fmt.Fprintf(&rows, "%.1f\t%s\t%s\t%.2f\t%.2f\t%s\t%s\t%s\t%s\t%s\n", row.CallsPerSecond,
			share(row.Failed, row.Calls), share(row.Exceptions, row.Calls), row.P50Ms, row.P99Ms,
			share(row.Lane, row.Calls), cell(method), cell(row.Consumer), cell(row.Provider), cell(row.Reporter))
	}
	aligned := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = io.WriteString(aligned, rows.String()) // a Buffer takes all
	_ = aligned.Flush()
	return b.Bytes()
}

func cell(s string) string { return cmp.Or(printable(s), "-") }

// share is a part in percent: none is told from few.
func share(part, all uint64) string {
	switch part {
	case 0:
		return "0%"
	case all:
		return "100%"
	}
	return fmt.Sprintf("%.2f%%", 100*float64(part)/float64(all))
}

// terminal returns out if it is a terminal.
func terminal(out io.Writer) *os.File {
	file, ok := out.(*os.File)
	if !ok {
		return nil
	}
	if _, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS); err != nil {
		return nil
	}
	return file
}

// redrawn is text in the place of what a terminal shows: from its first line on,
// each line without the rest of the one that was there, and no more than fit.
func redrawn(text []byte, screen *os.File) []byte {
	lines := strings.SplitAfter(string(text), "\n")
	width, height := 0, 0
	if size, err := unix.IoctlGetWinsize(int(screen.Fd()), unix.TIOCGWINSZ); err == nil {
		width, height = int(size.Col), int(size.Row)
	}
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, line := range lines {
		if height > 1 && i == height-1 {
			break
		}
		line = strings.TrimSuffix(line, "\n")
		if runes := []rune(line); width > 0 && len(runes) > width {
			line = string(runes[:width])
		}
		b.WriteString(line + "\x1b[K\r\n")
	}
	b.WriteString("\x1b[J")
	return []byte(b.String())
}
