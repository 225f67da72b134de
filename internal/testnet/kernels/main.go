// Command kernels runs the tests of the data path on kernels that are not this machine's:
// Debian's, downloaded once, each in a virtual machine whose processor is emulated. It
// prints what each kernel has and which tests pass, fails if one does not, and can write
// the table of docs/kernels.md.
//
//	kernels [-cache DIR] [-logs DIR] [-write FILE] LINE...
//
// It needs qemu-system-x86, cpio, xz-utils and what apt needs, no privilege and no KVM.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// options are the command line's.
type options struct {
	cache, logs, write string
	limit              time.Duration
	lines              []*line
	out                io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "kernel matrix:", err)
		os.Exit(1)
	}
}

func parse() (*options, error) {
	o := &options{out: os.Stdout}
	flag.StringVar(&o.cache, "cache", "", "directory in which kernels are kept (required)")
	flag.StringVar(&o.logs, "logs", "build/kernels", "directory of the machines' logs")
	flag.StringVar(&o.write, "write", "", "document whose table is written")
	flag.DurationVar(&o.limit, "limit", 40*time.Minute, "how long a machine may run")
	flag.Parse()
	if o.cache == "" || flag.NArg() == 0 {
		return nil, errors.New("name a -cache and the lines: " + names())
	}
	for _, name := range flag.Args() {
		l := lineOf(name)
		if l == nil {
			return nil, fmt.Errorf("no line %q; there are %s", name, names())
		}
		o.lines = append(o.lines, l)
	}
	var err error
	if o.cache, err = filepath.Abs(o.cache); err != nil {
		return nil, fmt.Errorf("name cache: %w", err)
	}
	return o, nil
}

func names() string {
	var all []string
	for _, l := range lines {
		all = append(all, l.name)
	}
	return strings.Join(all, ", ")
}

// run fetches, builds, boots and judges.
func run(ctx context.Context) error {
	o, err := parse()
	if err != nil {
		return err
	}
	kernels, err := o.kernels(ctx)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "dubway-kernels-")
	if err != nil {
		return fmt.Errorf("make work directory: %w", err)
	}
	defer os.RemoveAll(work)
	fmt.Fprintln(o.out, "building the tests")
	suite, err := build(ctx, filepath.Join(work, "root"))
	if err != nil {
		return err
	}
	found := make([]finding, len(o.lines))
	errs := make([]error, len(o.lines))
	var running sync.WaitGroup
	places := make(chan struct{}, 2) // two processors, one for each machine
	for i, l := range o.lines {
		running.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			runtime.LockOSThread() // never unlocked: machine.run wants its own
			m := &machine{kernel: kernels[i], dir: filepath.Join(o.logs, l.name), limit: o.limit, out: o.out}
			found[i].line = l
			found[i].report, errs[i] = m.examine(ctx, l, suite.of(l))
		})
	}
	running.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	text := table(found)
	fmt.Fprint(o.out, "\n", text)
	if o.write != "" {
		return writeTable(o.write, text)
	}
	return nil
}

// kernels returns the kernel of each line, downloaded where the cache has none.
func (o *options) kernels(ctx context.Context) ([]linux, error) {
	found := make([]linux, len(o.lines))
	var missing, suites []string
	for i, l := range o.lines {
		k, ok := l.kept(o.cache)
		found[i] = k
		if !ok {
			missing, suites = append(missing, l.name), append(suites, l.suite)
		}
	}
	if len(missing) == 0 {
		return found, nil
	}
	fmt.Fprintf(o.out, "downloading kernels %s into %s, once\n", strings.Join(missing, ", "), o.cache)
	a, err := openArchive(ctx, o.cache, suites)
	if err != nil {
		return nil, err
	}
	for i, l := range o.lines {
		if found[i].image != "" {
			continue
		}
		if found[i], err = a.fetch(ctx, l, o.cache); err != nil {
			return nil, errors.Join(err, a.close())
		}
	}
	return found, a.close()
}

// examine runs a kernel, says how it went, and returns what it told if all is well.
func (m *machine) examine(ctx context.Context, l *line, s *suite) (*report, error) {
	began := time.Now()
	if err := errors.Join(os.RemoveAll(m.dir), os.MkdirAll(m.dir, 0o755)); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	if err := s.pack(ctx, m.kernel, m.initramfs()); err != nil {
		return nil, err
	}
	fmt.Fprintf(m.out, "running %s (%s)\n", l.name, m.kernel.image)
	failed := m.run(ctx)
	if err := os.Remove(m.initramfs()); err != nil {
		return nil, fmt.Errorf("remove initramfs: %w", err)
	}
	file, err := os.Open(m.report())
	if err != nil {
		return nil, errors.Join(failed, fmt.Errorf("open report: %w", err))
	}
	defer file.Close()
	r, err := read(file)
	if err != nil {
		return nil, errors.Join(failed, err)
	}
	problems := r.judge(l, s.tests)
	if failed != nil {
		problems = append(problems, failed.Error())
	}
	fmt.Fprintf(m.out, "%s: Linux %s: %d passed, %d failed, %d skipped, in %s\n", l.name, r.version,
		r.count("PASS"), r.count("FAIL"), r.count("SKIP"), time.Since(began).Round(time.Second))
	for _, p := range problems {
		fmt.Fprintf(m.out, "FAIL  %s: %s\n", l.name, p)
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("%s: %d problems; see %s and %s", l.name, len(problems), m.report(), m.console())
	}
	return r, nil
}
