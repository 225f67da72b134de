// Package hessian skips over hessian2 values: it finds where a value ends
// without building it. That is all a proxy needs to reach what stands behind a
// call's arguments. It reads strings and numbers too, and it appends strings; it
// does not decode objects, knows no Java class and follows no reference.
//
// Bytes come from pods and are hostile: every function here is bounded by the
// input's length and by the limits below, does not recurse and never panics.
// Wire facts are those of the Hessian 2.0 serialization specification, as
// Dubbo's Java library (hessian-lite) and dubbo-go-hessian2 write them.
package hessian

import "errors"

// The three ways in which reading can fail. Errors are compared with errors.Is.
var (
	// ErrMore says that the input ends inside the value: with more bytes the
	// same call may succeed.
	ErrMore = errors.New("read hessian value: input ends inside it")
	// ErrMalformed says that no continuation makes the input a value.
	ErrMalformed = errors.New("read hessian value: malformed")
	// ErrLimit says that the value is deeper or has more parts than we read.
	ErrLimit = errors.New("read hessian value: over the limit")
)

// ErrForm is returned by Text for a string whose bytes on the wire are not its
// UTF-8 text: it comes in chunks or holds surrogate pairs. AppendText reads it.
var ErrForm = errors.New("read hessian string: not contiguous UTF-8")

// The limits of one Reader between two calls of Reset.
const (
	// MaxDepth is how deep lists, maps and objects may be nested. Java's own
	// reader recurses and overflows its stack at a few thousand.
	MaxDepth = 512
	// MaxValues bounds the work: values, map keys, fields and class field names.
	MaxValues = 1 << 21
	// MaxClasses is the number of class definitions.
	MaxClasses = 4096
)
