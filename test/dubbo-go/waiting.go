package main

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"
)

// idle leaves a connection to each of the job's idle targets alone for so many ms:
// nothing but heartbeats. The call after it is tried once.
func (c *checks) idle(ctx context.Context) (string, error) {
	var all []*checks
	for target := range strings.SplitSeq(c.job["targets"], ",") {
		j := maps.Clone(c.job)
		j["target"], j["retries"] = target, "0"
		all = append(all, &checks{job: j, made: map[string]*stub{}})
	}
	call := func(text string) error {
		for _, each := range all {
			if _, err := equal(text)(each.probe().EchoText(ctx, text)); err != nil {
				return fmt.Errorf("%s, %s: %w", each.job["target"], text, err)
			}
		}
		return nil
	}
	if err := call("before"); err != nil {
		return "", err
	}
	time.Sleep(time.Duration(c.job.number("idle", 3500)) * time.Millisecond)
	return fmt.Sprint(len(all), " connections"), call("after")
}

// pending makes so many calls at once that outlast whatever the test does to them,
// and tells how they ended.
func (c *checks) pending(ctx context.Context) (string, error) {
	failed := make([]error, c.job.number("calls", 1))
	s := c.probe()
	var all sync.WaitGroup
	for i := range failed {
		all.Go(func() { _, failed[i] = s.Sleep(ctx, int32(c.job.number("millis", 1000))) })
	}
	all.Wait()
	n := 0
	for _, err := range failed {
		if err != nil {
			n++
		}
	}
	return fmt.Sprintf("answered %d, failed %d", len(failed)-n, n), nil
}
