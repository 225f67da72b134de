package quota

// Fly bounds the requests in flight of one workload; 0: not. It is called before the
// first connection.
func (n *Node) Fly(requests int64) { n.flying = requests }

// Begin says that so many more requests of the workload are in flight.
func (w *Workload) Begin(n int) {
	for part := w; part != nil; part = part.parent {
		part.flying.Add(int64(n))
	}
}

// End says that so many are not any more.
func (w *Workload) End(n int) { w.Begin(-n) }

// Crowded tells whether as many are in flight as may be.
func (w *Workload) Crowded() bool {
	for part := w; part != nil && part.node.flying > 0; part = part.parent {
		if part.flying.Load() >= part.node.flying/part.part {
			return true
		}
	}
	return false
}
