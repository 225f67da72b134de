/* consumer.h: connections that call, each with a thread that reads and one or two that write.
 * Every answer is compared with what it must be, byte for byte.
 */
#pragma once

#include <arpa/inet.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <time.h>

#include "shape.h"

/* The ids of what is no call. */
#define BEAT_ID (1ull << 50)
#define ONE_WAY_ID (1ull << 51)

#define PROVIDERS 8

/* struct options are as lanetest.Consumer has them. */
struct options {
	char *target; /* ADDRESS:PORT */
	uint32_t first, conns, calls, depth, seed, size, huge, lane, most, providers;
	uint32_t silence; /* seconds */
	uint32_t threads; /* that write to each socket, 1 or 2 */
	uint32_t locked;  /* they write one behind the other */
	uint32_t pure;	  /* nothing but calls */
	uint32_t buffer;  /* bytes of the socket's send buffer; 0: as the kernel has it */
	int shape;	  /* number; -1: any */
};

/* struct result is what came of a connection, and of all of them. */
struct result {
	uint32_t answered, one_ways, beats, by[PROVIDERS];
	uint32_t woken; /* reads that waited and returned without bytes */
	char error[512];
};

/* struct conn is one connection. */
struct conn {
	const struct options *o;
	uint32_t number;
	int fd;
	sem_t room;
	pthread_mutex_t writing, mu;

	/* mu guards the rest. */
	struct call *calls; /* by seq */
	uint32_t seq, kept, made, beating, writers, ended;
	time_t heard;
	struct result r;
};

struct writer {
	struct conn *c;
	struct way way;
	struct batch batch;
	uint32_t calls, huge;
};

static time_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* wrong notes the first thing that is wrong, and ends the connection. */
__attribute__((format(printf, 2, 3))) static void wrong(struct conn *c, const char *format, ...)
{
	va_list list;

	pthread_mutex_lock(&c->mu);
	if (!c->r.error[0] && !c->ended) {
		va_start(list, format);
		vsnprintf(c->r.error, sizeof(c->r.error), format, list);
		va_end(list);
	}
	pthread_mutex_unlock(&c->mu);
	shutdown(c->fd, SHUT_RDWR);
	for (uint32_t i = 0; i < 2 * c->o->depth; i++) /* whoever waits for room sees it */
		sem_post(&c->room);
}

static int failed(struct conn *c)
{
	int is;

	pthread_mutex_lock(&c->mu);
	is = c->r.error[0] != 0;
	pthread_mutex_unlock(&c->mu);
	return is;
}

/* next is another call, or request that nobody answers. */
static struct call next(struct writer *w, int one_way)
{
	struct conn *c = w->c;
	struct call k = {.conn = c->number, .serialization = HESSIAN2, .one_way = one_way};
	uint32_t size = draw(&w->way, draw(&w->way, 2) ? c->o->size : SMALL);

	k.size = TOKEN + (size > c->o->size ? c->o->size : size);
	if (one_way && k.size > SMALL)
		k.size = SMALL;
	if (draw(&w->way, 2))
		k.serialization = FASTJSON2;
	if (draw(&w->way, 100) >= c->o->lane) {
		if (k.serialization == HESSIAN2 && draw(&w->way, 2))
			k.generic = 1;
		else
			k.held = 1;
	}
	if (!one_way && w->huge && draw(&w->way, w->calls > w->huge ? w->calls / w->huge : 1) == 0) {
		k.size = (1u << 20) + draw(&w->way, 7u << 20);
		w->huge--;
	}
	return k;
}

/* note gives a request its number, and remembers it. */
static void note(struct conn *c, struct call *k)
{
	pthread_mutex_lock(&c->mu);
	k->seq = ++c->seq;
	if (c->seq >= c->kept) {
		c->kept = c->kept ? 2 * c->kept : 1024;
		c->calls = realloc(c->calls, c->kept * sizeof(*c->calls));
		if (!c->calls) {
			perror("realloc");
			exit(1);
		}
	}
	k->waits = !k->one_way;
	c->calls[k->seq] = *k;
	if (k->one_way)
		c->r.one_ways++;
	else
		c->made++;
	pthread_mutex_unlock(&c->mu);
}

/* flush writes what is collected, in one of the shapes. */
static int flush(struct writer *w)
{
	struct conn *c = w->c;
	const struct options *o = c->o;
	int shape = o->shape, result;

	if (!w->batch.n)
		return 0;
	if (shape < 0)
		shape = any_shape(&w->way);
	if (o->locked)
		pthread_mutex_lock(&c->writing);
	result = shapes[shape].write(&w->way, &w->batch);
	if (o->locked)
		pthread_mutex_unlock(&c->writing);
	if (result)
		wrong(c, "%s: %s", shapes[shape].name, strerror(errno));
	w->batch.n = 0;
	return result;
}

static struct bytes *frame_of(struct writer *w)
{
	struct bytes *f = &w->batch.frames[w->batch.n++];

