package learned

import (
	"net/netip"
	"sync/atomic"

	"github.com/dubway/dubway/l7proxy/breaker"
)

// Actives are the numbers by which the programs count requests in flight of endpoints.
// Number 0 is nobody's.
type Actives struct {
	numbers  map[netip.AddrPort]uint32
	breakers map[uint32]*breaker.Breaker // by number; those have bounds instead of endpoints
	users    []int
}

func newActives(n int) Actives {
	return Actives{
		numbers: make(map[netip.AddrPort]uint32), breakers: make(map[uint32]*breaker.Breaker), users: make([]int, n),
	}
}

// Take returns the number of an address, until Give; 0: there is none left.
func (a *Actives) Take(addr netip.AddrPort) uint32 {
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

// Give gives it back.
func (a *Actives) Give(addr netip.AddrPort, number uint32) {
	if a.numbers[addr] != number || number == 0 {
		return // of other memory
	}
	if a.users[number]--; a.users[number] == 0 {
		delete(a.numbers, addr)
	}
}

// Keep is Take of an address that had a number of a proxy before this one: the same, if it
// is nobody else's.
func (a *Actives) Keep(addr netip.AddrPort, number uint32) uint32 {
	if _, ok := a.numbers[addr]; !ok && number > 0 && int(number) < len(a.users) && a.users[number] == 0 {
		a.numbers[addr], a.users[number] = number, 1
		return number
	}
	return a.Take(addr)
}

// Rest makes the counts of numbers that are nobody's 0.
func (a *Actives) Rest(counts []uint64) {
	for number, users := range a.users {
		if users == 0 {
			atomic.StoreUint64(&counts[number], 0)
		}
	}
}
