package verdict

// Reason is why requests stay with the proxy, in the words that operators read
// (docs/LANE.md) and that metrics have as a label's value.
type Reason string

// Lane is no reason: the kernel routes them.
const Lane Reason = "lane"

// What a request is.
const (
	Protocol      Reason = "not a Dubbo call"
	Inbound       Reason = "accepted at the provider"
	OneWay        Reason = "one-way or an event"
	Serialization Reason = "a serialization other than hessian2 and fastjson2"
	Undecodable   Reason = "its names cannot be read"
	LongNames     Reason = "its names are too long"
	Generic       Reason = "a generic call"
	Pinned        Reason = "it asks about the very provider that was dialled"
	Callback      Reason = "its provider may call back"
)

// What the moment is.
const (
	Mode     Reason = "the workload's mode is observe or off"
	Overload Reason = "the proxy sheds the workload's requests"
	Changing Reason = "the configuration is changing"
	Ending   Reason = "the connection is about to end"
	Tapped   Reason = "somebody taps what calls say"
)

// What its way is.
const (
	NoRoute      Reason = "no route matches"
	ByBody       Reason = "routes ask for attachments or arguments"
	ByChance     Reason = "a route takes a fraction of the requests"
	Direct       Reason = "the route answers by itself"
	Edits        Reason = "attachments are changed"
	Mirrored     Reason = "copies go to a mirror"
	Retried      Reason = "answers with errors are sent again"
	Fault        Reason = "faults are injected"
	Denied       Reason = "a policy denies it"
	PolicyByBody Reason = "a policy looks at each request"
	Limited      Reason = "a rate limit counts it"
	Traced       Reason = "spans are made"
	Told         Reason = "telemetry asks for more than names"
)

// Whom it leads to.
const (
	NoCluster   Reason = "the route's cluster does not exist"
	NoEndpoint  Reason = "no endpoint may be chosen"
	Stale       Reason = "the dialled address is stale"
	Hashed      Reason = "a hash chooses the endpoint"
	Weighted    Reason = "least request by a bias, or of more than the kernel looks at"
	SlowStart   Reason = "an endpoint starts slowly"
	Breaker     Reason = "requests in flight are limited"
	Avoided     Reason = "an endpoint is avoided"
	Unanswered  Reason = "an endpoint has not answered for the interface yet"
	Remote      Reason = "no endpoint is an enrolled pod of this node"
	Guarded     Reason = "a provider judges or decrypts what comes in"
	TooMany     Reason = "more endpoints, clusters or weights than a lane has room for"
	Unsupported Reason = "something that the lane does not know"
)

// elsewhere tells whether it is an endpoint's own: what is drawn for others may take the lane.
func (r Reason) elsewhere() bool {
	return r == Remote || r == Guarded || r == Told || r == Edits || r == Avoided || r == Unanswered
}

// led tells whether it is a cluster's own: what is drawn for others may take the lane.
func (r Reason) led() bool { return r.elsewhere() || r == TooMany || r == Weighted || r == Hashed }

// Reasons are all of them, as they are documented.
var Reasons = []Reason{
	Protocol, Inbound, OneWay, Serialization, Undecodable, LongNames, Generic, Pinned, Callback,
	Mode, Overload, Changing, Ending, Tapped,
	NoRoute, ByBody, ByChance, Direct, Edits, Mirrored, Retried, Fault, Denied, PolicyByBody, Limited, Traced, Told,
	NoCluster, NoEndpoint, Stale, Hashed, Weighted, SlowStart, Breaker, Avoided, Unanswered, Remote, Guarded, TooMany, Unsupported,
}
