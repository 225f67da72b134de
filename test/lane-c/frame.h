/* frame.h: the frames of internal/testnet/lanetest, byte for byte: requests, and the answers that
 * its providers must give to them. All that a frame holds follows from who sent it and its number.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER 16
#define TOKEN 12 /* bytes at an argument's begin that say whose it is */

#define FLAG_REQUEST 0x80
#define FLAG_TWO_WAY 0x40
#define FLAG_EVENT 0x20

#define HESSIAN2 2
#define FASTJSON2 23

#define STATUS_OK 20
#define STATUS_ERROR 70

/* The sizes of answers. */
#define SMALL (2u << 10)
#define MIDDLE (200u << 10)
#define LARGE (3u << 20)

#define INTERFACE "org.dubway.test.Mixed"

/* struct bytes grows. */
struct bytes {
	uint8_t *at;
	size_t len, room;
};

/* grow appends n bytes, to be written by the caller. */
static uint8_t *grow(struct bytes *b, size_t n)
{
	if (b->len + n > b->room) {
		b->room = (b->len + n) * 2;
		b->at = realloc(b->at, b->room);
		if (!b->at) {
			perror("realloc");
			exit(1);
		}
	}
	b->len += n;
	return b->at + b->len - n;
}

static void put(struct bytes *b, const void *p, size_t n) { memcpy(grow(b, n), p, n); }
static void put8(struct bytes *b, uint8_t v) { *grow(b, 1) = v; }

static void put32(struct bytes *b, uint32_t v)
{
	uint8_t *p = grow(b, 4);

	for (int i = 0; i < 4; i++)
		p[i] = v >> (24 - 8 * i);
}

static void put64(struct bytes *b, uint64_t v)
{
	put32(b, v >> 32);
	put32(b, v);
}

static uint32_t get32(const uint8_t *p) { return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]; }
static uint64_t get64(const uint8_t *p) { return (uint64_t)get32(p) << 32 | get32(p + 4); }

/* text appends a string of hessian2. */
static void text(struct bytes *b, const char *s)
{
	size_t n = strlen(s);

	if (n >= 32)
		put8(b, 0x30 + (n >> 8));
	put8(b, n);
	put(b, s, n);
}

/* fill appends n bytes that follow from a seed. */
static void fill(struct bytes *b, uint64_t seed, int64_t n)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15u | 1;
	uint8_t *p = grow(b, n > 0 ? n : 0);

	for (; n >= 8; n -= 8, p += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(p, &x, 8); /* little endian, as all that this is built for */
	}
	for (; n > 0; n--)
		*p++ = (uint8_t)n ^ (uint8_t)(seed >> 8);
}

/* long_bytes begins a byte array of hessian2 of n bytes, as frame.go's long does. */
static void long_bytes(struct bytes *b, uint32_t n)
{
	char digits[16];

	put(b, "B\0\3and", 6);
	snprintf(digits, sizeof(digits), "%08u", n);
	text(b, digits);
}

/* header begins a frame, whose length seal writes. */
static size_t header(struct bytes *b, uint8_t flags, uint8_t status, uint64_t id)
{
	size_t start = b->len;

	put32(b, 0xdabb0000u | flags << 8 | status);
	put64(b, id);
	put32(b, 0);
	return start;
}

static void seal(struct bytes *b, size_t start)
{
	uint32_t n = b->len - start - HEADER;

	for (int i = 0; i < 4; i++)
		b->at[start + 12 + i] = n >> (24 - 8 * i);
}

/* struct call is a request. */
struct call {
	uint32_t conn, seq;
	uint32_t size; /* of the argument, TOKEN at least */
	uint8_t serialization;
	uint8_t held;	 /* by the name that stays with the proxy */
	uint8_t generic; /* by $invoke */
	uint8_t one_way;
	uint8_t waits; /* for its answer */
};

static uint64_t number(const struct call *c) { return (uint64_t)c->conn << 32 | c->seq; }

static void token(struct bytes *b, const struct call *c)
{
	put32(b, c->conn);
	put32(b, c->seq);
	put32(b, c->size);
}

