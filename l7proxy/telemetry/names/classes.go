package names

import (
	"strings"
	"sync"
	"sync/atomic"
)

// The numbers of exceptions. Classes have those from FirstClass.
const (
	NoClass      uint16 = iota // no exception
	UnknownClass               // one whose class cannot be read
	OtherClass                 // one beyond a budget
	FirstClass
)

// Classes numbers the classes of business exceptions that are label values: the
// first so many that providers answered with. They come from providers, as the
// answers do that confirm names; a provider that invents classes can use the
// budget up and hide those that come later, not make more series. Safe for concurrent use.
type Classes struct {
	max int

	mu       sync.RWMutex
	numbers  map[string]uint16
	names    []string // by number
	exceeded atomic.Uint64
}

// NewClasses returns Classes that numbers so many.
func NewClasses(most int) *Classes {
	return &Classes{max: most, numbers: make(map[string]uint16), names: []string{None, Unknown, Other}}
}

// Number returns the number of a class.
func (c *Classes) Number(class string) uint16 {
	if class == "" {
		return UnknownClass
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
		return OtherClass
	}
	return c.admit(strings.Clone(class))
}

func (c *Classes) admit(class string) uint16 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, ok := c.numbers[class]; ok {
		return n
	}
	if len(c.numbers) >= c.max {
		c.exceeded.Add(1)
		return OtherClass
	}
	n := uint16(len(c.names))
	c.numbers[class] = n
	c.names = append(c.names, class)
	return n
}

// Name returns the label value of a number.
func (c *Classes) Name(n uint16) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.names[n]
}

// Exceed counts an exception whose class is beyond a budget.
func (c *Classes) Exceed() { c.exceeded.Add(1) }

// Exceeded returns how many were counted, here or by Exceed.
func (c *Classes) Exceeded() uint64 { return c.exceeded.Load() }
