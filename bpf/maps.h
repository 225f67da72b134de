/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* maps.h: what the programs remember. Go's names for these are generated; the
 * only writer from user space is package datapath. Addresses are always 16
 * bytes, IPv4 in its v4-mapped form; ports are in network byte order. What a socket
 * knows is in socket.h, because the lane's programs read it too.
 */
#pragma once

/* Where the outbound listener waits in every pod, on 127.0.0.1 and ::1. */
const volatile __u16 outbound_port = 15001;

/* Each network namespace has its own instance of take_lookup, because sk_lookup
 * programs cannot ask where they run and two pods may use one address.
 */
const volatile __u64 lookup_netns = 0;

/* From 6.0 on a connect program may choose the error of a connect that it
 * refuses: ECONNREFUSED. Before, it is always EPERM.
 */
const volatile _Bool refuse_by_errno = 0;

/* workloads: the enrolled network namespaces. */
enum workload_flag {
	steer_v4 = 1, /* there is a listener on 127.0.0.1 */
	steer_v6 = 2, /* there is a listener on ::1 */
};

struct workload {
	__u64 netns; /* again, and first: see connect.h */
	enum workload_flag flags;
	__u32 table; /* of destinations */
	__be32 addr4[4]; /* shown instead of 127.0.0.1; zero: unknown */
	__be32 addr6[4]; /* shown instead of ::1 */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u64); /* netns */
	__type(value, struct workload);
	__uint(max_entries, 4096);
} workloads SEC(".maps");

/* destinations: what is steered, in tables: the first is that of all workloads
 * that have no other. One generation of a table is one inner trie; the agent
 * fills a new one and puts it in the place of the old in one step. The port
 * comes before the address, so that a prefix can be asked for one port; the
 * family keeps ::/0 from covering v4-mapped addresses.
 */
struct destination_key {
	__u32 prefixlen;
	__be16 port;
	__u16 family;
	__be32 addr[4];
};

/* What an entry says of the address. Each table has one entry without any
 * prefix, which matches what no other does: so that what becomes of that flips
 * with the table, and costs no look-up more.
 */
enum standing {
	known,          /* steered */
	unknown_passes, /* this and the others: in the entry without a prefix */
	unknown_tried,  /* passes, and is counted as what would be refused */
	unknown_barred, /* its connect is refused */
	asked,          /* steered, and answered by the proxy itself: agent/reach asks whether the way works */
	laned,          /* steered, and its requests may take a lane: lane.c */
};

struct destination {
	__u64 generation;
	__u32 number; /* of the table, as the proxy calls it */
	enum standing standing;
};

/* clang 14 forgets what an inner map's key and value look like unless something
 * else mentions them; loaders skip this section.
 */
const struct destination_key destination_key_type SEC(".types") = {0};
const struct destination destination_type SEC(".types") = {0};

struct destination_table {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct destination_key);
	__type(value, struct destination);
	__uint(max_entries, 65539); /* one of them without a prefix, two to be asked */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__type(key, __u32);
	__uint(max_entries, 256);
	__array(values, struct destination_table);
} destinations SEC(".maps");

/* inbound_ports: where new connections go to the inbound listener. Port 0 is
 * none: that entry says that the address is the pod's own.
 */
struct inbound_key {
	__u64 netns;
	__be32 addr[4];
	__be16 port;
	__u16 pad[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct inbound_key);
	__type(value, __u32); /* unused */
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} inbound_ports SEC(".maps");

/* listeners: the inbound listeners. The kernel drops an entry when its socket
 * is closed everywhere.
 */
struct listener_key {
	__u64 netns;
	__u32 family;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__type(key, struct listener_key);
	__type(value, __u64); /* socket cookie */
	__uint(max_entries, 8192);
} listeners SEC(".maps");

/* probes: the connections of kubelet that live, each with both ends as kubelet's
 * socket sees them. Nobody translates addresses between a node and its own pods, so
 * the pod sees the same two.
 */
struct probe {
	struct endpoint kubelet;
	struct endpoint pod;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct probe);
	__type(value, __u32); /* unused */
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} probes SEC(".maps");

/* bridges: from a connecting socket to the one that will be accepted, for as
 * long as a handshake on lo takes.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct bridge_key);
	__type(value, struct flow);
	__uint(max_entries, 16384);
} bridges SEC(".maps");

/* unknowns: the addresses without an entry that workloads connected to, where
 * their table counts or refuses that; the oldest go when there is no room.
 */
struct unknown_key {
	__u64 netns;
	struct endpoint to;
	__u32 pad;
};

struct unknown {
	__u64 passed;
	__u64 refused;
	__u64 last; /* CLOCK_MONOTONIC, in ns */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct unknown_key);
	__type(value, struct unknown);
	__uint(max_entries, 4096);
} unknowns SEC(".maps");

/* counters: one per outcome, on each CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, enum outcome);
	__type(value, __u64);
	__uint(max_entries, MAX_OUTCOMES);
} counters SEC(".maps");

static __always_inline void count(enum outcome what)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &what);
	if (n)
		__sync_fetch_and_add(n, 1);
}
