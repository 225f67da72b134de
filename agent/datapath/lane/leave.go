package lane

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/dubway/dubway/agent/datapath/walk"
	"github.com/dubway/dubway/bpf"
	"github.com/dubway/dubway/internal/lane"
)

// Strain is how much of what the host gives TCP is used (net.ipv4.tcp_mem).
type Strain uint32

// The strains.
const (
	StrainNone = Strain(bpf.LaneLaneStrainLaneStrainNone) // not more than its first number; or nobody knows, as no socket joined yet
	StrainSome = Strain(bpf.LaneLaneStrainLaneStrainSome)
	StrainMuch = Strain(bpf.LaneLaneStrainLaneStrainMuch) // more than its second number
)

// Strain tells it. One goroutine calls it and Leave.
func (l *Lane) Strain() (Strain, error) {
	ask := bpf.LaneLaneLeave{}
	if l.counted.allocated == 0 {
		var place bpf.LaneLanePlace
		members := l.maps[bpf.LaneMapLaneMembers].Iterate()
		if !members.Next(&ask.Cookie, &place) {
			if err := members.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
				return StrainNone, fmt.Errorf("ask how much memory TCP has: %w", err)
			}
			return StrainNone, nil
		}
		ask.Sk = place.Sk
	}
	if err := l.ask(&ask); err != nil {
		return StrainNone, fmt.Errorf("ask how much memory TCP has: %w", err)
	}
	return Strain(ask.Strain), nil
}

// ask runs the program that tells of a socket, or of nobody's.
func (l *Lane) ask(ask *bpf.LaneLaneLeave) error {
	ask.Allocated, ask.Limits = l.counted.allocated, l.counted.limits
	if _, err := l.leaver.Run(&ebpf.RunOptions{Context: ask, ContextOut: ask}); err != nil {
		return fmt.Errorf("run %s: %w", bpf.LaneProgLeaveSyscall, err)
	}
	l.counted.allocated, l.counted.limits = ask.Allocated, ask.Limits
	return nil
}

// Shut lets no more sockets join, and none into a lane, or does again. When it returns no
// program is at work that has not seen it.
func (l *Lane) Shut(shut bool) error {
	gate := bpf.LaneLaneGate{}
	if shut {
		gate.Shut = 1
	}
	if err := l.maps[bpf.LaneMapLaneGates].Put(uint32(0), gate); err != nil {
		return fmt.Errorf("shut lanes: %w", err)
	}
	if err := lane.Quiesce(); err != nil {
		return fmt.Errorf("shut lanes: %w", err)
	}
	return nil
}

// Leave takes the sockets that are in no lane out of the maps, after Shut: they are TCP's
// alone from then on, until they are closed. Those that are in one, or have not read all of
// it, stay; how many, it returns.
func (l *Lane) Leave() (stay int, err error) {
	places := map[uint64]bpf.LaneLanePlace{}
	keep := func(cookie *uint64, place *bpf.LaneLanePlace) { places[*cookie] = *place }
	if err := walk.Each(l.maps[bpf.LaneMapLaneMembers], keep); err != nil {
		return 0, fmt.Errorf("list sockets of lanes: %w", err)
	}
	for cookie, place := range places {
		ask := bpf.LaneLaneLeave{Cookie: cookie, Sk: place.Sk, Lane: place.Lane, End: place.End}
		if err := l.ask(&ask); err != nil {
			return 0, fmt.Errorf("ask whether a socket may leave: %w", err)
		}
		if ask.Free == 0 {
			stay++
			continue
		}
		if err := l.part(cookie, place.Accepted); err != nil {
			return 0, fmt.Errorf("take socket out of lanes: %w", err)
		}
	}
	return stay, nil
}

// part takes an application's socket out, and the proxy's end of a consumer's. One that is
// closed meanwhile is out already.
func (l *Lane) part(cookie, accepted uint64) error {
	all := []*ebpf.Map{l.maps[bpf.LaneMapLaneMembers], l.maps[bpf.LaneMapLaneSockets], l.maps[bpf.LaneMapLaneSockets]}
	for i, key := range []uint64{cookie, cookie, accepted} {
		if err := all[i].Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err //nolint:wrapcheck // the caller says what
		}
	}
	return nil
}
