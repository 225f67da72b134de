package xds

import (
	"errors"
	"path/filepath"

	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// Rejection says why one resource, or one whole file, was not applied. The last
// good version of what it names stays.
type Rejection struct {
	File   string  `json:"file"`           // path of the file
	Kind   string  `json:"kind"`           // Listener, Cluster, ClusterLoadAssignment, RouteConfiguration, or File
	Name   string  `json:"name"`           // resource name; for File the file's base name
	Field  string  `json:"field"`          // path in proto names: virtual_hosts[0].routes[2].route.timeout
	Reason string  `json:"reason"`         // why
	More   []Field `json:"more,omitempty"` // what else is wrong with the same resource
}

// Field is one more reason of a Rejection.
type Field = problems.Problem

// kindFile is the Kind of a Rejection of a whole file.
const kindFile = "File"

// rejectFile makes the Rejection of a file, or directory, that cannot be read.
func rejectFile(path string, err error) Rejection {
	r := Rejection{File: path, Kind: kindFile, Name: filepath.Base(path), Reason: err.Error()}
	if at, ok := errors.AsType[problems.Problem](err); ok {
		r.Field, r.Reason = at.Field, at.Reason
	}
	return r
}

// rejectField makes the Rejection of a resource for one reason.
func rejectField(file string, k key, field, reason string) Rejection {
	return Rejection{File: file, Kind: k.kind, Name: k.name, Field: field, Reason: reason}
}

// rejectResource makes the Rejection of one resource, which has at least one
// problem.
func rejectResource(file string, k key, p problems.List) Rejection {
	return Rejection{File: file, Kind: k.kind, Name: k.name, Field: p[0].Field, Reason: p[0].Reason, More: p[1:]}
}

// said is what tells a rejection from another: of the same resource for the same first
// reason there is one.
func (r *Rejection) said() [5]string { return [5]string{r.File, r.Kind, r.Name, r.Field, r.Reason} }
