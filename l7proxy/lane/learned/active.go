package learned

import (
	"sync/atomic"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/breaker"
	"github.com/dubway/dubway/l7proxy/gauge"
)

// counter counts requests in flight in a word that the programs see: to an endpoint of a
// cluster, or to a cluster.
type counter interface {
	Share(at *uint64)
	Unshare(at *uint64)
}

var (
	_ counter = (*gauge.Gauge)(nil)
	_ counter = (*breaker.Breaker)(nil)
)

// Actives are the numbers of counters' words in lane.Memory.Active. Number 0 is nobody's.
type Actives struct {
	words   []uint64
	users   []int
	numbers map[counter]uint32
	of      map[uint32]counter // by number
	left    map[uint32]bool    // in routes of a proxy before this one, until settled
}

func newActives(m *lane.Memory) Actives {
	a := Actives{
		words: m.Active, users: make([]int, len(m.Active)),
		numbers: make(map[counter]uint32), of: make(map[uint32]counter), left: make(map[uint32]bool),
	}
	for i := range m.Routes {
		for number := range counted(&m.Routes[i]) {
			a.left[number] = true
		}
	}
	return a
}

// counted are the numbers by which the programs count a route's requests.
func counted(r *lane.Route) map[uint32]bool {
	numbers := make(map[uint32]bool)
	for k := range lane.Ends {
		numbers[uint32(r.Bounds[k])], numbers[uint32(r.Actives[k])] = true, true
	}
	delete(numbers, 0)
	return numbers
}

// take returns the number of a counter, until as many give; 0: there is none left.
func (a *Actives) take(of counter) uint32 {
	if number := a.numbers[of]; number != 0 {
		a.users[number]++
		return number
	}
	for number := uint32(1); int(number) < len(a.users); number++ {
		if a.users[number] == 0 && !a.left[number] {
			a.own(number, of)
			return number
		}
	}
	return 0
}

func (a *Actives) own(number uint32, of counter) {
	a.users[number]++
	a.numbers[of], a.of[number] = number, of
	of.Share(&a.words[number])
}

// adopt is take of a number that a counter had of a proxy before this one; false: it is another's,
// or the counter has another.
func (a *Actives) adopt(number uint32, of counter) bool {
	if number == 0 || int(number) >= len(a.users) {
		return false
	}
	switch have := a.numbers[of]; {
	case have == number:
		a.users[number]++
	case have != 0, a.of[number] != nil:
		return false
	default:
		a.own(number, of)
	}
	return true
}

// keep is take of a number that a proxy before this one has left: it counts what is in flight
// by routes of that one, whoever has adopted it. False: it is none.
func (a *Actives) keep(number uint32) bool {
	if !a.left[number] || int(number) >= len(a.users) {
		return false
	}
	if a.users[number] == 0 {
		var nobody gauge.Gauge // what that proxy had in flight itself is gone
		nobody.Share(&a.words[number])
		nobody.Unshare(&a.words[number])
	}
	a.users[number]++
	return true
}

// give gives a number back.
func (a *Actives) give(number uint32) {
	if a.users[number]--; a.users[number] > 0 {
		return
	}
	if of := a.of[number]; of != nil {
		of.Unshare(&a.words[number])
		delete(a.numbers, of)
	}
	delete(a.of, number)
	atomic.StoreUint64(&a.words[number], 0)
}

// close ends the use of the words but for what is in flight.
func (a *Actives) close() {
	for number, of := range a.of {
		of.Unshare(&a.words[number])
	}
	clear(a.of)
	clear(a.numbers)
}

// settle makes the counts of numbers 0 that are nobody's: no proxy has left more.
func (a *Actives) settle() {
	clear(a.left)
	for number, users := range a.users {
		if users == 0 {
			atomic.StoreUint64(&a.words[number], 0)
		}
	}
}
