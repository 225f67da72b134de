/* lane-c is an application in plain C whose calls may take the lane: consumers of Dubbo2 that
 * write to their sockets in every way that C knows, and check every byte that comes back; and
 * providers that answer so. Their peers are those of internal/testnet/lanetest.
 *
 *	lane-c consume TAG NAME=VALUE...
 *	lane-c provide NUMBER MOST PORT BOOK
 *	lane-c shapes
 *
 * The first makes calls as its options say (struct options) and writes TAG and, in JSON, what a
 * lanetest.Result has of it. The second listens at two ports: at the other one it shows, in JSON,
 * its lanetest.Book. The third lists the shapes.
 */
#define _GNU_SOURCE
#include "consumer.h"
#include "provider.h"

/* set takes NAME=VALUE. */
static int set(struct options *o, char *arg)
{
	struct {
		const char *name;
		uint32_t *to;
	} numbers[] = {
		{"first", &o->first}, {"conns", &o->conns}, {"calls", &o->calls}, {"depth", &o->depth},
		{"seed", &o->seed}, {"size", &o->size}, {"huge", &o->huge}, {"lane", &o->lane},
		{"most", &o->most}, {"providers", &o->providers}, {"silence", &o->silence}, {"threads", &o->threads},
		{"locked", &o->locked}, {"pure", &o->pure}, {"buffer", &o->buffer},
	};
	char *value = strchr(arg, '=');

	if (!value)
		return -1;
	*value++ = 0;
	if (!strcmp(arg, "target")) {
		o->target = value;
		return strrchr(value, ':') ? 0 : -1;
	}
	if (!strcmp(arg, "shape")) {
		o->shape = shape_named(value);
		return o->shape < 0 ? -1 : 0;
	}
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		if (!strcmp(arg, numbers[i].name)) {
			*numbers[i].to = strtoul(value, NULL, 10);
			return 0;
		}
	}
	return -1;
}

/* tell writes what came of all connections, on one line. */
static void tell(const char *tag, const struct options *o, const struct conn *all)
{
	struct result sum = {0};
	const char *between = "";

	for (uint32_t i = 0; i < o->conns; i++) {
		sum.answered += all[i].r.answered;
		sum.one_ways += all[i].r.one_ways;
		sum.beats += all[i].r.beats;
		sum.woken += all[i].r.woken;
		for (uint32_t k = 0; k < o->providers; k++)
			sum.by[k] += all[i].r.by[k];
	}
	printf("%s{\"Answered\":%u,\"OneWays\":%u,\"Beats\":%u,\"Woken\":%u,\"By\":[", tag, sum.answered, sum.one_ways, sum.beats, sum.woken);
	for (uint32_t k = 0; k < o->providers; k++)
		printf("%s%u", k ? "," : "", sum.by[k]);
	printf("],\"Errors\":[");
	for (uint32_t i = 0; i < o->conns; i++) {
		if (!all[i].r.error[0])
			continue;
		fputs(between, stdout);
		string(stdout, all[i].r.error);
		between = ",";
	}
	printf("]}\n");
}

static int consume(const char *tag, const struct options *o)
{
	struct conn *all = calloc(o->conns, sizeof(*all));
	pthread_t *threads = calloc(o->conns, sizeof(*threads));

	if (!all || !threads)
		return 1;
	signal(SIGPIPE, SIG_IGN);
	for (uint32_t i = 0; i < o->conns; i++) {
		all[i].o = o;
		all[i].number = o->first + i;
		sem_init(&all[i].room, 0, o->depth);
		pthread_mutex_init(&all[i].writing, NULL);
		pthread_mutex_init(&all[i].mu, NULL);
		pthread_create(&threads[i], NULL, run_conn, &all[i]);
	}
	for (uint32_t i = 0; i < o->conns; i++)
		pthread_join(threads[i], NULL);
	tell(tag, o, all);
	return 0;
}

int main(int argc, char **argv)
{
	struct options o = {
		.conns = 1, .calls = 100, .depth = 16, .seed = 1, .size = 4096, .lane = 100, .most = 4096,
		.providers = 1, .silence = 60, .threads = 1, .locked = 1, .shape = -1,
	};

	if (argc == 2 && !strcmp(argv[1], "shapes")) {
		for (int i = 0; i < SHAPES; i++)
			puts(shapes[i].name);
		return 0;
	}
	if (argc == 6 && !strcmp(argv[1], "provide"))
		return provide(atoi(argv[2]), strtoul(argv[3], NULL, 10), atoi(argv[4]), atoi(argv[5]));
	if (argc < 3 || strcmp(argv[1], "consume"))
		goto usage;
	for (int i = 3; i < argc; i++)
		if (set(&o, argv[i]))
			goto usage;
	if (o.target && o.conns && o.threads && o.providers <= PROVIDERS && o.size)
		return consume(argv[2], &o);
usage:
	fprintf(stderr, "usage: lane-c consume TAG target=ADDRESS:PORT [NAME=VALUE]...\n"
			"       lane-c provide NUMBER MOST PORT BOOK\n       lane-c shapes\n");
	return 2;
}
