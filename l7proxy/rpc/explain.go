package rpc

// Explain is the text of a local reply: why, and for what. Call may be nil.
func Explain(why Why, call *Call) string {
	text := why.String()
	if call == nil {
		return text
	}
	switch {
	case call.Interface != "":
		text += ": " + call.Interface + "." + call.Method
	case call.Method != "":
		text += ": " + call.Method
	default:
		text += ": a request that cannot be decoded"
	}
	if call.Cluster != "" {
		text += ", cluster " + call.Cluster
	}
	if call.Endpoint.IsValid() {
		text += ", endpoint " + call.Endpoint.String()
	}
	return text
}
