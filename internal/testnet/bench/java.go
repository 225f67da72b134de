package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/bench/services"
	"github.com/dubway/dubway/internal/testnet/bench/usage"
)

// java is a kind of load: real Dubbo at both ends. In depth calls flying and below it
// threads call, as many as connections or javaThreads.
const (
	java        kind = "+java"
	javaThreads      = 16
	javaWarm         = 6 * time.Second // for the compiler, once for each shape and path
	// With 200 in flight a call is overtaken by lane.Flights others now and then, one of which
	// has its place then, and goes by the proxy with those that are sent together with it.
	leastFlying = 0.97
)

// jvms are two consumers and two providers, which differ in the way alone.
type jvms map[string]*jvm // by path

// jvm is a consumer with its provider.
type jvm struct {
	consumer, provider *testnet.Process
	target             string
	in                 *os.File
	jobs               int
}

// javas starts them.
func (r *rig) javas(ctx context.Context, peer string) (jvms, error) {
	peer, err := filepath.Abs(peer)
	if err != nil {
		return nil, fmt.Errorf("find Java's classes: %w", err)
	}
	at := r.neighbours.Java
	all := jvms{
		"direct": {target: at.Addr(20881).String()},
		"lane":   {target: services.Java},
	}
	for path, port := range map[string]string{"direct": "20881", "lane": "20880"} {
		j, from := all[path], r.plain
		if path == "lane" {
			from = r.laned
		}
		if j.provider, err = startJava(at, peer, nil, "Provider", port, "java"); err != nil {
			return nil, err
		}
		if err := j.provider.WaitText(ctx, "READY"); err != nil {
			return nil, err
		}
		out, in, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("make pipe: %w", err)
		}
		j.in = in
		r.cleanups = append(r.cleanups, in.Close)
		if j.consumer, err = startJava(from, peer, out, "Consumer"); err != nil {
			return nil, err
		}
		_ = out.Close()
	}
	return all, nil
}

func startJava(p *testnet.Pod, peer string, stdin *os.File, args ...string) (*testnet.Process, error) {
	path, err := exec.LookPath("java")
	if err != nil {
		return nil, fmt.Errorf("find java (make deps-peers installs it): %w", err)
	}
	flags := []string{
		"-XX:+UseSerialGC", "-Xmx512m", "-Xms512m", "--add-opens", "java.base/java.lang=ALL-UNNAMED",
		"--add-opens", "java.base/java.math=ALL-UNNAMED", "--add-opens", "java.base/java.util=ALL-UNNAMED",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-Dprobe.threads=1000", "-cp", peer + "/classes:" + peer + "/lib/*",
	}
	name := p.Name + "-" + strings.ToLower(strings.Join(args, "-"))
	args[0] = "org.dubway.test." + args[0]
	c := testnet.Command{Name: name, Path: path, Args: append(flags, args...), RealtimePriority: priority}
	if stdin != nil {
		c.Stdin = stdin
	}
	return p.Start(c)
}

// measureJava measures one path once, of which the JVMs are warm.
func (r *rig) measureJava(ctx context.Context, path string, p plan, millis int) (outcome, time.Duration, error) {
	j := p.javas[path]
	processes := append([]*testnet.Process{j.consumer, j.provider}, r.hops[path]...)
	before := usage.CPU(processes)
	o, err := j.burst(ctx, p.shape, time.Duration(millis)*time.Millisecond)
	return o, usage.CPU(processes) - before, err
}

// burst has the consumer call for a time, a quarter of it besides before what counts.
func (j *jvm) burst(ctx context.Context, s shape, d time.Duration) (o outcome, err error) {
	flying := ""
	if s.Depth > 1 {
		flying = fmt.Sprintf(" flying=%d", s.Depth)
	}
	j.jobs++
	id := fmt.Sprint(j.jobs)
	_, err = fmt.Fprintf(j.in, "id=%s target=%s connections=%d threads=%d%s size=%d warm=%d for=%d retries=0 checks=burst\n",
		id, j.target, s.Conns, javaThreads, flying, s.Bytes, (d / 4).Milliseconds(), d.Milliseconds())
	if err != nil {
		return o, fmt.Errorf("give job: %w", err)
	}
	var detail string
	err = j.consumer.WaitFor(ctx, "the end of a burst", func() bool {
		for line := range strings.Lines(j.consumer.Output()) {
			var said struct {
				Job, Check, Detail string
				OK                 bool
			}
			if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &said) == nil && said.Job == id && said.Check == "burst" {
				if detail = said.Detail; !said.OK {
					detail = line
				}
			}
		}
		return detail != ""
	})
	if err != nil {
		return o, err
	}
	var p50, p99 int64
	if _, err := fmt.Sscanf(detail, "%d %d %d %d", &o.Calls, &o.All, &p50, &p99); err != nil {
		return o, fmt.Errorf("read a burst of Java's: %q: %w", detail, err)
	}
	o.Seconds = d.Seconds()
	o.P50, o.P99 = time.Duration(p50)*time.Microsecond, time.Duration(p99)*time.Microsecond
	return o, nil
}

// java measures Java at both ends.
func (r *rig) java(ctx context.Context, o options, t *table) error {
	all, err := r.javas(ctx, o.peer)
	if err != nil {
		return err
	}
	o.millis = o.java
	for _, s := range []shape{{128, 1, 1}, {128, 16, 1}, {128, 1, 200}} {
		p := plan{shape: s, paths: []string{"lane"}, kind: java, javas: all, least: leastInLane}
		if s.Depth > 1 {
			p.least = leastFlying
		}
		for _, j := range all {
			if _, err := j.burst(ctx, s, javaWarm); err != nil {
				return err
			}
		}
		rows, err := r.compare(ctx, o, p)
		if err != nil {
			return err
		}
		t.add(rows)
	}
	return nil
}
