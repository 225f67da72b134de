package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	getty "github.com/apache/dubbo-getty"
)

// load calls the job's target until it is told to stop by a file `stop` in the folder of
// its counts, or by a signal, and says so there by a file `stopped`. It counts what it sent,
// what was answered and what failed; each call is made once. What fails before there is a
// connection is no call.
func load(ctx context.Context, line string) error {
	j, err := parse(line)
	if err != nil {
		return err
	}
	if books.dir == "" {
		return errors.New("PROBE_COUNTS does not say where to count")
	}
	if _, ok := j["retries"]; !ok {
		j["retries"] = "0"
	}
	c := &checks{job: j, made: map[string]*stub{}}
	for {
		// dubbo-go panics when its first connection is refused.
		_, err := within(patience, func() (string, error) { c.probe(); return "", nil })
		if err == nil {
			break
		}
		fmt.Println("connect:", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
			c = &checks{job: j, made: map[string]*stub{}}
		}
	}
	fmt.Println("READY")
	pause := time.Duration(j.number("pause", 5)) * time.Millisecond
	for ctx.Err() == nil && !stopTold() {
		who, err := within(patience, func() (string, error) { return c.probe().Who(ctx) })
		if err != nil && strings.Contains(err.Error(), getty.ErrSessionClosed.Error()) {
			books.add("unsent")
			time.Sleep(pause)
			continue
		}
		books.add("sent")
		if err != nil {
			books.add("failed")
			if err := books.note(fmt.Sprintf("%s failed: %v", time.Now().UTC().Format("15:04:05"), err)); err != nil {
				return err
			}
		} else {
			books.add("answered")
			books.add("answered-" + who)
		}
		time.Sleep(pause)
	}
	if err := os.WriteFile(filepath.Join(books.dir, "stopped"), nil, 0o644); err != nil {
		return fmt.Errorf("say that it stopped: %w", err)
	}
	<-ctx.Done() // a pod that ended would be started again
	return nil
}

// stopTold tells whether it is to stop.
func stopTold() bool {
	_, err := os.Stat(filepath.Join(books.dir, "stop"))
	return err == nil
}
