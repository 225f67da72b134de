package sock

// Join appends b to spans. If b begins where the last span ends in the same
// buffer the two become one: fewer, larger writes.
func Join(spans [][]byte, b []byte) [][]byte {
	if n := len(spans); n > 0 {
		last := spans[n-1]
		if cap(last) > len(last) && &last[:len(last)+1][len(last)] == &b[0] {
			spans[n-1] = last[:len(last)+len(b)]
			return spans
		}
	}
	return append(spans, b)
}
