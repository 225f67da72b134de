/* provider.h: a provider that answers in every shape, and keeps a book of what it has served. */
#pragma once

#include <signal.h>

#include "consumer.h"

#define TOGETHER 16 /* answers of one batch, at most */

/* struct set is which calls of a consumer's connection were served. */
struct set {
	uint32_t conn;
	uint8_t *bits;
	size_t len; /* bytes */
	struct set *next;
};

/* struct book is what was served. */
struct book {
	pthread_mutex_t mu;
	uint8_t provider;
	uint32_t most;
	uint32_t calls, one_ways, doubled, beats;
	struct set *sets;
	char error[256];
};

/* struct serving is a connection of a provider's. */
struct serving {
	struct book *book;
	int fd;
};

/* enter writes a request down. */
static void enter(struct book *k, const struct call *c)
{
	struct set *s;

	pthread_mutex_lock(&k->mu);
	for (s = k->sets; s && s->conn != c->conn; s = s->next)
		;
	if (!s) {
		s = calloc(1, sizeof(*s));
		s->conn = c->conn;
		s->next = k->sets;
		k->sets = s;
	}
	if (c->seq / 8 >= s->len) {
		size_t len = c->seq / 4 + 64;

		s->bits = realloc(s->bits, len);
		memset(s->bits + s->len, 0, len - s->len);
		s->len = len;
	}
	k->doubled += s->bits[c->seq / 8] >> c->seq % 8 & 1;
	s->bits[c->seq / 8] |= 1 << c->seq % 8;
	if (c->one_way)
		k->one_ways++;
	else
		k->calls++;
	pthread_mutex_unlock(&k->mu);
}

/* blame notes the first thing that is wrong. */
static void blame(struct book *k, const char *what, const uint8_t *f, size_t n)
{
	pthread_mutex_lock(&k->mu);
	if (!k->error[0])
		snprintf(k->error, sizeof(k->error), "%s: %zu bytes: %.*s", what, n, (int)(n < HEADER + 120 ? n - HEADER : 120), (const char *)f + HEADER);
	pthread_mutex_unlock(&k->mu);
}

/* request finds which call a frame is, and compares all of it. False: it is none. */
static int request(const uint8_t *f, size_t n, struct call *c, struct bytes *scratch)
{
	static const struct call all[] = {{0}, {.held = 1}, {.generic = 1}};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const uint8_t *at;

		*c = all[i];
		c->serialization = f[2] & 0x1f;
		c->one_way = !(f[2] & FLAG_TWO_WAY);
		scratch->len = 0;
		head(scratch, c);
		at = f + HEADER + scratch->len;
		if (n < HEADER + scratch->len + TOKEN)
			continue;
		c->conn = get32(at);
		c->seq = get32(at + 4);
		c->size = get32(at + 8);
		if (c->size < TOKEN || c->size > n)
			continue;
		scratch->len = 0;
		put_call(scratch, c, get64(f + 4));
		if (scratch->len == n && !memcmp(scratch->at, f, n))
			return 1;
	}
	return 0;
}

/* serve answers a frame, into a batch. False: it is wrong. */
static int serve(struct book *k, const uint8_t *f, size_t n, struct batch *b, struct bytes *scratch)
{
	uint64_t id = get64(f + 4);
	struct call c;
	size_t at;

	if (!(f[2] & FLAG_REQUEST)) {
		blame(k, "an answer to nothing", f, n);
		return 0;
	}
	if (f[2] & FLAG_EVENT) {
		pthread_mutex_lock(&k->mu);
		k->beats++;
		pthread_mutex_unlock(&k->mu);
		b->frames[b->n].len = 0;
		at = header(&b->frames[b->n], FLAG_EVENT | HESSIAN2, STATUS_OK, id);
		put8(&b->frames[b->n], 'N');
		seal(&b->frames[b->n++], at);
		return 1;
	}
	if (!request(f, n, &c, scratch)) {
		blame(k, "a request that nobody here sent", f, n);
		return 0;
	}
	enter(k, &c);
	if (!c.one_way) {
		b->frames[b->n].len = 0;
		put_answer(&b->frames[b->n++], &c, k->most, k->provider, id);
	}
	return 1;
}

/* reply writes a batch, in no order, mostly at once. */
static int reply(struct way *w, struct batch *b)
{
	int shape = draw(w, 2) ? shape_named("one write") : any_shape(w), failed;

	for (int i = b->n - 1; i > 0; i--) {
		int other = draw(w, i + 1);
		struct bytes f = b->frames[i];

		b->frames[i] = b->frames[other];
		b->frames[other] = f;
	}
	failed = b->n && shapes[shape].write(w, b);
	b->n = 0;
	return failed;
}

