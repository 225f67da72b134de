/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane_maps.h: the maps of the lane. Those of the first part are the proxy's too, as
 * memory (lane_memory.h); the others are written by programs alone, but for
 * lane_workloads and the mark of a socket.
 */
#pragma once

/* BOUND makes v at most max: 0, and is false, if it was above. Verifiers before 6.18 keep no
 * bound of a value that clang has copied: what is an offset is a 64-bit value, checked by
 * code of its own.
 */
#define BOUND(v, max)                                                      \
	({                                                                 \
		__u64 bounded = 1;                                         \
		asm volatile("if %0 <= %2 goto +2\n\t%0 = 0\n\t%1 = 0\n\t" \
			     : "+r"(v), "+r"(bounded)                      \
			     : "i"(max));                                  \
		bounded;                                                   \
	})

/* Set by package agent/datapath/lane: how many there are of each. */
const volatile __u32 lane_route_mask = 2047; /* of lane_routes, less one */
const volatile __u32 lane_series = 2048;     /* of lane_tallies, on one CPU */
const volatile __u32 lane_cpus = 1;          /* tallies of so many CPUs; the others share them */
const volatile _Bool lane_charged = 1;       /* redirected bytes are charged to who shall read them */

/* lane_flights: all of one lane. */
struct lane_flights {
	struct lane_flight slots[LANE_FLIGHTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct lane);
	__uint(max_entries, 1024);
} lanes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct lane_flights);
	__uint(max_entries, 1024);
} lane_flights SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct lane_route);
	__uint(max_entries, 2048);
} lane_routes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct lane_tally);
	__uint(max_entries, 2048);
} lane_tallies SEC(".maps");

/* lane_active: requests in flight of each endpoint of a cluster, for routes that count them; and
 * of each cluster that has a limit: those of lanes in the lower half, the proxy's own in the upper.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1024);
} lane_active SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct lane_budget);
	__uint(max_entries, 1);
} lane_budgets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} lane_log SEC(".maps");

/* Types that no map mentions; loaders skip this section. */
const struct lane_record lane_record_type SEC(".types") = {0};
const struct lane_state lane_state_type SEC(".types") = {0};

/* lane_sockets: the sockets of applications, and the proxy's ends of consumers', by
 * cookie, from ESTABLISHED to CLOSE. Before, only the agent takes one out, while memory is
 * short and nothing is queued at it (lane_leave.h): that would be lost.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__type(key, __u64);
	__type(value, __u64);
	__uint(max_entries, 32768);
} lane_sockets SEC(".maps");

/* member: a socket as others find it. */
struct lane_member {
	__u64 cookie; /* 0: none */
	__u64 sk;     /* its address in the kernel */

	/* Of has_room: what holds until then (CLOCK_MONOTONIC, in ns), where TCP's memory is counted,
	 * and how much of it there may be.
	 */
	__u64 until;
	__u64 allocated;
	__u64 most; /* pages */
};

/* lane_members: the applications' sockets of lane_sockets, by cookie. */
struct lane_place {
	__u64 sk;
	__u64 accepted; /* of a consumer's: the cookie of the proxy's end; 0: that has not joined */
	__u32 lane;     /* and 1; 0: none yet */
	__u32 end;      /* of the lane; lane_consumer_end: the consumer's */
};
#define lane_consumer_end 255

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u64);
	__type(value, struct lane_place);
	__uint(max_entries, 32768);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} lane_members SEC(".maps");

/* lane_gates: one, which the agent shuts while memory is short: no socket joins then, and
 * none is bound.
 */
struct lane_gate {
	__u32 shut;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct lane_gate);
	__uint(max_entries, 1);
} lane_gates SEC(".maps");

static __always_inline int is_shut(void)
{
	__u32 first = 0;
	struct lane_gate *gate = bpf_map_lookup_elem(&lane_gates, &first);

	return gate && *(volatile __u32 *)&gate->shut;
}

/* lane_peers: from a marked socket's cookie to that of the provider's. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u64);
	__type(value, __u64);
	__uint(max_entries, 32768);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} lane_peers SEC(".maps");

/* lane_bound: the sockets of each lane. */
struct lane_binding {
	struct lane_member consumer;
	struct lane_member providers[LANE_ENDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct lane_binding);
	__uint(max_entries, 1024);
} lane_bound SEC(".maps");

enum lane_role {
	lane_nobody,
	lane_consumer, /* C: a consumer's own socket */
	lane_accepted, /* A: the proxy's end of it */
	lane_marked,   /* B: the proxy's end of a provider's, marked by the agent before it connects */
	lane_provider, /* P: the provider's own socket */
};

/* member_of: end is a provider's, or lane_consumer_end. */
static __always_inline struct lane_member *member_of(struct lane_binding *bound, __u64 end)
{
	if (end == lane_consumer_end)
		return &bound->consumer;
	return BOUND(end, LANE_ENDS - 1) ? &bound->providers[end] : NULL;
}

/* lane_bridges: from a connecting socket to the one that will be accepted. */
struct lane_bridge {
	__u64 cookie;
	enum lane_role role;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct bridge_key);
	__type(value, struct lane_bridge);
	__uint(max_entries, 16384);
} lane_bridges SEC(".maps");

/* lane_workloads: network namespaces whose consumers may have lanes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u64);   /* netns */
	__type(value, __u32); /* unused */
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} lane_workloads SEC(".maps");

/* lane_states: what each socket knows. Where it is in its stream of TCP is in sequence
 * numbers: starts are where the last frames begin, the newest one at starts[newest %
 * LANE_STARTS]. See lane_slow.h.
 */
#define LANE_STARTS 8 /* a power of two */

struct lane_socket {
	enum lane_role role;
	__u32 lane; /* and 1; 0: none; holds as long as lane_bound agrees */
	__u32 end;
	__u32 redirected; /* once: SK_PASS could go to who had the last redirect (T1) */
	__u32 route;      /* of the last request, and 1 */
	__u32 astray;     /* nobody knows where frames begin */
	__u32 guessing;   /* it is astray, and what follows here is as if one did at guess */
	__u32 guess;
	__u32 expect; /* if have is 0: where the next frame begins; else the end of what was seen of a header */
	__u32 have;   /* bytes of head: the newest frame's header is not whole yet */
	__u32 newest;
	__u32 starts[LANE_STARTS];
	__u8 head[16];
	__u32 pad;
	__u64 cookie;
	__u64 sk;
	__u64 peer; /* of A: cookie of C */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct lane_socket);
} lane_states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, enum lane_outcome);
	__type(value, __u64);
	__uint(max_entries, MAX_LANE_OUTCOMES);
} lane_counts SEC(".maps");

static __always_inline void tell(enum lane_outcome what)
{
	__u64 *n = bpf_map_lookup_elem(&lane_counts, &what);

	if (n)
		__sync_fetch_and_add(n, 1);
}
