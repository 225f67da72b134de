/* reading.h: how answers are read, in the ways in which an application may, and compared.
 * Included by consumer.h.
 */
#pragma once

/* read_one reads what is there, in one of the ways in which an application may. */
static ssize_t read_one(struct conn *c, struct way *w, uint8_t *p, size_t room)
{
	struct pollfd wait = {.fd = c->fd, .events = POLLIN};
	struct iovec v[2] = {{p, room / 3}, {p + room / 3, room - room / 3}};
	ssize_t n;

	switch (draw(w, 4)) {
	case 0:
		return readv(c->fd, v, 2);
	case 1:
		for (;;) {
			if (poll(&wait, 1, -1) < 0)
				return -1;
			n = recv(c->fd, p, room, MSG_DONTWAIT);
			if (n >= 0 || errno != EAGAIN)
				return n;
		}
	case 2:
		n = recv(c->fd, p, room < 4096 ? room : 4096, MSG_PEEK);
		if (n > 0) {
			uint8_t seen[4096];
			ssize_t again;

			memcpy(seen, p, n);
			again = recv(c->fd, p, n, 0);
			if (again > 0 && memcmp(seen, p, again)) {
				wrong(c, "MSG_PEEK has shown other bytes");
				return -1;
			}
			return again;
		}
		return n;
	default:
		return recv(c->fd, p, room, 0);
	}
}

/* read_some is read_one. A read of a socket in a sockmap that waits returns with EAGAIN when it is
 * woken by anything but bytes, such as room for another thread's write: that is counted.
 */
static ssize_t read_some(struct conn *c, struct way *w, uint8_t *p, size_t room)
{
	for (;;) {
		ssize_t n = read_one(c, w, p, room);

		if (n >= 0 || errno != EAGAIN)
			return n;
		pthread_mutex_lock(&c->mu);
		c->r.woken++;
		pthread_mutex_unlock(&c->mu);
	}
}

/* take compares an answer. False: it is wrong. */
static int take(struct conn *c, const uint8_t *f, size_t n, struct bytes *want)
{
	uint64_t id = get64(f + 4);
	uint32_t seq = id;
	struct call k = {0};

	if (f[2] & FLAG_REQUEST)
		return 1; /* who asks is alive */
	pthread_mutex_lock(&c->mu);
	c->heard = now();
	if (f[2] & FLAG_EVENT) {
		c->beating--;
		c->r.beats++;
		pthread_mutex_unlock(&c->mu);
		return 1;
	}
	if (id >> 32 == c->number && seq && seq <= c->seq) {
		k = c->calls[seq];
		c->calls[seq].waits = 0;
	}
	pthread_mutex_unlock(&c->mu);
	if (!k.waits) {
		wrong(c, "an answer to no call, or the second: id %#llx, %zu bytes", (unsigned long long)id, n);
		return 0;
	}
	for (uint8_t by = 0; by < c->o->providers; by++) {
		want->len = 0;
		put_answer(want, &k, c->o->most, by, id);
		if (want->len != n || memcmp(want->at, f, n))
			continue;
		pthread_mutex_lock(&c->mu);
		c->r.answered++;
		c->r.by[by]++;
		pthread_mutex_unlock(&c->mu);
		sem_post(&c->room);
		return 1;
	}
	wrong(c, "call %u of connection %u: %zu bytes, status %u, are not the answer: %.*s", k.seq, k.conn, n, f[3],
	      (int)(n - HEADER < 120 ? n - HEADER : 120), (const char *)f + HEADER);
	return 0;
}

/* read_answers takes what comes until the connection ends. */
static void *read_answers(void *arg)
{
	struct conn *c = arg;
	struct way chance = {.chance = c->o->seed + c->number + 77};
	struct bytes in = {0}, want = {0};

	for (;;) {
		size_t at = 0, filled = in.len;
		ssize_t n;

		grow(&in, 256 << 10);
		n = read_some(c, &chance, in.at + filled, 256 << 10);
		if (n <= 0) {
			wrong(c, "read: %s", n ? strerror(errno) : "the connection has ended");
			break;
		}
		in.len = filled + n;
		while (in.len - at >= HEADER) {
			size_t size = HEADER + get32(in.at + at + 12);

			if (in.at[at] != 0xda || in.at[at + 1] != 0xbb) {
				wrong(c, "no frame begins with %08x", get32(in.at + at));
				goto out;
			}
			if (in.len - at < size)
				break;
			if (!take(c, in.at + at, size, &want))
				goto out;
			at += size;
		}
		memmove(in.at, in.at + at, in.len - at);
		in.len -= at;
	}
out:
	free(in.at);
	free(want.at);
	return NULL;
}