/* names are the strings that a request begins with. */
static void names(struct bytes *b, const struct call *c)
{
	const char *all[] = {"2.0.2", INTERFACE, "0.0.0", c->generic ? "$invoke" : c->held ? "held" : "echo"};

	for (int i = 0; i < 4; i++) {
		if (c->serialization == HESSIAN2) {
			text(b, all[i]);
			continue;
		}
		put32(b, strlen(all[i]) + 1);
		put8(b, 0x49 + strlen(all[i]));
		put(b, all[i], strlen(all[i]));
	}
}

/* head is what a body has before its argument's bytes. */
static void head(struct bytes *b, const struct call *c)
{
	names(b, c);
	if (c->serialization != HESSIAN2)
		return;
	if (c->generic) {
		text(b, "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;");
		text(b, c->held ? "held" : "echo");
		put(b, "N\x79", 2);
	} else {
		text(b, "[B");
	}
	long_bytes(b, c->size);
}

/* put_call appends the frame of a request. */
static void put_call(struct bytes *b, const struct call *c, uint64_t id)
{
	size_t start = header(b, FLAG_REQUEST | (c->one_way ? 0 : FLAG_TWO_WAY) | c->serialization, 0, id);

	head(b, c);
	token(b, c);
	fill(b, number(c), (int64_t)c->size - TOKEN);
	if (c->serialization == HESSIAN2)
		put(b, "HZ", 2);
	seal(b, start);
}

/* struct answer is what a provider says to a call. */
struct answer {
	uint32_t size;
	uint8_t kind, status;
};

/* spread is a number that follows from a call and looks like chance. */
static uint64_t spread(const struct call *c)
{
	uint64_t x = (number(c) + 1) * 0x9e3779b97f4a7c15u;

	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9u;
	return x ^ x >> 32;
}

/* answered is what a provider whose answers have at most so many bytes says. */
static struct answer answered(const struct call *c, uint32_t most)
{
	uint64_t x = spread(c), n = (x >> 40) % 4000;
	uint32_t limit = x >> 8 & 1 ? SMALL : MIDDLE;
	struct answer a = {.kind = 4, .status = STATUS_OK};

	if (limit > most)
		limit = most;
	a.size = (x >> 9) % (limit + 1);
	if (n == 0 && most >= MIDDLE)
		a.size = LARGE / 4 * (1 + (x >> 52 & 3));
	else if (n < 40)
		a.kind = 3; /* an exception */
	else if (n < 60)
		a.kind = 5; /* null */
	else if (n < 80 && !c->held)
		a.status = STATUS_ERROR;
	else if (n < 1000)
		a.kind = 1;
	return a;
}

/* put_answer appends the frame of a provider's answer. */
static void put_answer(struct bytes *b, const struct call *c, uint32_t most, uint8_t provider, uint64_t id)
{
	struct answer a = answered(c, most);
	size_t start = header(b, c->serialization, a.status, id);
	int hessian = c->serialization == HESSIAN2;
	char failure[32];

	if (a.status != STATUS_OK) {
		snprintf(failure, sizeof(failure), "as %u was asked", provider);
		if (hessian) {
			text(b, failure);
		} else {
			put32(b, strlen(failure) + 1);
			put8(b, 0x49 + strlen(failure));
			put(b, failure, strlen(failure));
		}
		seal(b, start);
		return;
	}
	if (hessian)
		put8(b, 0x90 + a.kind);
	else
		put(b, (uint8_t[]){0, 0, 0, 2, 0xbd, a.kind}, 6);
	if (a.kind == 3 && hessian) {
		put8(b, 'C');
		text(b, "java.lang.RuntimeException");
		put8(b, 0x91);
		text(b, "detailMessage");
		put8(b, 0x60);
		text(b, "as it was asked");
	}
	if (hessian && (a.kind == 1 || a.kind == 4))
		long_bytes(b, a.size);
	token(b, c);
	put8(b, provider);
	fill(b, number(c) ^ (uint64_t)provider << 56, a.size);
	put(b, "HZ", 2);
	seal(b, start);
}
