/* ring.h: sends by io_uring, a ring for each writer. Included by shape.h. */
#pragma once

#include <linux/io_uring.h>
#include <sys/syscall.h>

/* struct ring is one of FRAMES entries. */
struct ring {
	int fd;
	unsigned int *tail, *mask, *array, *head, *done, *done_mask;
	struct io_uring_sqe *entries;
	struct io_uring_cqe *results;
};

/* ring_open makes one; NULL and errno: the kernel does not let us. */
static struct ring *ring_open(void)
{
	struct io_uring_params p = {0};
	struct ring *r = calloc(1, sizeof(*r));
	uint8_t *sq, *cq;

	if (!r)
		return NULL;
	r->fd = syscall(SYS_io_uring_setup, FRAMES, &p);
	if (r->fd < 0)
		return NULL;
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * sizeof(unsigned int), PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(*r->results), PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_CQ_RING);
	r->entries = mmap(NULL, p.sq_entries * sizeof(*r->entries), PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || r->entries == MAP_FAILED)
		return NULL;
	r->tail = (unsigned int *)(sq + p.sq_off.tail);
	r->mask = (unsigned int *)(sq + p.sq_off.ring_mask);
	r->array = (unsigned int *)(sq + p.sq_off.array);
	r->head = (unsigned int *)(cq + p.cq_off.head);
	r->done = (unsigned int *)(cq + p.cq_off.tail);
	r->done_mask = (unsigned int *)(cq + p.cq_off.ring_mask);
	r->results = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
	return r;
}

/* ring_send sends by one entry; what it returns is send's. */
static ssize_t ring_send(struct ring *r, int fd, const uint8_t *p, size_t n)
{
	unsigned int tail = *r->tail, at = tail & *r->mask, head;
	ssize_t result;

	r->entries[at] = (struct io_uring_sqe){
		.opcode = IORING_OP_SEND, .fd = fd, .addr = (uint64_t)(uintptr_t)p, .len = n, .msg_flags = MSG_NOSIGNAL,
	};
	r->array[at] = at;
	__atomic_store_n(r->tail, tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		return -1;
	head = *r->head;
	while (head == __atomic_load_n(r->done, __ATOMIC_ACQUIRE))
		if (syscall(SYS_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
			return -1;
	result = r->results[head & *r->done_mask].res;
	__atomic_store_n(r->head, head + 1, __ATOMIC_RELEASE);
	if (result < 0) {
		errno = -result;
		return -1;
	}
	return result;
}

/* write_ring sends each frame by an entry. */
static int write_ring(struct way *w, const struct batch *b)
{
	if (!w->ring)
		w->ring = ring_open();
	if (!w->ring)
		return -1;
	for (int i = 0; i < b->n; i++) {
		for (size_t at = 0; at < b->frames[i].len;) {
			ssize_t n = ring_send(w->ring, w->fd, b->frames[i].at + at, b->frames[i].len - at);

			if (n < 0)
				return -1;
			at += n;
		}
	}
	return 0;
}
