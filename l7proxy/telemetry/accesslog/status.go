package accesslog

// StatusName returns a Dubbo status in words, as org.apache.dubbo.remoting's
// Response has them: "" for 0, which is no answer, and "unknown" for any other
// status that Dubbo does not define.
func StatusName(status uint8) string {
	switch status {
	case 0:
		return ""
	case 20:
		return "ok"
	case 25:
		return "serialization_error"
	case 30:
		return "client_timeout"
	case 31:
		return "server_timeout"
	case 35:
		return "channel_inactive"
	case 40:
		return "bad_request"
	case 50:
		return "bad_response"
	case 60:
		return "service_not_found"
	case 70:
		return "service_error"
	case 80:
		return "server_error"
	case 90:
		return "client_error"
	case 100:
		return "threadpool_exhausted"
	}
	return Unknown
}

// Unknown is the name of a status that Dubbo does not define.
const Unknown = "unknown"
