package ports

import "testing"

func TestOf(t *testing.T) {
	text := func(s string) *string { return &s }
	tests := []struct {
		port Declared
		want Class
	}{
		// As recorded: plain-name-dubbo, plain-appproto-dubbo, plain-tcp-dubbo, plain-appproto-tcp.
		{Declared{Number: 20880, Name: "dubbo"}, Requests},
		{Declared{Number: 20880, Name: "rpc", AppProtocol: text("dubbo")}, Requests},
		{Declared{Number: 20880, Name: "tcp-dubbo"}, Connections},
		{Declared{Number: 20880, Name: "rpc", AppProtocol: text("tcp")}, Connections},
		// l7-services
		{Declared{Number: 50051, Name: "tri", AppProtocol: text("grpc")}, HTTP},
		{Declared{Number: 8080, Name: "rest", AppProtocol: text("http")}, HTTP},
		{Declared{Number: 8082, Name: "h2", AppProtocol: text("kubernetes.io/h2c")}, HTTP},
		{Declared{Number: 8083, Name: "http2-x"}, HTTP},
		// appProtocol goes before the name, also if it is empty.
		{Declared{Number: 20880, Name: "tcp-dubbo", AppProtocol: text("dubbo")}, Requests},
		{Declared{Number: 20880, Name: "tcp-dubbo", AppProtocol: text("")}, Requests},
		{Declared{Number: 20880, Name: ""}, Requests},
		{Declared{Number: 20880, Name: "TCP-dubbo"}, Connections},
		{Declared{Number: 20880, Name: "tcpdubbo"}, Requests},
		{Declared{Number: 20880, Name: "dubbo-tcp"}, Requests},
		{Declared{Number: 8443, Name: "https"}, TLS},
		{Declared{Number: 8443, AppProtocol: text("kubernetes.io/wss")}, TLS},
		{Declared{Number: 53, Name: "dns", Protocol: "UDP"}, Datagrams},
		{Declared{Number: 3306, Name: "db"}, Connections},
		{Declared{Number: 3306, Name: "http-db"}, HTTP},
		{Declared{Number: 80, Name: "grpc-web-x"}, HTTP},
		{Declared{Number: 80, Name: "grpcx"}, Requests},
	}
	for _, test := range tests {
		if got := Of(test.port); got != test.want {
			t.Errorf("%+v has %s, want %s", test.port, got, test.want)
		}
	}
}

func TestOfEntry(t *testing.T) {
	for protocol, want := range map[string]Class{"": Requests, "DUBBO": Requests, "UNKNOWN": Requests, "TCP": Connections, "HTTP": HTTP, "GRPC": HTTP, "HTTPS": TLS, "tcp-dubbo": Requests} {
		if got := OfEntry(protocol); got != want {
			t.Errorf("%q has %s, want %s", protocol, got, want)
		}
	}
}

func TestDubbo(t *testing.T) {
	for name, want := range map[string]bool{"dubbo": true, "tcp-dubbo": true, "tcp-metaprotocol-dubbo": true, "http": false, "": false, "dubboadmin": false} {
		if Dubbo(8080, name, []int{20880}) != want {
			t.Errorf("%q looks like Dubbo: %v", name, !want)
		}
	}
	if !Dubbo(20880, "rpc", []int{20880}) {
		t.Error("20880 is Dubbo's")
	}
}
