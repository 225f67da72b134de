package lane

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/bpf"
	"github.com/dubway/dubway/internal/lane"
)

// shared are the maps of internal/lane's files, in their order.
var shared = [lane.Files]string{
	lane.FileLanes:   bpf.LaneMapLanes,
	lane.FileFlights: bpf.LaneMapLaneFlights,
	lane.FileRoutes:  bpf.LaneMapLaneRoutes,
	lane.FileTallies: bpf.LaneMapLaneTallies,
	lane.FileActive:  bpf.LaneMapLaneActive,
	lane.FileBudget:  bpf.LaneMapLaneBudgets,
	lane.FileLog:     bpf.LaneMapLaneLog,
}

// mapNames are the maps that are pinned.
var mapNames = append(shared[:],
	bpf.LaneMapLaneSockets,
	bpf.LaneMapLaneMembers,
	bpf.LaneMapLanePeers,
	bpf.LaneMapLaneBound,
	bpf.LaneMapLaneGates,
	bpf.LaneMapLaneBridges,
	bpf.LaneMapLaneWorkloads,
	bpf.LaneMapLaneStates,
	bpf.LaneMapLaneCounts,
)

// errIncompatible says that what is pinned cannot be gone on with.
var errIncompatible = errors.New("pinned maps are incompatible")

// read reads the programs and maps and gives them their sizes.
func (l *Lane) read(lanes int) error {
	spec, err := bpf.LoadLane()
	if err != nil {
		return fmt.Errorf("read programs: %w", err)
	}
	return l.size(spec, lanes)
}

// size gives programs and maps their sizes.
func (l *Lane) size(spec *ebpf.CollectionSpec, lanes int) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count CPUs: %w", err)
	}
	l.spec = spec
	l.sizes = lane.Sizes{
		Version: lane.Version, Lanes: lanes, Routes: routes, Series: series, CPUs: min(cpus, maxCPUs), Active: active, Log: logBytes,
	}
	for name, n := range map[string]int{
		bpf.LaneMapLanes: lanes, bpf.LaneMapLaneFlights: lanes, bpf.LaneMapLaneBound: lanes, bpf.LaneMapLaneRoutes: routes,
		bpf.LaneMapLaneTallies: series * (l.sizes.CPUs + 1), bpf.LaneMapLaneActive: active, bpf.LaneMapLaneLog: logBytes,
	} {
		spec.Maps[name].MaxEntries = uint32(n)
	}
	for name, n := range map[string]int{
		bpf.LaneVarLaneRouteMask: routes - 1, bpf.LaneVarLaneSeries: series, bpf.LaneVarLaneCpus: l.sizes.CPUs,
	} {
		if err := spec.Variables[name].Set(uint32(n)); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// Sizes are how many there are of what the proxy shares.
func (l *Lane) Sizes() lane.Sizes { return l.sizes }

// openMaps opens the pinned maps, all of this build's shape and sizes.
func (l *Lane) openMaps() (map[string]*ebpf.Map, error) {
	pinned := map[string]*ebpf.Map{}
	for _, name := range mapNames {
		m, err := ebpf.LoadPinnedMap(l.pins.MapFile(name), nil)
		if err == nil {
			pinned[name] = m
			if err = l.spec.Maps[name].Compatible(m); err != nil {
				err = fmt.Errorf("%w: %w", errIncompatible, err)
			}
		}
		if err != nil {
			closeMaps(pinned)
			return nil, fmt.Errorf("open pinned map %s: %w", name, err)
		}
	}
	return pinned, nil
}

// take keeps the maps of a collection that are pinned, and the program that nobody attaches.
func (l *Lane) take(coll *ebpf.Collection) {
	l.maps = map[string]*ebpf.Map{}
	for _, name := range mapNames {
		l.maps[name] = coll.DetachMap(name)
	}
	l.leaver = coll.DetachProgram(bpf.LaneProgLeaveSyscall)
}

func closeMaps(all map[string]*ebpf.Map) {
	for _, m := range all {
		m.Close()
	}
}

func duplicate(m *ebpf.Map, name string) (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(m.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate map %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Counts returns how often each outcome of bpf/lane_outcome.h happened, over all CPUs,
// since the maps were made. What took a lane is counted in the lane.
func (l *Lane) Counts() (map[string]uint64, error) {
	var outcomes *btf.Enum
	if err := l.spec.Types.TypeByName("lane_outcome", &outcomes); err != nil {
		return nil, fmt.Errorf("read outcomes: %w", err)
	}
	counts := map[string]uint64{}
	for _, outcome := range outcomes.Values {
		var perCPU []uint64
		if err := l.maps[bpf.LaneMapLaneCounts].Lookup(uint32(outcome.Value), &perCPU); err != nil {
			return nil, fmt.Errorf("read count %s: %w", outcome.Name, err)
		}
		for _, n := range perCPU {
			counts[outcome.Name] += n
		}
	}
	return counts, nil
}
