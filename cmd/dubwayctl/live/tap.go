package live

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/cmd/dubwayctl/values"
	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry/accesslog"
)

const tapLong = `Show requests as they end, of this node's pods, as the proxy sees them. Nothing of them changes, and
nothing waits: what comes faster than it can be shown is dropped and counted. Of calls that the kernel
carries (their RESULT says lane) the proxy is told of --lane-log a second, and dubwayctl top counts all.

With --decode, arguments and answers are shown too: what applications say to each other, with
passwords and people's names if they say these. Only root and the proxy's own user may read them, one
tap at a time; the proxy logs who does. It copies the first 64 KiB of a body, of matching requests alone;
dubwayctl decodes hessian2, and shows of large values the beginning. A proxy that was started with
--tap-bodies=false shows none.

With -o json, each request is an object on a line of its own. An object without a time tells of dropped
requests.`

const tapExample = `  dubwayctl tap --pod shop/consumer-0 --result exception
  dubwayctl tap --interface 'org.example.*' --slower-than 20ms --limit 10
  dubwayctl tap --method greet --decode -o json`

// tapFlags are the flags of tap.
type tapFlags struct {
	request admin.TapRequest
	slower  time.Duration
	time    time.Duration
}

func (p *Params) tapCommand() *cobra.Command {
	f := &tapFlags{}
	c := &cobra.Command{
		Use: "tap", Short: "Show requests while they happen", Long: tapLong, Example: tapExample, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return p.tap(c.Context(), f) },
	}
	s, q := c.Flags(), &f.request
	s.StringVar(&q.Pod, "pod", "", "only of this `pod`, as consumer or provider: namespace/name, or name")
	s.StringVar(&q.Interface, "interface", "", "only of this interface; a * at its beginning or end stands for anything")
	s.StringVar(&q.Method, "method", "", "only of this method, likewise")
	s.StringVar(&q.Exception, "exception", "", "only what ended with this `class` of exception, likewise")
	s.StringSliceVar(&q.Statuses, "status", nil, "only these Dubbo statuses: names or numbers")
	s.StringSliceVar(&q.Results, "result", nil, "only these results: "+strings.Join(results(), ", "))
	s.DurationVar(&f.slower, "slower-than", 0, "only what took longer")
	s.IntVar(&q.Limit, "limit", 0, "end after so many requests")
	s.DurationVar(&f.time, "for", 0, "end after this time")
	s.BoolVar(&q.Bodies, "decode", false, "show arguments and answers: they may be secrets")
	c.RegisterFlagCompletionFunc("pod", p.Pods) //nolint:errcheck // errs for an unknown flag alone
	for _, name := range []string{"interface", "method", "exception"} {
		words(c, name, nil) // no files
	}
	words(c, "status", statuses())
	words(c, "result", results())
	return c
}

// results are the values of --result.
func results() []string {
	names := make([]string, 0, rpc.Results)
	for r := range rpc.Results {
		names = append(names, rpc.Result(r).String())
	}
	return names
}

// statuses are the names for --status.
func statuses() (names []string) {
	for s := 1; s < 256; s++ {
		if name := accesslog.StatusName(uint8(s)); name != accesslog.Unknown {
			names = append(names, name)
		}
	}
	return names
}

func (p *Params) tap(ctx context.Context, f *tapFlags) error {
	if f.slower > 0 {
		f.request.SlowerThan = f.slower.String()
	}
	if f.time > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.time)
		defer cancel()
	}
	t := &tapped{Params: p, decode: f.request.Bodies, left: f.request.Limit}
	return p.follow(ctx, admin.PathTap, &f.request, t.line)
}

// tapped shows what a tap sees.
type tapped struct {
	*Params

	decode  bool
	left    int // requests to come; 0 or less: no limit
	decoder values.Decoder
	widths  []int
	headed  bool
}

// decoded is an event of which the bodies are decoded.
type decoded struct {
	*admin.TapEvent

	Decoded *bodies `json:"decoded,omitempty"`
}

// bodies are what a request and its answer say, or why they are not known.
type bodies struct {
	Request        *values.Request `json:"request,omitempty"`
	RequestProblem string          `json:"requestProblem,omitempty"`
	Answer         *values.Answer  `json:"answer,omitempty"`
	AnswerProblem  string          `json:"answerProblem,omitempty"`
}

// line shows one line of the stream; errEnough says that it was the last one.
func (t *tapped) line(line []byte) error {
	e := &decoded{TapEvent: &admin.TapEvent{}}
	if err := json.Unmarshal(line, e.TapEvent); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	if t.decode && !e.Time.IsZero() {
		e.Decoded = t.bodies(e.TapEvent)
		e.Request, e.Response = nil, nil // their bytes tell people nothing
	}
	show := t.show
	if t.JSON() {
		show = t.json
	}
	if err := show(e); err != nil {
		return err
	}
	if !e.Time.IsZero() {
		if t.left--; t.left == 0 {
			return errEnough
		}
	}
	return nil
}

