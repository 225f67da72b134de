//go:build e2e

package cluster_test

import (
	"context"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet/cluster"
)

func TestCluster(t *testing.T) {
	programs, err := cluster.FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	c, err := cluster.Start(ctx, cluster.Options{Programs: programs, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	out, err := c.Kubectl(ctx, "get", "nodes,pods", "-A", "-o", "wide")
	t.Log(out, err)
}
