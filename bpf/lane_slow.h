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
	/* The agent took it out of the map (lane_leave.h), when it had been in no lane for
	 * long: this message was redirected to nobody.
	 */
	if (self->role != lane_nobody)
		return SK_PASS;
	/* It left in the middle of its message: it was reset, and what it writes is for
	 * nobody. SK_PASS would be for another socket.
	 */
	tell(lane_reset);
	return SK_DROP;
}

#define ASTRAY ~0u
#define NO_FRAME ~0ull
#define WALK_FRAMES 16 /* of one step */
#define WALK_STEPS 8   /* of one message */

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

/* lose: what is written next is not followed. */
static __always_inline void lose(struct lane_socket *self)
{
	self->astray = 1;
	self->guessing = 0;
}

/* begin_at: a frame begins at seq, and nothing is known of those before it. */
static __always_inline void begin_at(struct lane_socket *self, __u32 seq)
{
#pragma clang loop unroll(full)
	for (int i = 0; i < LANE_STARTS; i++)
		self->starts[i] = seq;
	self->expect = seq;
	self->have = 0;
}

/* keep adds a message's bytes from at on to the part that was seen of a header. It tells
 * whether that can be a frame's.
 */
__attribute__((noinline)) int keep(struct sk_msg_md *msg, struct lane_socket *self, __u32 at)
{
	__u64 have, off, n;
	__u8 *p, *end;

	if (!self)
		return 0;
	have = self->have;
	n = msg->size - at;
	if (n > FRAME_HEADER - have)
		n = FRAME_HEADER - have;
	if (bpf_msg_pull_data(msg, at, at + n, 0))
		return 0;
	p = window(msg);
	end = window_end(msg);
	for (int i = 0; i < FRAME_HEADER; i++) {
		off = have + i;
		if (p + i + 1 > end || !BOUND(off, FRAME_HEADER - 1))
			break;
		self->head[off] = p[i];
	}
	self->have = have + n;
	return self->head[0] == (FRAME_MAGIC & 0xff) && (self->have < 2 || self->head[1] == FRAME_MAGIC >> 8);
}

/* step goes on by the headers of a few frames of a message that begins at written, of which one
 * begins at at, and returns where the next one does; NO_FRAME: they cannot be followed. The
 * verifier looks at it once, and not at each of a walk's frames.
 */
__attribute__((noinline)) __u64 step(struct sk_msg_md *msg, struct lane_socket *self, __u32 written, __u64 at)
{
	__u64 size = msg->size;
	struct header h;

	if (!self)
		return NO_FRAME;
	for (int i = 0; i < WALK_FRAMES && at + FRAME_HEADER <= size; i++) {
		/* The window moves to where the frame begins; nothing is copied unless
		 * its header lies across two of the message's pieces.
		 */
		if (bpf_msg_pull_data(msg, at, at + FRAME_HEADER, 0) || !read_header(window(msg), window_end(msg), &h) ||
		    h.total > FRAME_MAX)
			return NO_FRAME;
		self->newest++;
		self->starts[self->newest % LANE_STARTS] = written + at;
		at += h.total;
	}
	return at;
}

/* walk goes on with a message that begins at written, whose first skip bytes, at least, end
 * what began before. False if its frames cannot be followed to its end.
 */
__attribute__((noinline)) int walk(struct sk_msg_md *msg, struct lane_socket *self, __u32 written, __u32 skip)
{
	__u64 at = skip, size = msg->size;
	struct header h;

	if (!self)
		return 0;
	if (self->have) {
		at = FRAME_HEADER - self->have;
		if (!keep(msg, self, 0))
			return 0;
		self->expect = written + size;
		if (at > size)
			return 1;
		if (!read_header(self->head, self->head + FRAME_HEADER, &h) || h.total > FRAME_MAX)
			return 0;
		self->have = 0;
		at += h.total - FRAME_HEADER;
	}
	for (int i = 0; i < WALK_STEPS && at + FRAME_HEADER <= size; i++) {
		at = step(msg, self, written, at);
		if (at == NO_FRAME)
			return 0;
	}
	self->expect = written + at;
	if (at >= size)
		return 1;
	if (at + FRAME_HEADER <= size)
		return 0;
	self->newest++;
	self->starts[self->newest % LANE_STARTS] = written + at;
	self->expect = written + size;
	return keep(msg, self, at);
}

/* find is follow for a message that does not begin where the last one ended: a part of that
 * has gone, or nothing, and this one begins, or goes on, within one of its frames.
 */
__attribute__((noinline)) __u32 find(struct lane_socket *self, __u32 written)
{
	__u32 next, at = 0, i;

	if (!self)
		return ASTRAY;
	next = self->expect;
	for (i = 0; i < LANE_STARTS; i++) {
		at = self->starts[(self->newest - i) % LANE_STARTS];
		if ((__s32)(written - at) >= 0)
			break;
		next = at;
	}
	if (i == LANE_STARTS || (__s32)(next - written) <= 0)
		return ASTRAY;
	self->newest -= i;
	if (written == at || (!i && self->have)) {
		self->have = written - at;
		self->expect = written;
		return self->have ? FRAME_HEADER - self->have : 0;
	}
	self->have = 0;
	self->expect = next;
	return next - written;
}

/* follow is skip_of by what was seen alone. */
static __always_inline __u32 follow(struct lane_socket *self, __u32 written)
{
	if (written != self->expect)
		return find(self, written);
	return self->have ? FRAME_HEADER - self->have : 0;
}

/* skip_of returns how many of a message's first bytes, at least, end a frame that began
 * before: 0, if it begins one; ASTRAY, if nobody knows. What goes by TCP counts in its
 * sequence, and all of that was walked through. Where it was not, or cannot be, only who
 * reads the bytes knows: course. While a guess is asked for, what was seen counts from
 * there.
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
		begin_at(self, written);
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

/* guess goes on with a message of which nobody knows where its frames begin: as before, or
 * as if it began one. It returns 0.
 */
__attribute__((noinline)) int guess(struct sk_msg_md *msg, struct lane_socket *self, struct lane_course *course, __u32 written)
{
	__u32 skip;

	if (!self || !course)
		return 0;
	skip = self->guessing ? follow(self, written) : ASTRAY;
	if (skip == ASTRAY)
		begin_at(self, written);
	if (!walk(msg, self, written, skip == ASTRAY ? 0 : skip))
		guess_nothing(self, course);
	else if (skip == ASTRAY)
		guess_at(self, course, written);
	return 0;
}

/* pass_from is pass for a message whose first skip bytes, at least, end a frame. */
static __always_inline int pass_from(struct sk_msg_md *msg, struct lane_socket *self, __u32 written, __u32 skip)
{
	if (!walk(msg, self, written, skip))
		lose(self);
	return pass(msg, self);
}

/* pass_behind is pass for a message that does not begin a frame. */
static __always_inline int pass_behind(struct sk_msg_md *msg, struct lane_socket *self, struct lane_course *course,
				       __u32 written, __u32 skip)
{
	if (skip != ASTRAY)
		return pass_from(msg, self, written, skip);
	guess(msg, self, course, written);
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
