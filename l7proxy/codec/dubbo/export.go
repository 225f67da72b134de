package dubbo

import (
	"strings"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/attachments"
	"github.com/dubway/dubway/l7proxy/codec/hessian"
	"github.com/dubway/dubway/l7proxy/codec/jsonb"
)

// What providers say when they do not export what is called, seen on the wire:
//
//	Java 3.3.6, 3.2.16   40  Fail to decode request due to: RpcInvocation [methodName=echo, parameterTypes=null]
//	Java 2.7.23          40  Fail to decode request due to: java.lang.IllegalArgumentException: Service not found:org.x.S, echo
//	all of them          70  org.apache.dubbo.remoting.RemotingException: Not found exported service: g/org.x.S:20880 in [..
//	dubbo-go 3.3.1       20  exception without attachments, java.lang.Throwable: don't have this exporter, key: g/org.x.S:1.0
//
// The first says no more than that the types of the arguments could not be told:
// an unknown method, or a class that only the consumer has, looks the same. Java
// 3.2 writes it in fastjson2 whatever the request was written in.
const (
	decodeFailed    = "Fail to decode request due to: "
	unreadArguments = ", parameterTypes=null]"
	notFound        = "java.lang.IllegalArgumentException: Service not found:"
	notExported     = "RemotingException: Not found exported service: "
	noExporter      = "don't have this exporter, key: "
	// throwable begins dubbo-go's exception, up to the name of its first field.
	throwable = "\x90C\x13java.lang.Throwable"
	// head is how much of an exception holds its class and message's beginning.
	head = 512
)

// NotExported tells whether an answer says that the provider does not know the
// interface, so that it has executed nothing. A business exception that only
// repeats what some other provider said is not such an answer: the service key in
// it is another's, and it carries attachments.
func NotExported(h codec.Header, body []byte, iface string) bool {
	switch h.Status {
	case StatusServiceNotFound:
		return true
	case StatusBadRequest:
		why, ok := strings.CutPrefix(errorText(h, body), decodeFailed)
		return ok && (strings.HasSuffix(why, unreadArguments) || strings.HasPrefix(why, notFound))
	case StatusServiceError:
		text := errorText(h, body)
		class, rest, ok := strings.Cut(text, notExported)
		key, _, _ := strings.Cut(rest, " in [")
		return ok && !strings.ContainsAny(class, " \n") && strings.Contains(key, iface)
	case StatusOK:
		return withoutExporter(h, body, iface)
	}
	return false
}

// withoutExporter knows dubbo-go's exception. It reads the key of a request in
// fastjson2 as empty.
func withoutExporter(h codec.Header, body []byte, iface string) bool {
	const longest = len(throwable)
	if len(body) < longest || string(body[:longest]) != throwable {
		return false
	}
	_, key, ok := strings.Cut(alias(body[:min(len(body), head)]), noExporter)
	return ok && (h.Serialization() != Hessian2 || strings.Contains(key, iface))
}

// errorText returns the text of an answer that is not OK; "" if it is none.
func errorText(h codec.Header, body []byte) string {
	var text []byte
	var err error
	switch h.Serialization() {
	case Hessian2:
		text, _, err = hessian.Text(body)
	case Fastjson2:
		if text, _, err = attachments.Element(body); err == nil {
			text, _, err = jsonb.Text(text)
		}
	default:
		return ""
	}
	if err != nil {
		return ""
	}
	return alias(text)
}
