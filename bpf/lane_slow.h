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

#define ASTRAY ~0u

/* follow is skip_of by what was seen of the last frame alone. */
static __always_inline __u32 follow(struct lane_socket *self, __u32 written)
{
	__u32 left = self->expect - written;

	if (!left || left < self->expect - self->last)
		return left;
	if (written != self->last)
		return ASTRAY;
	self->expect = written;
	return 0;
}

static __always_inline void guess_at(struct lane_socket *self, struct lane_course *course, __u32 seq)
{
	self->guessing = 1;
	self->guess = seq;
	*(volatile __u64 *)&course->guess = 1ull << 32 | seq;
}

static __always_inline void guess_nothing(struct lane_socket *self, struct lane_course *course)
{
	self->guessing = 0;
	*(volatile __u64 *)&course->guess = 0;
}

/* skip_of returns how many bytes of a socket's next ones end a frame that began before: 0,
 * if they begin one; ASTRAY, if nobody knows. What went by TCP counts in its sequence, and
 * where the last frame of that began and will end was seen. A message of which a part
 * went is begun anew, or goes on, only where it left off: within its last frame that frame
 * must follow, and before, another may. Then only who reads the bytes knows: course.
 * While a guess is asked for, what was seen counts from there.
 */
static __always_inline __u32 skip_of(struct lane_socket *self, struct lane_course *course, __u32 written)
{
	__u64 resume = *(volatile __u64 *)&course->resume;
	__u32 skip = follow(self, written);

	if (!self->astray && skip != ASTRAY)
		return skip;
	if (!self->astray) {
		self->astray = 1;
		guess_nothing(self, course);
	}
	if (!(resume >> 32))
		return ASTRAY;
	if ((__u32)resume == written) {
		self->last = written;
		self->expect = written;
		skip = 0;
	} else if (!self->guessing || skip == ASTRAY || (__u32)resume != self->guess) {
		if (self->guessing && (skip == ASTRAY || (__s32)((__u32)resume - self->guess) > 0))
			guess_nothing(self, course);
		return ASTRAY;
	}
	self->astray = 0;
	guess_nothing(self, course);
	return skip;
}

/* guess follows a message of which nobody knows whether it begins a frame. */
static __always_inline void guess(struct sk_msg_md *msg, struct lane_socket *self, struct lane_course *course, __u32 written)
{
	__u32 skip = self->guessing ? follow(self, written) : 0;
	__u64 ends;

	if (skip != ASTRAY && msg->size <= skip)
		return;
	ends = skip == ASTRAY ? 0 : walk_frames(msg, skip);
	if (!ends) {
		guess_nothing(self, course);
		return;
	}
	if (!self->guessing)
		guess_at(self, course, written);
	self->last = written + (__u32)ends;
	self->expect = written + (ends >> 32);
}

/* pass_from is pass for a message whose byte number from begins a frame. */
static __always_inline int pass_from(struct sk_msg_md *msg, struct lane_socket *self, __u32 written, __u32 from)
{
	__u64 ends = walk_frames(msg, from);

	if (ends) {
		self->last = written + (__u32)ends;
		self->expect = written + (ends >> 32);
	} else {
		self->astray = 1;
	}
	return pass(msg, self);
}

/* pass_behind is pass for a message that does not begin a frame. */
static __always_inline int pass_behind(struct sk_msg_md *msg, struct lane_socket *self, struct lane_course *course,
				       __u32 written, __u32 skip)
{
	if (skip == ASTRAY) {
		guess(msg, self, course, written);
		return pass(msg, self);
	}
	if (msg->size <= skip)
		return pass(msg, self);
	return pass_from(msg, self, written, skip);
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
