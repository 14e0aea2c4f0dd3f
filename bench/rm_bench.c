/* SPDX-License-Identifier: Apache-2.0 */
/* Times calls of the driver as a program meets them: rm-bench [OPTIONS] KIND...
 *
 * Kinds: pair (allocate and free 2 MiB), info (FB_GET_INFO_V2), pass (a call that is nothing to us), cuda (the nine calls
 * that libcuda makes for one cuMemAlloc and cuMemFree, traces/apis.jsonl.gz). Each thread of each process times each call by
 * itself. Prints one JSON object; times are nanoseconds. Runs on the simulator and, all but cuda, on a GPU. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/test_rm.h"

enum { KINDS = 4 };

#define BLOCK_BYTES (UINT64_C(2) << 20)

static unsigned long calls = 1000, processes = 1, threads = 1;

struct thread {
	pthread_t id;
	struct test_rm *rm;
	int (*once)(struct thread *t);
	uint64_t *times;	/* calls of them */
	uint64_t place;		/* addresses of its own, for cuda */
	unsigned long failed;
	int first_failure;
};

/* What all processes see. */
struct shared {
	uint64_t startup_ns;	/* of the last process */
	uint64_t elapsed_ns;
	uint64_t failed;
	int64_t first_failure;
	uint32_t ready, go;
	uint64_t times[];	/* processes * threads * calls */
};

static struct shared *shared;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int once_pair(struct thread *t)
{
	uint64_t bytes = BLOCK_BYTES;
	uint32_t object = 0;
	int r = test_rm_vidmem(t->rm, &bytes, &object);

	return r ? r : test_rm_free(t->rm, t->rm->client, object);
}

static int once_info(struct thread *t)
{
	uint64_t bytes;

	return test_rm_fb_info(t->rm, FB_INFO_INDEX_HEAP_FREE, &bytes);
}

static int once_pass(struct thread *t)
{
	char text[64];

	return test_rm_version(t->rm->ctl, text);
}

/* A control that libcuda asks between its calls, nothing to us; the simulator does not know it. */
static int pass_control(struct thread *t)
{
	uint8_t params[32] = { 0 };
	int r = test_rm_control(t->rm, t->rm->client, t->rm->device, 0x503c0104, params, sizeof(params));

	return r < 0 ? r : 0;
}

static int once_cuda(struct thread *t)
{
	uint64_t bytes = BLOCK_BYTES;
	uint32_t object = 0;
	int r = once_info(t);

	r = r ? r : test_rm_vidmem(t->rm, &bytes, &object);
	r = r ? r : pass_control(t);
	r = r ? r : test_uvm_range(t->rm, t->place, BLOCK_BYTES);
	r = r ? r : test_uvm_map(t->rm, t->place, BLOCK_BYTES, t->rm->client, object);
	r = r ? r : once_info(t);
	r = r ? r : pass_control(t);
	r = r ? r : test_uvm_free(t->rm, t->place, BLOCK_BYTES);
	return r ? r : test_rm_free(t->rm, t->rm->client, object);
}

static const struct kind {
	const char *name;
	int (*once)(struct thread *t);
} kinds[KINDS] = {
	{ "pair", once_pair },
	{ "info", once_info },
	{ "pass", once_pass },
	{ "cuda", once_cuda },
};

static void *run_thread(void *arg)
{
	struct thread *t = arg;

	for (unsigned long i = 0; i < calls; i++) {
		uint64_t before = now_ns();
		int r = t->once(t);

		t->times[i] = now_ns() - before;
		if (r && !t->failed++)
			t->first_failure = r;
	}
	return NULL;
}