/* serve_conn answers what comes until the connection ends. */
static void *serve_conn(void *arg)
{
	struct serving *s = arg;
	struct way w = {.fd = s->fd, .chance = 0x5eed0001u + s->fd};
	struct batch *b = calloc(1, sizeof(*b));
	struct bytes in = {0}, scratch = {0};
	ssize_t n;

	for (;;) {
		size_t at = 0, filled = in.len;

		grow(&in, 256 << 10);
		do
			n = recv(s->fd, in.at + filled, 256 << 10, 0);
		while (n < 0 && errno == EAGAIN); /* as read_some has it */
		if (n <= 0)
			break;
		in.len = filled + n;
		while (in.len - at >= HEADER) {
			size_t size = HEADER + get32(in.at + at + 12);

			if (in.at[at] != 0xda || in.at[at + 1] != 0xbb) {
				blame(s->book, "no frame", in.at + at, in.len - at);
				goto out;
			}
			if (in.len - at < size)
				break;
			if (!serve(s->book, in.at + at, size, b, &scratch) || (b->n == TOGETHER && reply(&w, b)))
				goto out;
			at += size;
		}
		if (reply(&w, b))
			break;
		memmove(in.at, in.at + at, in.len - at);
		in.len -= at;
	}
out:
	close(s->fd);
	for (int i = 0; i < FRAMES; i++)
		free(b->frames[i].at);
	free(b);
	free(in.at);
	free(scratch.at);
	free(w.all.at);
	free(s);
	return NULL;
}

/* base64 writes bytes as JSON has them. */
static void base64(FILE *to, const uint8_t *p, size_t n)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = p[i] << 16 | (i + 1 < n ? p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);

		fputc(digits[v >> 18], to);
		fputc(digits[v >> 12 & 63], to);
		fputc(i + 1 < n ? digits[v >> 6 & 63] : '=', to);
		fputc(i + 2 < n ? digits[v & 63] : '=', to);
	}
}

/* string writes a string of JSON. */
static void string(FILE *to, const char *s)
{
	fputc('"', to);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\' || (unsigned char)*s < 0x20 || (unsigned char)*s > 0x7e)
			fprintf(to, "\\u%04x", (unsigned char)*s);
		else
			fputc(*s, to);
	}
	fputc('"', to);
}

/* show writes the book to whoever has connected. */
static void show(struct book *k, int fd)
{
	FILE *to = fdopen(fd, "w");

	if (!to) {
		close(fd);
		return;
	}
	pthread_mutex_lock(&k->mu);
	fprintf(to, "{\"Calls\":%u,\"OneWays\":%u,\"Doubled\":%u,\"Beats\":%u,\"Seen\":{", k->calls, k->one_ways, k->doubled, k->beats);
	for (struct set *s = k->sets; s; s = s->next) {
		fprintf(to, "%s\"%u\":\"", s == k->sets ? "" : ",", s->conn);
		base64(to, s->bits, s->len);
		fputc('"', to);
	}
	fprintf(to, "},\"Errors\":[");
	if (k->error[0])
		string(to, k->error);
	fprintf(to, "]}");
	pthread_mutex_unlock(&k->mu);
	fclose(to);
}

/* listening listens at a port of every address; -1 and errno. */
static int listening(int port)
{
	struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), off = 0, on = 1;

	if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 1024))
		return -1;
	return fd;
}

struct shelf {
	struct book *book;
	int fd;
};

static void *show_all(void *arg)
{
	struct shelf *s = arg;

	for (;;) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0)
			show(s->book, fd);
	}
	return NULL;
}

/* provide serves until it is killed. */
static int provide(int number, uint32_t most, int port, int book_port)
{
	static struct book book = {.mu = PTHREAD_MUTEX_INITIALIZER};
	struct shelf shelf = {&book, listening(book_port)};
	int fd = listening(port), on = 1;
	pthread_t thread;

	book.provider = number;
	book.most = most;
	signal(SIGPIPE, SIG_IGN);
	if (fd < 0 || shelf.fd < 0) {
		perror("listen");
		return 1;
	}
	pthread_create(&thread, NULL, show_all, &shelf);
	for (;;) {
		struct serving *s = calloc(1, sizeof(*s));

		s->book = &book;
		s->fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		if (s->fd < 0) {
			perror("accept");
			return 1;
		}
		setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		pthread_create(&thread, NULL, serve_conn, s);
		pthread_detach(thread);
	}
}
