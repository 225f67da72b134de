package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"dubbo.apache.org/dubbo-go/v3/common/constant"
	"dubbo.apache.org/dubbo-go/v3/common/extension"
)

// patience bounds a call, which in dubbo-go hangs past its own time limit when its connection
// is lost, and checkLimit a check of up to 2,000 calls, not counting the time for which it is
// told to idle.
const (
	patience   = 20 * time.Second
	checkLimit = 90 * time.Second
)

// errHangs says that a call or a check took longer than its limit.
var errHangs = errors.New("the call hangs past its time limit")

// job is what a consumer is asked: a line of name=value words, as for the Java
// consumer.
type job map[string]string

func parse(line string) (job, error) {
	j := job{}
	for word := range strings.FieldsSeq(line) {
		name, value, ok := strings.Cut(word, "=")
		if !ok {
			return nil, fmt.Errorf("no name=value: %q", word)
		}
		j[name] = value
	}
	return j, nil
}

func (j job) text(name, otherwise string) string {
	if value, ok := j[name]; ok {
		return value
	}
	return otherwise
}

func (j job) number(name string, otherwise int) int {
	if n, err := strconv.Atoi(j[name]); err == nil {
		return n
	}
	return otherwise
}

// link is one exception of a chain, as the Java consumer reports it.
type link struct {
	Class   string `json:"class"`
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// report is the line that is printed for each check.
type report struct {
	Job       string `json:"job"`
	Check     string `json:"check"`
	OK        bool   `json:"ok"`
	Detail    string `json:"detail"`
	MS        int64  `json:"ms"`
	Exception []link `json:"exception"`
}

// consume does one job, or those of standard input.
func consume(line string) error {
	if line != "" {
		return do(line)
	}
	fmt.Println("READY")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if err := do(lines.Text()); err != nil {
			return err
		}
	}
	return lines.Err()
}

func do(line string) error {
	j, err := parse(line)
	if err != nil {
		return err
	}
	begin := time.Now()
	c := &checks{job: j, made: map[string]*stub{}}
	limit := checkLimit + time.Duration(j.number("idle", 0))*time.Millisecond
	for name := range strings.SplitSeq(j["checks"], ",") {
		start := time.Now()
		detail, err := within(limit, func() (string, error) { return c.run(name) })
		if errors.Is(err, errHangs) {
			detail = fmt.Sprint(c.doing.Load())
		}
		if err := say(j, name, detail, err, start); err != nil {
			return err
		}
	}
	extension.GetProtocol(constant.DubboProtocol).Destroy() // the job's connections
	return say(j, "end", "", nil, begin)
}

// within runs one check. dubbo-go panics when a client's first connection is
// refused, and in a call whose client never had one.
func within(limit time.Duration, check func() (string, error)) (string, error) {
	type outcome struct {
		detail string
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			if r := recover(); r != nil {
				o.err = fmt.Errorf("panic: %v", r)
			}
			done <- o
		}()
		o.detail, o.err = check()
	}()
	select {
	case o := <-done:
		return o.detail, o.err
	case <-time.After(limit):
		return "", errHangs
	}
}

func say(j job, check, detail string, err error, start time.Time) error {
	r := report{Job: j.text("id", "0"), Check: check, OK: err == nil, Detail: detail, MS: time.Since(start).Milliseconds(), Exception: []link{}}
	for ; err != nil; err = errors.Unwrap(err) {
		r.Exception = append(r.Exception, link{Class: reflect.TypeOf(err).String(), Code: -1, Message: err.Error()})
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	fmt.Println(string(b))
	return nil
}