func (t *tapped) json(e *decoded) error {
	switch {
	case !e.Time.IsZero():
		return t.writeJSON(e)
	case e.Dropped > 0:
		return t.writeJSON(map[string]any{"apiVersion": e.APIVersion, "dropped": e.Dropped})
	}
	return nil // the tap is on
}

// bodies decodes what an event carries.
func (t *tapped) bodies(e *admin.TapEvent) *bodies {
	b := &bodies{}
	if e.BodiesMissing {
		b.RequestProblem = "not kept: the request was under way before the tap, or there was too much traffic"
		return b
	}
	var err error
	if b.Request, err = t.decoder.Request(e.Request); err != nil {
		b.RequestProblem = err.Error()
	}
	if e.Response == nil && e.ResponseBytes == 0 {
		return b
	}
	if b.Answer, err = t.decoder.Answer(e.Response, e.Status); err != nil {
		b.AnswerProblem = err.Error()
	}
	return b
}

// heads are the columns for people, and widths what they begin with: most lines
// then stand below each other.
var (
	heads  = []string{"TIME", "CONSUMER", "PROVIDER", "CALL", "DURATION", "BYTES", "RESULT"}
	widths = []int{13, 20, 20, 36, 10, 9, 0}
)

func (t *tapped) show(e *decoded) error {
	if !t.headed {
		t.headed = true
		if err := t.row(heads); err != nil {
			return err
		}
	}
	if e.Dropped > 0 {
		if _, err := fmt.Fprintf(t.Stderr, "%d matching requests are not shown: they come too fast\n", e.Dropped); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	if e.Time.IsZero() {
		return nil
	}
	row := []string{
		e.Time.UTC().Format(clock), peer(e.Consumer), peer(e.Provider), call(e.TapEvent),
		fmt.Sprintf("%.3f ms", e.DurationMs), fmt.Sprintf("%d/%d", e.RequestBytes, e.ResponseBytes), result(e.TapEvent),
	}
	return errors.Join(t.row(row), t.showBodies(e.Decoded))
}

// widest is how wide a column grows.
const widest = 60

// row writes cells in columns that are as wide as they were so far.
func (t *tapped) row(cells []string) error {
	if t.widths == nil {
		t.widths = slices.Clone(widths)
	}
	var b strings.Builder
	for i, cell := range cells {
		cell = cmp.Or(printable(cell), "-")
		b.WriteString(cell)
		if i == len(cells)-1 {
			break
		}
		n := utf8.RuneCountInString(cell)
		t.widths[i] = max(t.widths[i], min(n, widest))
		b.WriteString(strings.Repeat(" ", max(t.widths[i]-n, 0)+2))
	}
	return t.text(b.String())
}

func (t *tapped) text(line string) error {
	if _, err := fmt.Fprintln(t.Stdout, line); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

func (t *tapped) showBodies(b *bodies) error {
	if b == nil {
		return nil
	}
	var errs []error
	show := func(what string, value any) {
		text, ok := value.(string)
		if !ok {
			data, err := json.Marshal(value)
			errs = append(errs, err)
			text = string(data)
		}
		errs = append(errs, t.text("    "+what+" "+printable(text)))
	}
	if b.Request != nil {
		show("arguments", b.Request.Arguments)
		show("attachments", b.Request.Attachments)
	}
	if b.RequestProblem != "" {
		show("request", b.RequestProblem)
	}
	if b.Answer != nil {
		show("answer", b.Answer)
	}
	if b.AnswerProblem != "" {
		show("answer", b.AnswerProblem)
	}
	return errors.Join(errs...)
}

// peer names one end of a call.
func peer(p admin.TapPeer) string {
	if p.Pod != "" {
		return p.Namespace + "/" + p.Pod
	}
	return p.Address
}

func call(e *admin.TapEvent) string {
	if e.Interface == "" {
		return cmp.Or(e.Serialization, e.Protocol) + ", undecoded"
	}
	return e.Interface + "." + e.Method
}

// result tells how a request ended, as briefly as it can.
func result(e *admin.TapEvent) string {
	switch e.Result {
	case rpc.ResultValue.String():
		if e.Lane {
			return e.StatusName + ", lane"
		}
		return e.StatusName
	case rpc.ResultNone.String():
		return "one-way"
	case rpc.ResultException.String():
		return "exception " + cmp.Or(e.Exception, "of an unknown class")
	case rpc.ResultError.String():
		if e.StatusName == accesslog.Unknown {
			return fmt.Sprintf("status %d", e.Status)
		}
		return e.StatusName
	}
	return e.Result + " " + e.Flags + ": " + e.Reason
}
