package accesslog

// SerializationName returns the name of a serialization's id, as Dubbo's
// Constants.java has them and as users write them in the parameter
// "serialization": "" for 0, which is none, and "unknown" for any other id that
// Dubbo does not define.
func SerializationName(id uint8) string {
	if int(id) < len(serializations) && serializations[id] != "" || id == 0 {
		return serializations[id]
	}
	return Unknown
}

var serializations = [...]string{
	2: "hessian2", 3: "java", 4: "compactedjava", 6: "fastjson", 7: "nativejava", 8: "kryo", 9: "fst",
	10: "native-hessian", 11: "avro", 12: "protostuff", 16: "gson", 18: "jackson", 21: "protobuf-json",
	22: "protobuf", 23: "fastjson2", 25: "kryo2", 27: "msgpack", 28: "fury", 31: "custom msgpack",
}
