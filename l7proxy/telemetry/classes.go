package telemetry

import (
	"strings"
	"sync"
	"sync/atomic"
)

// The numbers of exceptions in an outcome. Classes have those from firstClass.
const (
	noClass      uint16 = iota // no exception
	unknownClass               // one whose class cannot be read
	otherClass                 // one beyond a budget
	firstClass
)

// classes numbers the classes of business exceptions that are label values: the
// first so many that providers answered with. They come from providers, as the
// answers do that confirm names; a provider that invents classes can use the
// budget up and hide those that come later, not make more series.
type classes struct {
	max int

	mu       sync.RWMutex
	numbers  map[string]uint16
	names    []string // by number
	exceeded atomic.Uint64
}

func newClasses(most int) *classes {
	return &classes{max: most, numbers: make(map[string]uint16), names: []string{none, unknown, other}}
}

// number returns the number of a class.
func (c *classes) number(class string) uint16 {
	if class == "" {
		return unknownClass
	}
	c.mu.RLock()
	n, ok := c.numbers[class]
	full := len(c.numbers) >= c.max
	c.mu.RUnlock()
	switch {
	case ok:
		return n
	case full || !labelable(class):
		c.exceeded.Add(1)
		return otherClass
	}
	return c.admit(strings.Clone(class))
}

func (c *classes) admit(class string) uint16 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, ok := c.numbers[class]; ok {
		return n
	}
	if len(c.numbers) >= c.max {
		c.exceeded.Add(1)
		return otherClass
	}
	n := uint16(len(c.names))
	c.numbers[class] = n
	c.names = append(c.names, class)
	return n
}

// name returns the label value of a number.
func (c *classes) name(n uint16) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.names[n]
}
