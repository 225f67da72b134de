package reach

import (
	"errors"
	"fmt"

	"github.com/dubway/dubway/internal/handoff/lack"
)

// The reasons for which a workload that is reached has no configuration in force.
var (
	errView = errors.New("the control plane has not said yet what it sees of the mesh: until it does, its calls would go past the mesh; " +
		"see the problems of dubwayctl status")
	errPlane = errors.New("the control plane does not answer, and nothing of what it sees of the mesh was kept: until then " +
		"its calls would go past the mesh; see the problems of dubwayctl status")
	errTable   = errors.New("its destinations are not in force in the kernel yet")
	errRefused = errors.New("its destinations cannot be put in force: see destinations not published in the log of dubway-proxy")
)

// explain says what a Lack other than None means.
func (p *Prober) explain(missing lack.Lack, uid string) error {
	switch missing {
	case lack.View:
		return errView
	case lack.Plane:
		return errPlane
	case lack.Refused:
		if p.Refused != nil {
			if err := p.Refused(uid); err != nil {
				return fmt.Errorf("its destinations cannot be put in force: %w", err)
			}
		}
		return errRefused
	case lack.Table, lack.None:
	}
	return errTable
}
