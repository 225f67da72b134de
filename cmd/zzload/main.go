package main

import (
"errors"
"strings"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/dubway/dubway/bpf"
)

func main() {
	spec, err := bpf.LoadLane()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelInstruction, LogSizeStart: 1 << 24}})
	if err != nil {
		var ve *ebpf.VerifierError; if errors.As(err, &ve) { fmt.Println(strings.Join(ve.Log[max(0,len(ve.Log)-40):], "\n")) }; fmt.Println(err)
		os.Exit(1)
	}
	for n, p := range coll.Programs {
		fmt.Println(n, p.VerifierLog)
	}
}
