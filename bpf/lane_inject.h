/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane_inject.h: inject, of lane_msg: the proxy writes to a consumer.
 *
 * When:    in a write to the proxy's end of a consumer's connection.
 * Reads:   lanes, lane_bound.
 * Verdict: to the consumer's socket by redirect while its lane's answers come that way:
 *          bytes that TCP brings are read after those that were redirected (T11), so
 *          only one of the ways is used at a time. The proxy writes whole frames, and
 *          of no more bytes than one call sees. Else by TCP.
 * Kernel:  6.1.
 */
#pragma once

static __always_inline int inject(struct sk_msg_md *msg, struct lane_socket *self)
{
	__u32 at = self->lane - 1;
	struct lane_binding *bound;
	struct lane *lane;

	if (!self->lane)
		return pass(msg, self);
	bound = bpf_map_lookup_elem(&lane_bound, &at);
	lane = bpf_map_lookup_elem(&lanes, &at);
	if (!bound || !lane || bound->consumer.cookie != self->peer || !(WORD(lane->flags) & lane_answers))
		return pass(msg, self);
	if (!aim(msg, self, &self->peer)) {
		tell(inject_gone);
		return pass(msg, self);
	}
	bpf_msg_apply_bytes(msg, 0);
	return SK_PASS;
}
