// Package bpf is the kernel half of the datapath: the C programs, the Go types
// generated from them, and the compiled objects. steer.c and lane.c are the tables of
// contents. It loads and attaches nothing; that is agent/datapath.
//
// The C files may be used under GPL-2.0-only or BSD-2-Clause, because the
// kernel asks for a GPL-compatible licence.
package bpf

//go:generate go tool bpf2go -target bpfel -go-package bpf -output-stem steer -type outcome -type workload_flag -type socket_role -type socket -type flow -type endpoint -type workload -type destination_key -type inbound_key -type listener_key -type bridge_key -type destination -type standing -type unknown_key -type unknown -type probe Steer steer.c -- -O2 -mcpu=v2 -Wall -Wextra -Wpadded -Werror
//go:generate go tool bpf2go -target bpfel -go-package bpf -output-stem lane -type lane_outcome -type lane_role -type lane_socket -type lane -type lane_flight -type lane_route -type lane_tally -type lane_record -type lane_budget -type lane_state -type lane_place -type lane_binding -type lane_gate -type lane_leave -type lane_strain Lane lane.c -- -O2 -mcpu=v3 -Wall -Wextra -Wpadded -Werror

// OutboundPort is where the outbound listener waits in every pod, on 127.0.0.1
// and ::1: what the programs aim steered connects at.
const OutboundPort = 15001

// ABI is the version of what the maps hold. It goes up when a map keeps its
// shape but not its meaning; package datapath refuses pins of another one.
const ABI = 4

// LaneABI is the same of the lane's maps.
const LaneABI = 2
