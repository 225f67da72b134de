package table

// Own tells whether a table is of a workload's own configuration, by its number and how
// many entries it has: one that names its workloads, or a table 0 that steers somebody. With
// a control plane table 0 is empty, and steers those that it said nothing of. (An empty one
// of files is in force too, as the proxy knows; there is nothing that it would steer.)
func Own(number uint32, entries int) bool { return number != 0 || entries > 0 }

// Steered tells whether a table of an enrolled workload's own configuration is in force,
// whichever proxy published it.
func (t *Tables) Steered(uid string) bool {
	table, ok := t.Of(uid)
	return ok && Own(table.Number, table.Entries)
}

// Refused tells why the last generation of an enrolled workload's table is not in force;
// nil if it is.
func (t *Tables) Refused(uid string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.refused[uid]; err != nil {
		return err
	}
	if t.of[uid] == 0 {
		return t.refusedRest
	}
	return nil
}

// judged notes how a generation ended. Of workloads that are not enrolled nothing is kept,
// or a proxy could fill the agent's memory with names.
func (t *Tables) judged(g *Generation, err error) {
	if g.Number == 0 {
		t.refusedRest = err
		return
	}
	for _, uid := range g.Workloads {
		if _, enrolled := t.enrolled[uid]; enrolled && err != nil {
			t.refused[uid] = err
		} else {
			delete(t.refused, uid)
		}
	}
}
