// Package value has the checks of what a field of Envoy's API holds, for the tables of
// package fields.
package value

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// IsZeroDuration tells whether a Duration is 0s.
func IsZeroDuration(v protoreflect.Value) bool {
	m := v.Message()
	fields := m.Descriptor().Fields()
	return m.Get(fields.ByName("seconds")).Int() == 0 && m.Get(fields.ByName("nanos")).Int() == 0
}

// IsFalse tells whether a bool or a BoolValue is false.
func IsFalse(v protoreflect.Value) bool {
	if m, ok := v.Interface().(protoreflect.Message); ok {
		return !m.Get(m.Descriptor().Fields().ByName("value")).Bool()
	}
	return !v.Bool()
}

// IsTrue tells whether a bool or a BoolValue is true.
func IsTrue(v protoreflect.Value) bool { return !IsFalse(v) }

// IsUnlimited tells whether a UInt32Value is the largest one, which Envoy's
// control planes send for "no limit".
func IsUnlimited(v protoreflect.Value) bool {
	m := v.Message()
	return m.Get(m.Descriptor().Fields().ByName("value")).Uint() == 1<<32-1
}

// BindsIstio tells whether a BindConfig binds nothing but 127.0.0.6 or ::6.
func BindsIstio(v protoreflect.Value) bool {
	m, ok := v.Message().Interface().(*corev3.BindConfig)
	if !ok {
		return false
	}
	at := m.GetSourceAddress()
	rest := proto.CloneOf(m)
	rest.SourceAddress = nil
	return (at.GetAddress() == "127.0.0.6" || at.GetAddress() == "::6") && at.GetPortValue() == 0 && proto.Size(rest) == 0
}

// IsEnum returns a check for one of some enum numbers.
func IsEnum(numbers ...protoreflect.EnumNumber) func(protoreflect.Value) bool {
	return func(v protoreflect.Value) bool {
		for _, n := range numbers {
			if v.Enum() == n {
				return true
			}
		}
		return false
	}
}

// IsString returns a check for one of some strings.
func IsString(values ...string) func(protoreflect.Value) bool {
	return func(v protoreflect.Value) bool {
		for _, s := range values {
			if v.String() == s {
				return true
			}
		}
		return false
	}
}

// AreStrings returns a check that a list holds nothing but the given strings.
func AreStrings(values ...string) func(protoreflect.Value) bool {
	one := IsString(values...)
	return func(v protoreflect.Value) bool {
		l := v.List()
		for i := range l.Len() {
			if !one(l.Get(i)) {
				return false
			}
		}
		return true
	}
}
