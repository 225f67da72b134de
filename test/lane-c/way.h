/* way.h: a writer of whole frames, and what all shapes are made of. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "frame.h"

#define FRAMES 64 /* of one batch, at most */

/* struct way is a writer: its socket and what it needs to write. One thread uses it. */
struct way {
	int fd;
	uint64_t chance;
	struct bytes all; /* of join */
	struct ring *ring;
	size_t kept; /* bytes that were given away */
	int zerocopy;
	int frames, urgent; /* of write_urgent */
};

/* struct batch is frames, each whole. */
struct batch {
	struct bytes frames[FRAMES];
	int n;
};

static uint32_t draw(struct way *w, uint32_t below)
{
	w->chance ^= w->chance << 13;
	w->chance ^= w->chance >> 7;
	w->chance ^= w->chance << 17;
	return (w->chance >> 11) % below;
}

/* join is all frames of a batch, one behind the other. */
static struct bytes *join(struct way *w, const struct batch *b)
{
	w->all.len = 0;
	for (int i = 0; i < b->n; i++)
		put(&w->all, b->frames[i].at, b->frames[i].len);
	return &w->all;
}

/* push sends all of some bytes, in as many calls as that takes. */
static int push(int fd, const uint8_t *p, size_t n, int flags)
{
	while (n > 0) {
		ssize_t done = send(fd, p, n, flags | MSG_NOSIGNAL);

		if (done < 0 && errno == EAGAIN) {
			struct pollfd wait = {.fd = fd, .events = POLLOUT};

			if (poll(&wait, 1, -1) < 0)
				return -1;
			continue;
		}
		if (done < 0)
			return -1;
		p += done;
		n -= done;
	}
	return 0;
}
