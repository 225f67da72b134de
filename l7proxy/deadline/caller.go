package deadline

import (
	"math"
	"strconv"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
)

// The attachments in which a consumer says how long it waits, in milliseconds: for
// this call, and what is left of the time of the call that it serves itself
// (RpcUtils and TimeoutCountDown of Dubbo Java; Java sends the first with each call).
const (
	timeoutAttachment   = "timeout"
	countdownAttachment = "timeout-countdown"
)

// OfCaller returns how long the consumer of an opened request waits; the longest
// duration if it does not say.
func OfCaller(body codec.Body) time.Duration {
	limit := time.Duration(math.MaxInt64)
	for _, name := range [...]string{timeoutAttachment, countdownAttachment} {
		text, ok, err := body.Lookup(name)
		if err != nil || !ok {
			continue
		}
		if n, err := strconv.ParseInt(text, 10, 32); err == nil && n > 0 {
			limit = min(limit, time.Duration(n)*time.Millisecond)
		}
	}
	return limit
}
