package scenario

import "github.com/dubway/dubway/internal/testnet/meshtest"

// sum adds the values of the samples whose lines hold all the parts.
func sum(text, prefix string, parts []string) int { return meshtest.SumOf(text, prefix, parts...) }

// countLines counts the lines that hold all the parts.
func countLines(text string, parts ...string) int { return meshtest.CountLines(text, parts...) }
