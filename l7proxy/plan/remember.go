package plan

// planSize is about what a plan costs beside its names, with one edge.
const planSize = 2 << 10

// remember keeps a plan, unless the workload has too much to remember already:
// names that never end must not fill the memory.
func (p *Planner) remember(look []byte, made *plan) {
	n := planSize + 2*len(look) // a key, and copies of its parts
	if p.source.Quota.Remember(n) {
		p.held += n
		p.plans[string(look)] = made
	}
}

// release gives back what the plans took, which are dropped, and what was made of them.
func (p *Planner) release() {
	p.teller.Forget()
	p.source.Quota.Free(p.held)
	p.held = 0
}
