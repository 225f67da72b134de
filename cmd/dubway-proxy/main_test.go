package main

import (
	"errors"
	"testing"
)

// TestTwoSources: files that are named go before a control plane no more than after it.
func TestTwoSources(t *testing.T) {
	c := command()
	c.SetArgs([]string{"--xds-server", "istiod:15010", "--xds-dir", "/etc/dubway/xds"})
	if err := c.Execute(); !errors.Is(err, errTwoSources) {
		t.Errorf("Execute = %v, want %v", err, errTwoSources)
	}
}
