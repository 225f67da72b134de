package rpc

// Outcome is what the end of one request, or of one attempt to connect, says about
// the endpoint that it was sent to. It is for judging endpoints; how the consumer
// fared is a Record.
type Outcome uint8

// The outcomes. The first is about nobody, the next three are the provider's own
// words (external origin in Envoy's terms), the rest is seen from here (local
// origin).
const (
	OutcomeNone        Outcome = iota // says nothing: the consumer left, or the mesh ended it
	OutcomeOK                         // answered, a business exception included
	OutcomeError                      // the provider failed: 500 to Envoy
	OutcomeUnavailable                // the provider, or one behind it, is overloaded or late: 503 and 504
	OutcomeConnected                  // a connection was made
	OutcomeUnreachable                // no connection could be made
	OutcomeReset                      // the connection ended before the answer
	OutcomeTimeout                    // the mesh gave up waiting
	numOutcomes
)

// Outcomes is the number of outcomes, for tables.
const Outcomes = int(numOutcomes)
