//go:build e2e

package kube

import (
	"net"
	"os"
	"testing"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

func TestMain(m *testing.M) {
	testnet.Dispatch(map[string]testnet.Helper{"app": app})
	os.Exit(meshtest.Main(m, "ku"))
}

// app is an application: it listens where it is told until it is killed.
func app(args []string) error {
	for _, at := range args {
		if _, err := net.Listen("tcp", at); err != nil {
			return err
		}
	}
	select {}
}
