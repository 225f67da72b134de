package verdict

// Grounds are what a verdict was made of beside the request.
type Grounds struct{}

// Stands tells whether a verdict is still what it would be if it were asked again, as far as
// this node knows: the configuration, the health of the endpoints, the workload's mode and the
// provider's own policies are the same. It costs a few loads for each end. Any goroutine may
// ask. A verdict for the proxy stands for nothing: ask again with the next request.
func (v *Verdict) Stands() bool { return v.Reason == Lane }