/* One process: open the driver, wait for the others, run. */
static int run_process(const struct kind *kind, unsigned long number)
{
	struct thread *all = calloc(threads, sizeof(*all));
	uint64_t before = now_ns();
	struct test_rm rm;
	int r = all ? test_rm_open(&rm, 0) : -ENOMEM;

	if (r == 0 && kind->once == once_cuda)
		r = test_uvm_open(&rm);
	shared->startup_ns = now_ns() - before;
	__atomic_add_fetch(&shared->ready, 1, __ATOMIC_SEQ_CST);
	if (r) {
		fprintf(stderr, "rm-bench: the driver cannot be opened: %d\n", r);
		return 1;
	}
	while (!__atomic_load_n(&shared->go, __ATOMIC_SEQ_CST))
		usleep(1000);
	for (unsigned long i = 0; i < threads; i++) {
		all[i].rm = &rm;
		all[i].once = kind->once;
		all[i].times = shared->times + (number * threads + i) * calls;
		all[i].place = (UINT64_C(1) << 44) + ((uint64_t)i << 32);
		if (i && pthread_create(&all[i].id, NULL, run_thread, &all[i]) != 0)
			return 1;
	}
	run_thread(&all[0]);
	for (unsigned long i = 0; i < threads; i++) {
		if (i)
			pthread_join(all[i].id, NULL);
		__atomic_add_fetch(&shared->failed, all[i].failed, __ATOMIC_SEQ_CST);
		if (all[i].failed)
			__atomic_store_n(&shared->first_failure, all[i].first_failure, __ATOMIC_SEQ_CST);
	}
	test_rm_close(&rm);
	free(all);
	return 0;
}

/* All processes of one kind. Returns how many of them failed. */
static int run_kind(const struct kind *kind)
{
	uint64_t before;
	int failed = 0;

	shared->ready = shared->go = 0;
	shared->failed = 0;
	shared->first_failure = 0;
	for (unsigned long i = 0; i < processes; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return 1;
		if (pid == 0)
			_exit(run_process(kind, i));
	}
	while (__atomic_load_n(&shared->ready, __ATOMIC_SEQ_CST) < processes)
		usleep(1000);
	before = now_ns();
	__atomic_store_n(&shared->go, 1, __ATOMIC_SEQ_CST);
	for (unsigned long i = 0; i < processes; i++) {
		int status;

		if (wait(&status) < 0 || status != 0)
			failed++;
	}
	shared->elapsed_ns = now_ns() - before;
	return failed;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void print_kind(const char *name, bool is_first)
{
	uint64_t *times = shared->times;
	size_t count = processes * threads * calls;

	qsort(times, count, sizeof(*times), compare);
	printf("%s\"%s\":{\"n\":%zu,\"p50\":%" PRIu64 ",\"p99\":%" PRIu64 ",\"p999\":%" PRIu64 ",\"max\":%" PRIu64
	       ",\"startup\":%" PRIu64 ",\"elapsed\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"status\":%" PRId64 "}",
	       is_first ? "" : ",", name, count, times[count / 2], times[count - 1 - count / 100],
	       times[count - 1 - count / 1000], times[count - 1], shared->startup_ns, shared->elapsed_ns, shared->failed,
	       shared->first_failure);
}

static const struct kind *kind_find(const char *name)
{
	for (size_t i = 0; i < KINDS; i++) {
		if (strcmp(name, kinds[i].name) == 0)
			return &kinds[i];
	}
	return NULL;
}

static int usage(void)
{
	fputs("usage: rm-bench [--calls N] [--processes N] [--threads N] pair|info|pass|cuda...\n", stderr);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "calls", required_argument, NULL, 'c' },
		{ "processes", required_argument, NULL, 'p' },
		{ "threads", required_argument, NULL, 't' },
		{ NULL, 0, NULL, 0 },
	};
	size_t size;
	int failed = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		unsigned long value = optarg ? strtoul(optarg, NULL, 10) : 0;

		if (!value || value > 100000000)
			return usage();
		*(option == 'c' ? &calls : option == 'p' ? &processes : &threads) = value;
	}
	if (optind == argc)
		return usage();
	size = sizeof(*shared) + processes * threads * calls * sizeof(shared->times[0]);
	shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	for (int i = optind; i < argc; i++) {
		if (!kind_find(argv[i]))
			return usage();
	}
	putchar('{');
	for (int i = optind; i < argc; i++) {
		fflush(stdout);
		failed += run_kind(kind_find(argv[i]));
		print_kind(argv[i], i == optind);
	}
	puts("}");
	return failed ? 1 : 0;
}
