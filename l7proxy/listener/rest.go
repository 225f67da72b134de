package listener

// manyQuiet is how many connections must have become idle for what they left to be
// worth a collection: some 16 MiB.
const manyQuiet = 2000

// rest gives memory back when many connections have become idle. The runtime collects
// what opening them left, and makes their stacks smaller, when it has to collect
// anyway: idle connections give it no reason to.
type rest struct {
	give   func()
	quiet  int
	rounds int
}

// collect notes how many connections have become idle since it was called last.
func (r *rest) collect(quiet int) {
	if r.quiet += quiet; r.quiet >= manyQuiet {
		r.quiet, r.rounds = 0, 2 // a stack becomes half as large each time, and pools keep what they hold for one
	}
	if r.rounds > 0 {
		r.rounds--
		r.give()
	}
}
