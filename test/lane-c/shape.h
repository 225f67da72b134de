/* shape.h: the ways in which a C program may write whole frames to a socket. A shape is given
 * some frames, of which each is written once and in their order. It returns 0, or -1 and errno.
 */
#pragma once

#include "way.h"

#define SPLICED (60u << 10)
#define BYTEWISE 4096 /* more than that would take all day */
#define URGENT 200 /* frames before the urgent byte */
#define KEPT (64u << 20) /* bytes that the kernel may still read, of MSG_ZEROCOPY */

static int each(struct way *w, const struct batch *b, int flags)
{
	for (int i = 0; i < b->n; i++)
		if (push(w->fd, b->frames[i].at, b->frames[i].len, flags))
			return -1;
	return 0;
}

static int write_each(struct way *w, const struct batch *b) { return each(w, b, 0); }

static int write_all(struct way *w, const struct batch *b)
{
	struct bytes *all = join(w, b);

	return push(w->fd, all->at, all->len, 0);
}

/* vectors sends pieces, in one call if the socket takes them. */
static int vectors(int fd, struct iovec *v, int n)
{
	while (n > 0) {
		ssize_t done = writev(fd, v, n);

		if (done < 0)
			return -1;
		for (; n > 0 && (size_t)done >= v->iov_len; v++, n--)
			done -= v->iov_len;
		if (n > 0) {
			v->iov_base = (uint8_t *)v->iov_base + done;
			v->iov_len -= done;
		}
	}
	return 0;
}

/* write_vectors cuts the frames anywhere into 2 to 32 pieces of one writev. */
static int write_vectors(struct way *w, const struct batch *b)
{
	struct bytes *all = join(w, b);
	struct iovec v[32];
	int n = 2 + draw(w, 31);
	size_t at = 0;

	for (int i = 0; i < n; i++) {
		size_t left = all->len - at, take = i == n - 1 ? left : draw(w, left * 2 / (n - i) + 1);

		if (take > left)
			take = left;
		v[i] = (struct iovec){all->at + at, take};
		at += take;
	}
	return vectors(w->fd, v, n);
}

/* write_many_vectors has pieces of 100 bytes, 1024 of them in one writev. */
static int write_many_vectors(struct way *w, const struct batch *b)
{
	struct bytes *all = join(w, b);
	struct iovec v[1024];
	size_t at = 0;

	while (at < all->len) {
		int n = 0;

		for (; n < 1024 && at < all->len; n++) {
			size_t take = all->len - at < 100 ? all->len - at : 100;

			v[n] = (struct iovec){all->at + at, take};
			at += take;
		}
		if (vectors(w->fd, v, n))
			return -1;
	}
	return 0;
}

