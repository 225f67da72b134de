package lane

import (
	"net/netip"
	"sync/atomic"
)

// actives are the numbers by which the programs count requests in flight of endpoints.
// Number 0 is nobody's.
type actives struct {
	numbers map[netip.AddrPort]uint32
	users   []int
}

func newActives(n int) actives {
	return actives{numbers: make(map[netip.AddrPort]uint32), users: make([]int, n)}
}

// take returns the number of an address, until give; 0: there is none left.
func (a *actives) take(addr netip.AddrPort) uint32 {
	if number, ok := a.numbers[addr]; ok {
		a.users[number]++
		return number
	}
	for number := 1; number < len(a.users); number++ {
		if a.users[number] == 0 {
			a.numbers[addr], a.users[number] = uint32(number), 1
			return uint32(number)
		}
	}
	return 0
}

// give gives it back.
func (a *actives) give(addr netip.AddrPort, number uint32) {
	if a.numbers[addr] != number || number == 0 {
		return // of other memory
	}
	if a.users[number]--; a.users[number] == 0 {
		delete(a.numbers, addr)
	}
}

// keep is take of an address that had a number of a proxy before this one: the same, if it
// is nobody else's.
func (a *actives) keep(addr netip.AddrPort, number uint32) uint32 {
	if _, ok := a.numbers[addr]; !ok && number > 0 && int(number) < len(a.users) && a.users[number] == 0 {
		a.numbers[addr], a.users[number] = number, 1
		return number
	}
	return a.take(addr)
}

// rest makes the counts of numbers that are nobody's 0.
func (a *actives) rest(counts []uint64) {
	for number, users := range a.users {
		if users == 0 {
			atomic.StoreUint64(&counts[number], 0)
		}
	}
}
