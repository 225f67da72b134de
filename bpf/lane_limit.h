/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane_limit.h: requests in flight: to an endpoint, for who takes the least; and to a cluster
 * that has a limit. Lanes and the proxy have one count, in two halves of a word, and what is
 * too much for it goes to the proxy, which refuses it.
 */
#pragma once

static __always_inline __u64 in_flight(__u64 word) { return (word & 0xffffffff) + (word >> 32); }

static __always_inline void add_active(struct lane_route *r, __u32 end, __u64 n)
{
	__u32 number = r->actives[end & (LANE_ENDS - 1)];
	__u64 *active = number ? bpf_map_lookup_elem(&lane_active, &number) : NULL;

	if (active)
		__sync_fetch_and_add(active, n);
}

static __always_inline __u64 *bound_at(struct lane_route *r, __u32 end)
{
	__u32 number = r->bounds[end & (LANE_ENDS - 1)];

	return number ? bpf_map_lookup_elem(&lane_active, &number) : NULL;
}

/* leave takes back what enter counted. */
static __always_inline void leave(struct lane_route *r, __u32 end)
{
	__u64 *bound = bound_at(r, end);

	if (bound)
		__sync_fetch_and_add(bound, -1);
}

/* enter counts a request; false, and nothing is counted, if there are as many as may be. */
static __always_inline int enter(struct lane_route *r, __u32 end, __u64 limit)
{
	__u64 *bound = bound_at(r, end), before;

	if (!bound)
		return 0;
	before = __sync_fetch_and_add(bound, 1);
	if (in_flight(before) < limit)
		return 1;
	__sync_fetch_and_add(bound, -1);
	return 0;
}
