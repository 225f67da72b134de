package snapshot

// View is what some workloads see of the mesh.
type View struct {
	// Key names it, for people: "namespace/serviceaccount label=value ...". "" for the one
	// view that all have.
	Key       string
	Snapshot  *Snapshot
	Workloads []string // the UIDs of those that have it; nil for all
}

// Of returns the snapshots of views, in their order.
func Of(views []View) []*Snapshot {
	all := make([]*Snapshot, len(views))
	for i := range views {
		all[i] = views[i].Snapshot
	}
	return all
}
