package dubbo

import (
	"testing"

	"github.com/dubway/dubway/l7proxy/codec"
)

// TestNotExported holds answers that were recorded from real providers, and what
// resembles them.
func TestNotExported(t *testing.T) {
	const iface = "org.example.LateService"
	text := func(s string) string {
		if len(s) < 32 {
			return string(rune(len(s))) + s
		}
		return string([]byte{'S', byte(len(s) >> 8), byte(len(s))}) + s
	}
	throwable := func(kind, message string) string {
		return kind + "C\x13java.lang.Throwable\x95\x10serialVersionUID\rdetailMessage\x14suppressedExceptions\nstackTrace\x05cause" +
			"`\xe0" + text(message) + "NV\x1c[java.lang.StackTraceElement\x90NN"
	}
	const late = "org.apache.dubbo.remoting.RemotingException: Not found exported service: org.example.LateService:28892 in " +
		"[org.example.EchoService:28892], may be version or group mismatch , channel: consumer: /127.0.0.1:53756"
	for name, c := range map[string]struct {
		flags, status byte
		body          string
		want          bool
	}{
		"java 3.3.6":              {2, 40, text("Fail to decode request due to: RpcInvocation [methodName=echo, parameterTypes=null]"), true},
		"java 3.3.6, $echo":       {2, 40, text("Fail to decode request due to: RpcInvocation [methodName=$echo, parameterTypes=null]"), true},
		"java 3.2.16":             {23, 40, "\x00\x00\x00Vy8SFail to decode request due to: RpcInvocation [methodName=echo, parameterTypes=null]", true},
		"java 2.7.23":             {2, 40, text("Fail to decode request due to: java.lang.IllegalArgumentException: Service not found:org.example.LateService, echo\njava.lang"), true},
		"java 2.7.23, no args":    {2, 70, text(late), true},
		"java 2.6":                {2, 70, text("com.alibaba.dubbo" + late[len("org.apache.dubbo"):]), true},
		"dubbo-go 3.3.1":          {2, 20, throwable("\x90", "don't have this exporter, key: g/org.example.LateService:1.0"), true},
		"dubbo-go, fastjson2":     {23, 20, throwable("\x90", "don't have this exporter, key: "), true},
		"by its status":           {2, 60, text("whatever"), true},
		"another's, by go":        {2, 20, throwable("\x90", "don't have this exporter, key: org.example.Other"), false},
		"a business exception":    {2, 20, throwable("\x93", "don't have this exporter, key: org.example.LateService"), false},
		"go, no such method":      {2, 20, throwable("\x93", "cannot find method [echo] of service [org.example.LateService] in dubbo"), false},
		"a value":                 {2, 20, "\x94" + text("don't have this exporter, key: org.example.LateService"), false},
		"another's, by java":      {2, 70, text("org.apache.dubbo.remoting.RemotingException: Not found exported service: org.example.Other:1 in [org.example.LateService:1]"), false},
		"a service's error":       {2, 70, text("org.apache.dubbo.rpc.RpcException: Failed to invoke remote proxy method nope to dubbo://192.0.2.2:28890/org.example.LateService"), false},
		"an error that quotes it": {2, 70, text("java.lang.IllegalStateException: no RemotingException: Not found exported service: org.example.LateService"), false},
		"a wrong argument":        {2, 40, text("Fail to decode request due to: com.alibaba.com.caucho.hessian.io.HessianProtocolException: expected map/object at java.lang.String"), false},
		"a serialization of none": {2, 40, text("Fail to decode request due to: java.io.IOException: Unrecognized serialize type from consumer: 23"), false},
		"decoded arguments":       {2, 40, text("Fail to decode request due to: RpcInvocation [methodName=echo, parameterTypes=[class java.lang.String]]"), false},
		"nothing":                 {2, 40, "", false},
		"half a text":             {2, 40, "S\x00\x53Fail to decode", false},
		"no text":                 {2, 40, "N", false},
		"unread serialization":    {8, 40, text("Fail to decode request due to: RpcInvocation [methodName=echo, parameterTypes=null]"), false},
		"a timeout":               {2, 31, text(late), false},
		"busy":                    {2, 100, text(late), false},
	} {
		h := codec.Header{Flags: c.flags, Status: c.status, Body: len(c.body)}
		if got := NotExported(h, []byte(c.body), iface); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
