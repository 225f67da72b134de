package rpc

// delayed is Envoy's response flag of a request that a fault delayed, however it
// ended.
const delayed = "DI"

// Flags returns Envoy's response flags for a reason, of a request that a fault
// delayed or not, separated by commas and in Envoy's order: the value of Istio's
// response_flags.
func Flags(why Why, isDelayed bool) string {
	if isDelayed {
		return withDelay[why]
	}
	return why.Flag()
}

// withDelay has the flags of delayed requests, made once: a record allocates nothing.
var withDelay = func() (all [numWhys]string) {
	for why := range numWhys {
		switch flag := why.Flag(); why {
		case WhyNone:
			all[why] = delayed
		case WhyNoRoute, WhyNoEndpoint, WhyConnectFailed, WhyUpstreamClosed, WhyOverflow, WhyTimeout,
			WhyNoIdentity, WhyUntrusted, WhyPlaintext:
			all[why] = flag + "," + delayed
		default:
			all[why] = delayed + "," + flag
		}
	}
	return all
}()
