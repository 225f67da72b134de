// Package scenario holds the tests of the whole: pods as network namespaces, a
// real agent with real BPF programs, an unprivileged proxy, and peers that check
// every byte. Each test reads as a story and asserts traffic, metric and log.
// They need root and a kernel from 5.10 on.
package scenario
