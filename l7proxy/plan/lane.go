package plan

import (
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
)

// Lane says whether requests like the one of the last Edge may take a lane.
func (p *Planner) Lane(codec.Header, []byte) verdict.Verdict {
	return verdict.Proxy(verdict.Unsupported)
}
