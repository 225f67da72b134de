/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane_trace.h: which requests of a route whose listener makes spans go to the proxy. Those
 * that say of themselves whether they are part of a trace, in their attachments: what becomes
 * of them the proxy knows. Of the others as many as the listener says, which are drawn here.
 */
#pragma once

#define TRACED_MAX 2048 /* bytes of a request; in larger ones nobody looks for a trace */
#define TRACE_WINDOW 11 /* bytes of which trace_in looks at */

/* is_zero is 1 or 0, without a branch: there would be too many for the verifier. */
static __always_inline __u64 is_zero(__u64 v) { return (v - 1) >> 63; }

/* trace_in tells whether the name of a trace's context begins in the eight bytes at p: "cepa"
 * is in "traceparent" and in no other word; "b3", in any case, stands behind its length in
 * hessian2 (2) or in JSONB ('K'), and in "x-b3-sampled" and the like behind '-'.
 */
static __always_inline __u64 trace_in(void *p)
{
	__u64 hit = 0, word, first;

#pragma clang loop unroll(full)
	for (int i = 0; i < 8; i++) {
		word = *(__u32 *)(p + i);
		first = word & 0xff;
		hit |= is_zero(word ^ ('c' | 'e' << 8 | 'p' << 16 | 'a' << 24));
		hit |= is_zero(((word >> 8 & 0xffff) | 0x20) ^ ('b' | '3' << 8)) & is_zero((first ^ 2) * (first ^ 'K') * (first ^ '-'));
	}
	return hit;
}

/* may_be_traced is 0 if the request at a message's begin, which is whole there, says nothing of
 * a trace.
 */
__attribute__((noinline)) int may_be_traced(struct sk_msg_md *msg, __u32 size)
{
	void *p, *end;
	__u64 hit = 0, at = FRAME_HEADER, want = size, last;

	if (!BOUND(want, TRACED_MAX) || want < FRAME_HEADER + TRACE_WINDOW)
		return 1;
	if (window(msg) + want > window_end(msg))
		bpf_msg_pull_data(msg, 0, want, 0);
	p = window(msg) + FRAME_HEADER;
	end = window_end(msg);
	for (int i = 0; i < TRACED_MAX / 8; i++) {
		if (at + TRACE_WINDOW > want)
			break;
		if (p + TRACE_WINDOW > end)
			return 1;
		hit |= trace_in(p);
		p += 8;
		at += 8;
	}
	last = want - TRACE_WINDOW;
	if (!BOUND(last, TRACED_MAX))
		return 1;
	p = window(msg) + last;
	if (p + TRACE_WINDOW > end)
		return 1;
	return hit | trace_in(p);
}

/* trace returns 0 if a request takes the lane, which is whole at the message's begin. It is asked last: what goes to the proxy for
 * another reason has not been drawn.
 */
static __always_inline enum lane_outcome trace(struct sk_msg_md *msg, struct lane_route *r, const struct header *h, __u32 *drawn)
{
	if (may_be_traced(msg, h->total))
		return request_traced;
	if (bpf_get_prandom_u32() >= r->sampled)
		return 0;
	*drawn |= lane_drawn_any | lane_drawn_span;
	return request_traced;
}
