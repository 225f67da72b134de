package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dubbo.apache.org/dubbo-go/v3/client"
	_ "dubbo.apache.org/dubbo-go/v3/cluster/cluster/failover"
	_ "dubbo.apache.org/dubbo-go/v3/cluster/loadbalance/random"
	"dubbo.apache.org/dubbo-go/v3/common/constant"
	hessian "github.com/apache/dubbo-go-hessian2"
)

// stub is the consumer's side of the service; dubbo-go fills its functions in.
type stub struct {
	EchoText func(ctx context.Context, text string) (string, error)  `dubbo:"echo"`
	Who      func(ctx context.Context) (string, error)               `dubbo:"who"`
	Attach   func(ctx context.Context, name string) (string, error)  `dubbo:"attach"`
	Fail     func(ctx context.Context, kind string) (string, error)  `dubbo:"fail"`
	Later    func(ctx context.Context, text string) (string, error)  `dubbo:"later"`
	Sleep    func(ctx context.Context, millis int32) (string, error) `dubbo:"sleep"`
	Ping     func(ctx context.Context, text string) (string, error)  `dubbo:"$echo"`
	Generic  func(ctx context.Context, args []any) (any, error)      `dubbo:"$invoke"`
}

// Reference names the service inside dubbo-go.
func (s *stub) Reference() string { return "stub" }

// checks are the checks of one job.
type checks struct {
	job   job
	made  map[string]*stub
	doing atomic.Value // what is called now, for a call that hangs
}

// with returns a stub for a group and version, made once.
func (c *checks) with(group, version string, generic bool) *stub {
	key := fmt.Sprint(group, "/", version, generic)
	if s := c.made[key]; s != nil {
		return s
	}
	limit := time.Duration(c.job.number("timeout", 3000)) * time.Millisecond
	cli, err := client.NewClient(client.WithClientProtocolDubbo(), client.WithClientRequestTimeout(limit))
	if err != nil {
		panic(err)
	}
	options := []client.ReferenceOption{
		client.WithURL(c.url()), client.WithProtocolDubbo(),
		client.WithSerialization(constant.Hessian2Serialization), client.WithClusterFailOver(),
		client.WithRetries(c.job.number("retries", 2)), client.WithGroup(group), client.WithVersion(version),
	}
	if name := c.job["filter"]; name != "" {
		options = append(options, client.WithFilter(name))
	}
	if generic {
		options = append(options, client.WithGeneric())
	}
	s := &stub{}
	if _, err := cli.DialWithService(Interface, s, options...); err != nil {
		panic(err)
	}
	c.made[key] = s
	return s
}

// url names the job's target, or several by ";", between which the cluster chooses.
func (c *checks) url() string {
	var all []string
	for target := range strings.SplitSeq(c.job["target"], ";") {
		all = append(all, "dubbo://"+target+"/"+Interface)
	}
	return strings.Join(all, ";")
}

func (c *checks) probe() *stub { return c.with(c.job["group"], c.job["version"], false) }

func (c *checks) run(name string) (string, error) {
	ctx := context.Background()
	switch name {
	case "sizes":
		return c.sizes(ctx)
	case "who":
		return equal(c.job["name"])(c.probe().Who(ctx))
	case "group":
		return equal(c.job["name"] + "/blue/1.2.0")(c.with("blue", "1.2.0", false).Who(ctx))
	case "attachments":
		ctx = context.WithValue(ctx, constant.AttachmentKey, map[string]any{"trace": "t-1 é"})
		return equal("t-1 é")(c.probe().Attach(ctx, "trace"))
	case answered:
		return c.answered(ctx)
	case "checked", "runtime":
		return c.thrown(ctx, name)
	case "pipelined":
		return c.pipelined(ctx)
	case "generic":
		return c.generic(ctx)
	case "echo":
		return equal("e")(c.probe().Ping(ctx, "e"))
	case "timeout":
		return c.timeout(ctx)
	case "version":
		return refused(c.with("", "9.9.9", false).Who(ctx))
	case "everysize":
		return c.everySize(ctx)
	case "idle":
		return c.idle(ctx)
	case "pending":
		return c.pending(ctx)
	case "steady":
		return c.steady(ctx)
	case "call":
		return c.call(ctx)
	}
	return "", fmt.Errorf("no check %q", name)
}

// equal compares an answer.
func equal(want string) func(string, error) (string, error) {
	return func(got string, err error) (string, error) {
		if err == nil && got != want {
			err = fmt.Errorf("got %.80q, want %.80q", got, want)
		}
		return got, err
	}
}

