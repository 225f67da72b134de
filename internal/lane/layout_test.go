package lane

import "testing"

// TestSizes: the programs were compiled with these.
func TestSizes(t *testing.T) {
	for name, test := range map[string][2]uintptr{
		"Lane": {SizeOfLane, 320}, "Flight": {SizeOfFlight, 32}, "Route": {SizeOfRoute, 1032}, "Tally": {SizeOfTally, 512},
		"Record": {SizeOfRecord, 48}, "Budget": {SizeOfBudget, 32}, "State": {SizeOfState, 40},
	} {
		if test[0] != test[1] {
			t.Errorf("%s has %d bytes, not %d", name, test[0], test[1])
		}
	}
}

// TestHash: bpf/lane_frame.h computes the same.
func TestHash(t *testing.T) {
	a := Hash(1, Hessian2, []byte("\x052.0.2\x17org.example.EchoService\x050.0.0\x04echo"))
	for name, b := range map[string]uint64{
		"class":         Hash(2, Hessian2, []byte("\x052.0.2\x17org.example.EchoService\x050.0.0\x04echo")),
		"serialization": Hash(1, Fastjson2, []byte("\x052.0.2\x17org.example.EchoService\x050.0.0\x04echo")),
		"method":        Hash(1, Hessian2, []byte("\x052.0.2\x17org.example.EchoService\x050.0.0\x04eche")),
		"zeros":         Hash(1, Hessian2, []byte("\x052.0.2\x17org.example.EchoService\x050.0.0\x04echo\x00")),
	} {
		if a == b {
			t.Errorf("%s does not count", name)
		}
	}
}
