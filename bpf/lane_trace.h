/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane_trace.h: which requests of a route whose listener makes spans go to the proxy. Those
 * that say of themselves whether they are part of a trace, in their attachments: what becomes
 * of them the proxy knows. Of the others as many as the listener says, which are drawn here.
 */
#pragma once

#define TRACED_MAX 2048 /* bytes of a request; in larger ones nobody looks for a trace */
#define TRACE_WINDOW 11 /* bytes of which trace_in looks at */
#define TRACE_WORDS 32  /* in which traced_among looks at a time */

#define EACH(c) ((c)*0x0101010101010101ull)

/* zeros has the highest bit of each byte of v that is 0, and no other. */
static __always_inline __u64 zeros(__u64 v)
{
	return ~(((v & EACH(0x7f)) + EACH(0x7f)) | v | EACH(0x7f));
}

/* trace_in tells whether the name of a trace's context begins in the eight bytes at p: "cepa"
 * is in "traceparent" and in no other word; "b3", in any case, stands behind its length in
 * hessian2 (2) or in JSONB ('K'), and in "x-b3-sampled" and the like behind '-'. All eight are
 * looked at in one: a byte of a word is 0 where all that begins there is as it should be.
 */
static __always_inline __u64 trace_in(void *p)
{
	__u64 first = *(__u64 *)p, second = *(__u64 *)(p + 1), third = *(__u64 *)(p + 2), fourth = *(__u64 *)(p + 3);
	__u64 cepa = zeros((first ^ EACH('c')) | (second ^ EACH('e')) | (third ^ EACH('p')) | (fourth ^ EACH('a')));
	__u64 b3 = zeros(((second | EACH(0x20)) ^ EACH('b')) | (third ^ EACH('3')));

	return cepa | (b3 & (zeros(first ^ EACH(2)) | zeros(first ^ EACH('K')) | zeros(first ^ EACH('-'))));
}

/* traced_among is 0 if none begins in the bytes of a message from at on, to last and eight more,
 * but not beyond TRACE_WORDS.
 */
__attribute__((noinline)) int traced_among(struct sk_msg_md *msg, __u32 at, __u32 last)
{
	void *p = window(msg), *end = window_end(msg);
	__u64 off = at, hit = 0;

	if (!BOUND(off, TRACED_MAX))
		return 1;
	p += off;
	for (int i = 0; i < TRACE_WORDS; i++) {
		if (p + TRACE_WINDOW > end)
			return 1;
		hit |= trace_in(p);
		at += 8;
		if (at > last)
			break;
		p += 8;
	}
	return !!hit;
}

/* may_be_traced is 0 if the request at a message's begin, which is whole there, says nothing of
 * a trace.
 */
__attribute__((noinline)) int may_be_traced(struct sk_msg_md *msg, __u32 size)
{
	__u64 want = size;
	__u32 last;

	if (!BOUND(want, TRACED_MAX) || want < FRAME_HEADER + TRACE_WINDOW)
		return 1;
	if (window(msg) + want > window_end(msg))
		bpf_msg_pull_data(msg, 0, want, 0);
	last = want - TRACE_WINDOW;
	for (__u32 at = FRAME_HEADER; at < TRACED_MAX; at += TRACE_WORDS * 8) {
		if (at > last)
			break;
		if (traced_among(msg, at, last))
			return 1;
	}
	return traced_among(msg, last, last);
}

/* trace returns 0 if a request takes the lane, which is whole at the message's begin. It is asked
 * last: what goes to the proxy for another reason has not been drawn.
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