// refused wants an error.
func refused(got string, err error) (string, error) {
	if err == nil {
		return "", fmt.Errorf("answered %q, want an error", got)
	}
	return err.Error(), nil
}

func (c *checks) sizes(ctx context.Context) (string, error) {
	sizes := []int{0, 1, 31, 32, 127, 128, 1023, 1024, 4096, 32767, 32768, 65536, 200_000, 1 << 20}
	for _, size := range sizes {
		for _, text := range []string{strings.Repeat("x", size), strings.Repeat(wide, size/len(wide))} {
			if err := c.same(ctx, text); err != nil {
				return "", err
			}
		}
	}
	return fmt.Sprintf("%d sizes", len(sizes)), nil
}

// everySize echoes every size in which a string or a frame may change its form, up
// to 1 MiB.
func (c *checks) everySize(ctx context.Context) (string, error) {
	sizes := make([]int, 2101)
	for i := range sizes {
		sizes[i] = i
	}
	for power := 4096; power <= 1<<20; power *= 2 {
		sizes = append(sizes, power-1, power, power+1)
	}
	for _, size := range sizes {
		text := strings.Repeat("x", size)
		if size >= 4095 && size%2 == 0 {
			text = strings.Repeat(wide, size/len(wide))
		}
		if err := c.same(ctx, text); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d sizes", len(sizes)), nil
}

// wide has characters of two, three and four bytes.
const wide = "é服务😀𝄞"

func (c *checks) same(ctx context.Context, text string) error {
	c.doing.Store(fmt.Sprint("echo of ", len(text), " bytes"))
	got, err := c.probe().EchoText(ctx, text)
	if err != nil || got != text {
		return fmt.Errorf("an echo of %d bytes came back as %d: %w", len(text), len(got), err)
	}
	return nil
}

func (c *checks) thrown(ctx context.Context, kind string) (string, error) {
	_, err := c.probe().Fail(ctx, kind)
	if err == nil || err.Error() != kind+" by "+c.job["name"] {
		return "", fmt.Errorf("thrown was %w", err)
	}
	if e := (*ProbeException)(nil); kind == "checked" && (!errors.As(err, &e) || e.Code != 42) {
		return "", fmt.Errorf("thrown was a %T", err)
	}
	return err.Error(), nil
}

func (c *checks) pipelined(ctx context.Context) (string, error) {
	const n = 200
	failed := make([]error, n)
	s := c.probe()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			text := fmt.Sprint("p", i)
			_, failed[i] = equal(text)(s.Later(ctx, text))
		})
	}
	all.Wait()
	return fmt.Sprint(n, " calls"), errors.Join(failed...)
}

func (c *checks) generic(ctx context.Context) (string, error) {
	got, err := c.with("", "", true).Generic(ctx, []any{"echo", []string{"java.lang.String"}, []hessian.Object{"g"}})
	return equal("g")(fmt.Sprint(got), err)
}

// timeout calls what takes longer than the job's time limit.
func (c *checks) timeout(ctx context.Context) (string, error) {
	start := time.Now()
	if _, err := c.probe().Sleep(ctx, int32(c.job.number("timeout", 3000)+500)); err == nil {
		return "", errors.New("it was answered")
	}
	took := time.Since(start)
	if _, err := equal("after")(c.probe().EchoText(ctx, "after")); err != nil {
		return "", err
	}
	return took.String(), nil
}

// steady calls for a time and tells who answered and what failed.
func (c *checks) steady(ctx context.Context) (string, error) {
	seen := map[string]int{}
	for end := time.Now().Add(time.Duration(c.job.number("for", 1000)) * time.Millisecond); time.Now().Before(end); {
		who, err := c.probe().Who(ctx)
		if err != nil {
			who = "failed: " + err.Error()
		}
		seen[who]++
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Sprint(seen), nil
}

// call is one call of the job's method: echo of the job's size, sleep or fail.
func (c *checks) call(ctx context.Context) (string, error) {
	var got string
	var err error
	switch c.job.text("method", "echo") {
	case "sleep":
		got, err = c.probe().Sleep(ctx, int32(c.job.number("millis", 1000)))
	case "fail":
		got, err = c.probe().Fail(ctx, c.job.text("kind", "runtime"))
	default:
		got, err = c.probe().EchoText(ctx, strings.Repeat("x", c.job.number("size", 1)))
	}
	return fmt.Sprintf("%d characters", len(got)), err
}
