package dubbotest

// reach counts the calls that a lane can take: those that are whole in one write, where
// nothing before them in it has to go by the proxy, of which all of that write is.
type reach struct {
	calls  int
	frames []outgoing // not written to their ends
	slow   bool       // the first of them has begun, and takes no lane
}

// outgoing is a frame that is written.
type outgoing struct {
	left  int  // bytes
	call  bool // or it takes no lane
	begun bool // a part was written
}

// add says that a frame is going to be written behind the others.
func (r *reach) add(frame []byte, call bool) {
	r.frames = append(r.frames, outgoing{left: len(frame), call: call})
}

// wrote says that so many bytes were written at once.
func (r *reach) wrote(n int) {
	slow := r.slow
	for n > 0 {
		f := &r.frames[0]
		if !f.begun {
			f.begun = true
			if slow = slow || !f.call || n < f.left; !slow {
				r.calls++
			}
		}
		part := min(n, f.left)
		f.left -= part
		n -= part
		if f.left == 0 {
			r.frames = append(r.frames[:0], r.frames[1:]...)
		}
	}
	r.slow = slow && len(r.frames) > 0 && r.frames[0].begun
}