static int write_messages(struct way *w, const struct batch *b)
{
	struct mmsghdr m[FRAMES];
	struct iovec v[FRAMES];
	int n;

	memset(m, 0, sizeof(m));
	for (int i = 0; i < b->n; i++) {
		v[i] = (struct iovec){b->frames[i].at, b->frames[i].len};
		m[i].msg_hdr.msg_iov = &v[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
	n = sendmmsg(w->fd, m, b->n, MSG_NOSIGNAL);
	if (n < 0)
		return -1;
	/* One of which only a part was taken is the last that sendmmsg sends. */
	for (int i = n > 0 ? n - 1 : 0; i < b->n; i++) {
		size_t done = i < n ? m[i].msg_len : 0;

		if (push(w->fd, b->frames[i].at + done, b->frames[i].len - done, 0))
			return -1;
	}
	return 0;
}

static int write_more(struct way *w, const struct batch *b) { return each(w, b, MSG_MORE); }
static int write_dontwait(struct way *w, const struct batch *b) { return each(w, b, MSG_DONTWAIT); }

static int option(struct way *w, int name, int value)
{
	return setsockopt(w->fd, IPPROTO_TCP, name, &value, sizeof(value));
}

static int write_corked(struct way *w, const struct batch *b)
{
	return option(w, TCP_CORK, 1) || each(w, b, 0) || option(w, TCP_CORK, 0) ? -1 : 0;
}

/* write_delayed is what Nagle's algorithm makes of each frame. */
static int write_delayed(struct way *w, const struct batch *b)
{
	return option(w, TCP_NODELAY, 0) || each(w, b, 0) || option(w, TCP_NODELAY, 1) ? -1 : 0;
}

/* from_file sends bytes out of a file. */
static int from_file(struct way *w, const uint8_t *p, size_t n)
{
	int fd = memfd_create("frames", MFD_CLOEXEC), failed = fd < 0;
	off_t at = 0;

	for (size_t done = 0; !failed && done < n;) {
		ssize_t wrote = write(fd, p + done, n - done);

		failed = wrote < 0;
		done += wrote;
	}
	while (!failed && (size_t)at < n)
		failed = sendfile(w->fd, fd, &at, n - at) < 0;
	if (fd >= 0)
		close(fd);
	return failed ? -1 : 0;
}

static int write_file(struct way *w, const struct batch *b)
{
	for (int i = 0; i < b->n; i++)
		if (from_file(w, b->frames[i].at, b->frames[i].len))
			return -1;
	return 0;
}

static int write_header_file(struct way *w, const struct batch *b)
{
	for (int i = 0; i < b->n; i++) {
		const struct bytes *f = &b->frames[i];

		if (push(w->fd, f->at, HEADER, 0) || from_file(w, f->at + HEADER, f->len - HEADER))
			return -1;
	}
	return 0;
}

/* write_spliced sends the frames through a pipe. */
static int write_spliced(struct way *w, const struct batch *b)
{
	struct bytes *all = join(w, b);
	int ends[2], failed;

	if (pipe2(ends, O_CLOEXEC))
		return -1;
	failed = 0;
	for (size_t at = 0; !failed && at < all->len;) {
		size_t left = all->len - at;
		ssize_t n = write(ends[1], all->at + at, left < SPLICED ? left : SPLICED);

		failed = n < 0;
		at += failed ? 0 : n;
		while (!failed && n > 0) {
			ssize_t moved = splice(ends[0], NULL, w->fd, NULL, n, 0);

			failed = moved < 0;
			n -= moved;
		}
	}
	close(ends[0]);
	close(ends[1]);
	return failed ? -1 : 0;
}

/* cut sends each frame in two pieces, of which the first has n bytes. */
static int cut(struct way *w, const struct batch *b, size_t n)
{
	for (int i = 0; i < b->n; i++) {
		const struct bytes *f = &b->frames[i];
		size_t at = n < f->len ? n : f->len;

		if (push(w->fd, f->at, at, 0) || push(w->fd, f->at + at, f->len - at, 0))
			return -1;
	}
	return 0;
}

static int write_header(struct way *w, const struct batch *b) { return cut(w, b, HEADER); }
static int write_half_header(struct way *w, const struct batch *b) { return cut(w, b, HEADER / 2); }
static int write_names(struct way *w, const struct batch *b) { return cut(w, b, HEADER + 20); }
static int write_bodies(struct way *w, const struct batch *b) { return cut(w, b, 100); }

static int write_chunks(struct way *w, const struct batch *b)
{
	struct bytes *all = join(w, b);

	for (size_t at = 0; at < all->len;) {
		size_t left = all->len - at;
		size_t n = 1 + draw(w, draw(w, 2) && left > 300 ? 300 : left);

		if (push(w->fd, all->at + at, n, 0))
			return -1;
		at += n;
	}
	return 0;
}

static int write_bytes(struct way *w, const struct batch *b)
{
	struct bytes *all = join(w, b);

	if (all->len > BYTEWISE)
		return write_chunks(w, b);
	for (size_t at = 0; at < all->len; at++)
		if (push(w->fd, all->at + at, 1, 0))
			return -1;
	return 0;
}

/* write_zerocopy gives the kernel the bytes themselves, which stay as they are. Where it copies
 * them after all it says nothing; what it says is read, so that nobody takes it for an error.
 */
static int write_zerocopy(struct way *w, const struct batch *b)
{
	struct bytes *all = join(w, b);
	char control[128];
	struct msghdr said = {.msg_control = control, .msg_controllen = sizeof(control)};
	int on = 1, failed;
	uint8_t *own;

	if (w->kept > KEPT)
		return write_all(w, b);
	if (!w->zerocopy && setsockopt(w->fd, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)))
		return -1;
	w->zerocopy = 1;
	own = malloc(all->len);
	if (!own)
		return -1;
	memcpy(own, all->at, all->len); /* never given back */
	w->kept += all->len;
	failed = push(w->fd, own, all->len, MSG_ZEROCOPY);
	while (recvmsg(w->fd, &said, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0)
		said.msg_controllen = sizeof(control);
	return failed;
}

/* write_urgent sends one urgent byte, behind the first frames and once: of two, one may be read in
 * band. TCP has it out of band, where nobody asks for it.
 */
static int write_urgent(struct way *w, const struct batch *b)
{
	int failed = write_each(w, b);

	w->frames += b->n;
	if (failed || w->urgent || w->frames < URGENT)
		return failed;
	w->urgent = 1;
	return push(w->fd, (const uint8_t *)"U", 1, MSG_OOB);
}

#include "ring.h"

/* struct shape is one of them. */
struct shape {
	const char *name;
	int (*write)(struct way *w, const struct batch *b);
};

/* The first PIECES of them write each frame whole, the last one is no good beside others. */
static const struct shape shapes[] = {
	{"write", write_each},
	{"one write", write_all},
	{"writev", write_vectors},
	{"writev of 1024", write_many_vectors},
	{"sendmmsg", write_messages},
	{"MSG_MORE", write_more},
	{"MSG_DONTWAIT", write_dontwait},
	{"TCP_CORK", write_corked},
	{"no TCP_NODELAY", write_delayed},
	{"sendfile", write_file},
	{"MSG_ZEROCOPY", write_zerocopy},
	{"io_uring", write_ring},
	{"splice", write_spliced},
	{"header, then sendfile", write_header_file},
	{"header alone", write_header},
	{"header split", write_half_header},
	{"names split", write_names},
	{"body split", write_bodies},
	{"random chunks", write_chunks},
	{"bytes", write_bytes},
	{"MSG_OOB", write_urgent},
};

#define PIECES 12
#define SHAPES ((int)(sizeof(shapes) / sizeof(shapes[0])))

/* shape_named is the number of a shape; -1: there is none of that name. */
static int shape_named(const char *name)
{
	for (int i = 0; i < SHAPES; i++)
		if (!strcmp(shapes[i].name, name))
			return i;
	return -1;
}

/* any_shape is the number of one: of those that write in pieces one in eight times. */
static int any_shape(struct way *w)
{
	return draw(w, 8) ? (int)draw(w, PIECES) : PIECES + (int)draw(w, SHAPES - 1 - PIECES);
}
