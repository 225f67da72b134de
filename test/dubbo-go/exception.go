package main

import (
	"sync"

	"github.com/apache/dubbo-go-hessian2/java_exception"
)

// ProbeException is the service's checked exception as hessian2 carries it.
type ProbeException struct {
	SerialVersionUID     int64
	DetailMessage        string
	SuppressedExceptions []java_exception.Throwabler
	StackTrace           []java_exception.StackTraceElement
	Cause                java_exception.Throwabler
	Code                 int32
}

// Error returns the message.
func (e ProbeException) Error() string { return e.DetailMessage }

// JavaClassName is its class.
func (ProbeException) JavaClassName() string { return "org.dubway.test.ProbeException" }

// GetStackTrace is Java's.
func (e ProbeException) GetStackTrace() []java_exception.StackTraceElement { return e.StackTrace }

// counts is how often each name was told.
type counts struct {
	mu sync.Mutex
	n  map[string]int32
}

var told = counts{n: map[string]int32{}} //nolint:gochecknoglobals // both services of the process count together

func (c *counts) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[name]++
}

func (c *counts) of(name string) int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[name]
}
