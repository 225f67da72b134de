package lane

// Drawn is what was drawn for a request that went to the proxy; 0: nothing.
type Drawn uint32

const (
	drawnShare Drawn = 0xff
	drawnAny   Drawn = 0x100
	drawnLed   Drawn = 0x200
	drawnSpan  Drawn = 0x400
	drawnThere Drawn = 0x800
	drawnEnd   Drawn = 0x1000

	drawnNumber = 16 // bits below the number
)

// Anybody is There of a share among whose endpoints elsewhere the proxy chooses.
const Anybody = 0xffff

// Span tells whether it is to have a span.
func (d Drawn) Span() bool { return d&drawnSpan != 0 }

// Share is the number of the route's share to which it is to go; false: none was drawn.
func (d Drawn) Share() (number int, ok bool) { return int(d & drawnShare), d&drawnLed != 0 }

// There is, of the share, the candidate that is the proxy's to which it is to go, by its number
// in the share, or Anybody; false: none was drawn.
func (d Drawn) There() (number int, ok bool) { return int(d >> drawnNumber), d&drawnThere != 0 }

// End is the lane's end that was drawn, which did not take the request; false: none was drawn.
func (d Drawn) End() (number int, ok bool) { return int(d >> drawnNumber), d&drawnEnd != 0 }
