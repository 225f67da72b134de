package tally

import (
	"testing"

	"github.com/dubway/dubway/internal/lane"
)

// full is a Table of a whole node: every series is somebody's.
func full(b *testing.B) (t *Table, m *lane.Memory) {
	b.Helper()
	m = &lane.Memory{Sizes: lane.Sizes{Lanes: 1024, Routes: 2048, Series: 2048, CPUs: 8}}
	m.Lanes, m.Flights = make([]lane.Lane, m.Sizes.Lanes), make([]lane.Flight, m.Sizes.Lanes*lane.Flights)
	m.Routes, m.Tallies = make([]lane.Route, m.Sizes.Routes), make([]lane.Tally, m.Sizes.Series*m.Sizes.CPUs)
	m.Counted = make([]lane.Tally, m.Sizes.Series)
	t = New(0)
	t.Use(m)
	for range m.Sizes.Series - 1 {
		call, _ := newCall()
		if _, ok := t.Put(call, lane.Hessian2, nil); !ok {
			b.Fatal("there is no room")
		}
	}
	return t, m
}

// BenchmarkCollect is what a second costs on eight CPUs: with all series idle, and with all
// of them in use.
func BenchmarkCollect(b *testing.B) {
	for _, used := range []bool{false, true} {
		b.Run(map[bool]string{false: "idle", true: "used"}[used], func(b *testing.B) {
			t, m := full(b)
			b.ReportAllocs()
			for b.Loop() {
				for i := range m.Tallies {
					if used {
						m.Tallies[i].RequestBytes++
						m.Tallies[i].Durations[3]++
					}
				}
				t.Collect()
			}
		})
	}
}

// BenchmarkTidy is what a second costs while a series waits for its last calls.
func BenchmarkTidy(b *testing.B) {
	t, m := full(b)
	t.Drop(7)
	m.Flights[9] = lane.Flight{Key: 10, Series: 7}
	for b.Loop() {
		t.tidy(quiet)
	}
}
