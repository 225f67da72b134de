package probe

import (
	"encoding/binary"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/codec/hessian"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// echo is the frame of a call of $echo with a null, in hessian2: a provider that exports
// the service in this version and group answers with the same (Dubbo's EchoFilter,
// before any code of the application). The form is that of a Java consumer's.
func echo(ask *snapshot.Probe) []byte {
	version := ask.Version
	if version == "" {
		version = "0.0.0"
	}
	var body []byte
	add := func(texts ...string) {
		for _, text := range texts {
			body = hessian.AppendString(body, text)
		}
	}
	add("2.0.2", ask.Interface, version, "$echo", "Ljava/lang/Object;")
	body = append(body, 'N', 'H')
	add("path", ask.Interface, "interface", ask.Interface, "version", version)
	if ask.Group != "" {
		add("group", ask.Group)
	}
	body = append(body, 'Z')
	frame := []byte{0xda, 0xbb, codec.FlagRequest | codec.FlagTwoWay | dubbo.Hessian2, 0}
	frame = binary.BigEndian.AppendUint64(frame, probeID)
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(body)))
	return append(frame, body...)
}