	f->len = 0;
	return f;
}

/* between adds what is no call, now and then. */
static void between(struct writer *w)
{
	struct conn *c = w->c;
	uint32_t what = draw(&w->way, 100);
	struct bytes *f;
	struct call once;
	size_t at;

	if (c->o->pure || what > 1)
		return;
	f = frame_of(w);
	if (what == 0) {
		at = header(f, FLAG_REQUEST | FLAG_TWO_WAY | FLAG_EVENT | HESSIAN2, 0, BEAT_ID);
		put8(f, 'N');
		seal(f, at);
		pthread_mutex_lock(&c->mu);
		c->beating++;
		pthread_mutex_unlock(&c->mu);
		return;
	}
	once = next(w, 1);
	note(c, &once);
	put_call(f, &once, ONE_WAY_ID | once.seq);
}

/* write_calls makes a writer's calls. */
static void *write_calls(void *arg)
{
	struct writer *w = arg;
	struct conn *c = w->c;

	while (w->calls > 0 && !failed(c)) {
		for (uint32_t i = 1 + draw(&w->way, 6); i > 0 && w->calls > 0; i--) {
			struct call k;

			between(w);
			if (sem_trywait(&c->room)) {
				if (flush(w))
					goto out;
				sem_wait(&c->room);
				i = 1; /* it alone */
			}
			k = next(w, 0);
			w->calls--;
			note(c, &k);
			put_call(frame_of(w), &k, number(&k));
		}
		if (flush(w))
			break;
	}
out:
	pthread_mutex_lock(&c->mu);
	c->writers--;
	pthread_mutex_unlock(&c->mu);
	return NULL;
}

#include "reading.h"

/* dial connects to ADDRESS:PORT, or [ADDRESS]:PORT; -1 and errno if it cannot. */
static int dial(const struct options *o)
{
	struct sockaddr_in6 to6 = {.sin6_family = AF_INET6};
	struct sockaddr_in to4 = {.sin_family = AF_INET};
	const char *port = strrchr(o->target, ':');
	int v6 = o->target[0] == '[', on = 1, size = o->buffer, fd;
	char host[64];

	snprintf(host, sizeof(host), "%.*s", (int)(port - o->target) - 2 * v6, o->target + v6);
	to4.sin_port = to6.sin6_port = htons(atoi(port + 1));
	if (inet_pton(v6 ? AF_INET6 : AF_INET, host, v6 ? (void *)&to6.sin6_addr : (void *)&to4.sin_addr) != 1) {
		errno = EINVAL;
		return -1;
	}
	fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || (size && setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size))))
		return -1;
	if (v6 ? connect(fd, (struct sockaddr *)&to6, sizeof(to6)) : connect(fd, (struct sockaddr *)&to4, sizeof(to4)))
		return -1;
	return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) ? -1 : fd;
}

/* over tells whether everything is answered, or nothing comes any more. */
static int over(struct conn *c)
{
	int ended, silent;

	pthread_mutex_lock(&c->mu);
	ended = c->r.error[0] || (!c->writers && c->r.answered == c->made && !c->beating);
	silent = now() - c->heard > c->o->silence;
	pthread_mutex_unlock(&c->mu);
	if (!ended && silent)
		wrong(c, "nothing for %u s: %u of %u calls are answered, %u heartbeats wait", c->o->silence, c->r.answered, c->made, c->beating);
	return ended || silent;
}

/* run_conn is a connection's life. */
static void *run_conn(void *arg)
{
	struct conn *c = arg;
	const struct options *o = c->o;
	struct writer *w = calloc(o->threads, sizeof(*w));
	pthread_t reader, *writers = calloc(o->threads, sizeof(*writers));

	c->fd = dial(o);
	if (c->fd < 0 || !w || !writers) {
		snprintf(c->r.error, sizeof(c->r.error), "dial: %s", strerror(errno));
		return NULL;
	}
	c->heard = now();
	c->writers = o->threads;
	pthread_create(&reader, NULL, read_answers, c);
	for (uint32_t i = 0; i < o->threads; i++) {
		w[i].c = c;
		w[i].way = (struct way){.fd = c->fd, .chance = (o->seed * 31ull + c->number) * 2 + i + 1};
		for (int k = 0; k < 20; k++)
			draw(&w[i].way, 2);
		w[i].calls = o->calls / o->threads;
		w[i].huge = i ? 0 : o->huge;
		pthread_create(&writers[i], NULL, write_calls, &w[i]);
	}
	while (!over(c))
		usleep(5000);
	for (uint32_t i = 0; i < o->threads; i++)
		pthread_join(writers[i], NULL);
	pthread_mutex_lock(&c->mu);
	c->ended = 1;
	pthread_mutex_unlock(&c->mu);
	shutdown(c->fd, SHUT_RDWR);
	pthread_join(reader, NULL);
	close(c->fd);
	return NULL;
}
