/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* lane_slow.h: the slow way, which is TCP: the whole rest of a message goes to the proxy,
 * as if there were no lane.
 *
 * Three things of sk_msg are undone by hand here. A redirect of one part of a message
 * holds for the next part too, whose verdict is SK_PASS (T1): so after its first redirect
 * a socket passes nothing, but redirects to itself. The number of bytes that a verdict
 * is for outlives it as well (T2), so it is said each time. And SK_DROP is for ever (T5):
 * a redirect's own verdict is never returned, as it may be that.
 */
#pragma once

static __always_inline int pass(struct sk_msg_md *msg, struct lane_socket *self)
{
	bpf_msg_apply_bytes(msg, 0);
	if (!self->redirected)
		return SK_PASS;
	if (bpf_msg_redirect_hash(msg, &lane_sockets, &self->cookie, 0) == SK_PASS)
		return SK_PASS;
	/* It left the map in the middle of its message: it was reset, and what it
	 * writes is for nobody. SK_PASS would be for another socket.
	 */
	tell(lane_reset);
	return SK_DROP;
}

/* is_aligned tells whether the next byte of a socket begins a frame. Bytes that went by
 * TCP count in its sequence; where they left off in the middle of a frame, only who
 * reads them knows, and says so: resume.
 */
static __always_inline int is_aligned(struct lane_socket *self, const struct lane_position *resume, __u32 written)
{
	__u64 position = *(volatile const __u64 *)resume;

	if (!self->astray && self->expect != written)
		self->astray = 1; /* a part of a message went, or another program's */
	if (self->astray && position >> 32 && (__u32)position == written) {
		self->astray = 0;
		self->expect = written;
	}
	return !self->astray;
}

/* pass_aligned is pass for a message that begins a frame. */
static __always_inline int pass_aligned(struct sk_msg_md *msg, struct lane_socket *self, __u32 written)
{
	if (whole_frames(msg))
		self->expect = written + msg->size;
	else
		self->astray = 1;
	return pass(msg, self);
}

/* aim hands the first bytes of a message to another socket. False if that is gone: then
 * the message must pass.
 */
static __always_inline int aim(struct sk_msg_md *msg, struct lane_socket *self, __u64 *cookie)
{
	if (bpf_msg_redirect_hash(msg, &lane_sockets, cookie, BPF_F_INGRESS) != SK_PASS)
		return 0;
	self->redirected = 1;
	return 1;
}
