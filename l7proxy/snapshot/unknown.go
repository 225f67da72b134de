package snapshot

// Unknown says what becomes of connections to destinations that no listener is for:
// outboundTrafficPolicy in Istio's words.
type Unknown uint8

// The policies.
const (
	UnknownPass   Unknown = iota // ALLOW_ANY: they are not the mesh's business
	UnknownRefuse                // REGISTRY_ONLY
)

// String returns Istio's word.
func (u Unknown) String() string {
	if u == UnknownRefuse {
		return "REGISTRY_ONLY"
	}
	return "ALLOW_ANY"
}
