/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane_tally.h: what is remembered of a call that ended well. */
#pragma once

/* The bounds of package histogram: 0.5, 1, 5 ... milliseconds, in ns, and bytes. */
#define MS 1000000ull

static const __u64 duration_bounds[LANE_BOUNDS] = {
	MS / 2, MS, 5 * MS, 10 * MS, 25 * MS, 50 * MS, 100 * MS, 250 * MS, 500 * MS, 1000 * MS, 2500 * MS, 5000 * MS,
	10000 * MS, 30000 * MS, 60000 * MS, 300000 * MS, 600000 * MS, 1800000 * MS, 3600000 * MS,
};
static const __u64 size_bounds[LANE_BOUNDS] = {
	0, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
};

/* above is 1 if v is above a bound, and 0 if not: both are less than 2^63. */
static __always_inline __u64 above(__u64 bound, __u64 v) { return (bound - v) >> 63; }

/* bucket_of: the first whose bound is not below v, by three bounds and then the four of a fifth.
 * It has no branch: the verifier would follow each way through all three searches of a call.
 */
static __always_inline __u64 bucket_of(const __u64 *bounds, __u64 v)
{
	__u64 i = 5 * (above(bounds[4], v) + above(bounds[9], v) + above(bounds[14], v));

	_Static_assert(LANE_BOUNDS == 19, "they are four times four, and three between");
	bounds += i;
	return i + above(bounds[0], v) + above(bounds[1], v) + above(bounds[2], v) + above(bounds[3], v);
}

static __always_inline void add(__u64 *to, __u64 n) { __sync_fetch_and_add(to, n); }

static __always_inline void tally_call(const struct lane_flight *f, __u64 duration, __u64 bytes)
{
	__u32 at = bpf_get_smp_processor_id() % lane_cpus * lane_series + f->series;
	__u64 took, asked, answered;
	struct lane_tally *t;

	if (f->series >= lane_series)
		return;
	t = bpf_map_lookup_elem(&lane_tallies, &at);
	if (!t)
		return;
	/* Together, before what is atomic: the processor makes all three at a time. */
	took = bucket_of(duration_bounds, duration);
	asked = bucket_of(size_bounds, f->bytes);
	answered = bucket_of(size_bounds, bytes);
	add(&t->durations[took], 1);
	add(&t->requests[asked], 1);
	add(&t->answers[answered], 1);
	add(&t->nanoseconds, duration);
	add(&t->answer_bytes, bytes);
	add(&t->request_bytes, f->bytes); /* last: by it the proxy knows that a call is there */
}

/* may_log spends one record of this second's. Who finds a new second begins it. */
static __always_inline int may_log(struct lane_budget *b, __u64 now)
{
	__u64 second = now / 1000000000, seen = *(volatile __u64 *)&b->second;

	if (seen != second && __sync_val_compare_and_swap(&b->second, seen, second) == seen)
		*(volatile __u32 *)&b->spent = 0;
	return __sync_fetch_and_add(&b->spent, 1) < b->limit;
}

/* log_call tells of a call, or that it does not: in the budget's dropped. The proxy looks
 * from time to time, and is not woken.
 */
static __always_inline void log_call(__u32 lane, const struct lane_flight *f, __u64 now, __u32 bytes, __u8 serialization)
{
	struct lane_budget *b;
	struct lane_record *r;
	__u32 zero = 0;

	b = bpf_map_lookup_elem(&lane_budgets, &zero);
	if (!b)
		return;
	r = may_log(b, now) ? bpf_ringbuf_reserve(&lane_log, sizeof(*r), 0) : NULL;
	if (!r) {
		add(&b->dropped, 1);
		return;
	}
	r->lane = lane;
	r->series = f->series;
	r->id = f->key - 1;
	r->start = f->start;
	r->duration = now - f->start;
	r->request_bytes = f->bytes;
	r->answer_bytes = bytes;
	r->serialization = serialization;
	r->status = FRAME_OK;
	r->pad = 0;
	r->end = f->end;
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	add(&b->told, 1);
}
