/* SPDX-License-Identifier: Apache-2.0 */
/* Memory in a slice of 256 MiB, as a program meets it: guest_memory CASE, under fracgpu-sim and fracgpu run. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/check.h"
#include "lib/test_rm.h"

#define MIB (1ull << 20)

enum { SLICE_MIB = 256, CLASS_MEMORY = 0x40 };

static struct test_rm rm;

static int alloc_mib(struct test_rm *r, uint64_t mib, uint32_t *object)
{
	uint64_t bytes = mib * MIB;
	uint32_t unnamed = 0;

	if (object)
		*object = 0;
	return test_rm_vidmem(r, &bytes, object ? object : &unnamed);
}

static uint64_t info_mib(uint32_t index)
{
	uint64_t bytes = 0;

	CHECK_EQUAL(test_rm_fb_info(&rm, index, &bytes), NV_OK);
	return bytes / MIB;
}

static void open_driver(struct test_rm *r)
{
	CHECK_EQUAL(test_rm_open(r, 0), 0);
}

static void reap(pid_t pid, int want)
{
	int status;

	CHECK_EQUAL(waitpid(pid, &status, 0), pid);
	CHECK_EQUAL(status, want);
}

static void case_limit(void)
{
	uint32_t object;

	open_driver(&rm);
	CHECK_EQUAL(info_mib(FB_INFO_INDEX_TOTAL_RAM_SIZE), SLICE_MIB);
	CHECK_EQUAL(info_mib(FB_INFO_INDEX_HEAP_FREE), SLICE_MIB);
	CHECK_EQUAL(alloc_mib(&rm, 200, &object), NV_OK);
	CHECK_EQUAL(info_mib(FB_INFO_INDEX_HEAP_FREE), SLICE_MIB - 200);
	CHECK_EQUAL(alloc_mib(&rm, 58, NULL), NV_ERR_NO_MEMORY);
	CHECK_EQUAL(alloc_mib(&rm, 56, NULL), NV_OK);
	CHECK_EQUAL(alloc_mib(&rm, 2, NULL), NV_ERR_NO_MEMORY);
	CHECK_EQUAL(test_rm_free(&rm, rm.client, object), NV_OK);
	CHECK_EQUAL(info_mib(FB_INFO_INDEX_HEAP_FREE), 200);
	CHECK_EQUAL(alloc_mib(&rm, 200, NULL), NV_OK);
	CHECK_EQUAL(alloc_mib(&rm, 2, NULL), NV_ERR_NO_MEMORY);
	/* a parent takes all below it along */
	CHECK_EQUAL(test_rm_free(&rm, rm.client, rm.device), NV_OK);
	test_rm_close(&rm);
	open_driver(&rm);
	CHECK_EQUAL(alloc_mib(&rm, SLICE_MIB, NULL), NV_OK);
}

/* A child that holds memory until it is killed. Returns when it has it. */
static pid_t start_holder(uint64_t mib)
{
	int ready[2];
	char byte;
	pid_t pid;

	CHECK_EQUAL(pipe(ready), 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		struct test_rm mine;

		open_driver(&mine);
		CHECK_EQUAL(alloc_mib(&mine, mib, NULL), NV_OK);
		CHECK_EQUAL(write(ready[1], "x", 1), 1);
		for (;;)
			pause();
	}
	close(ready[1]);
	CHECK_EQUAL(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void kill_holder(pid_t pid)
{
	CHECK_EQUAL(kill(pid, SIGKILL), 0);
	reap(pid, SIGKILL);
}

/* The dead hold nothing. */
static void case_killed(void)
{
	pid_t pid;

	open_driver(&rm);
	pid = start_holder(200);
	CHECK_EQUAL(alloc_mib(&rm, 58, NULL), NV_ERR_NO_MEMORY);
	CHECK_EQUAL(info_mib(FB_INFO_INDEX_HEAP_FREE), SLICE_MIB - 200);
	kill_holder(pid);
	CHECK_EQUAL(alloc_mib(&rm, SLICE_MIB, NULL), NV_OK);
}

static void *take_and_give(void *arg)
{
	const int *out = arg;
	struct test_rm mine;
	uint32_t object;

	open_driver(&mine);
	for (int i = 0;; i++) {
		int r = alloc_mib(&mine, 2 + (uint64_t)(i % 5) * 2, &object);

		CHECK(r == NV_OK || r == NV_ERR_NO_MEMORY);
		if (r == NV_OK)
			CHECK_EQUAL(test_rm_free(&mine, mine.client, object), NV_OK);
		if (out && i % 10 == 9)
			CHECK_EQUAL(write(*out, "x", 1), 1);
	}
	return NULL;
}

/* Killed in the middle of calls, over and over. */
static void case_crashes(void)
{
	open_driver(&rm);
	for (int i = 0; i < 20; i++) {
		char byte;
		int ticks[2];
		pid_t pid;

		CHECK_EQUAL(pipe(ticks), 0);
		pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			pthread_t thread;

			signal(SIGPIPE, SIG_IGN);
			CHECK_EQUAL(pthread_create(&thread, NULL, take_and_give, NULL), 0);
			take_and_give(&ticks[1]);
		}
		for (int tick = 0; tick <= i % 3; tick++)
			CHECK_EQUAL(read(ticks[0], &byte, 1), 1);
		kill_holder(pid);
		close(ticks[0]);
		close(ticks[1]);
	}
	CHECK_EQUAL(alloc_mib(&rm, SLICE_MIB, NULL), NV_OK);
}

/* A forked child that goes on with its parent's files. */
static void case_inherited(void)
{
	uint32_t object;
	pid_t pid;

	open_driver(&rm);
	CHECK_EQUAL(alloc_mib(&rm, 200, &object), NV_OK);
	pid = fork();
	if (pid == 0) {
		CHECK_EQUAL(test_rm_free(&rm, rm.client, object), NV_OK);
		CHECK_EQUAL(alloc_mib(&rm, 100, NULL), NV_OK);
		_exit(0);
	}
	reap(pid, 0);
	/* what the child took hangs on our client, and lives on */
	CHECK_EQUAL(alloc_mib(&rm, 158, NULL), NV_ERR_NO_MEMORY);
	CHECK_EQUAL(alloc_mib(&rm, 156, NULL), NV_OK);
}

static void *take_until_full(void *arg)
{
	uintptr_t got = 0;

	(void)arg;
	while (alloc_mib(&rm, 2, NULL) == NV_OK)
		got += 2;
	return (void *)got;
}

/* Threads that race for the last byte. */
static void case_threads(void)
{
	pthread_t threads[8];
	uintptr_t sum = 0;

	open_driver(&rm);
	for (int i = 0; i < 8; i++)
		CHECK_EQUAL(pthread_create(&threads[i], NULL, take_until_full, NULL), 0);
	for (int i = 0; i < 8; i++) {
		void *got;

		CHECK_EQUAL(pthread_join(threads[i], &got), 0);
		sum += (uintptr_t)got;
	}
	CHECK_EQUAL(sum, SLICE_MIB);
}

/* So do processes. */
static void case_processes(void)
{
	int got[2];
	pid_t pids[6];
	uint64_t sum = 0;

	CHECK_EQUAL(pipe(got), 0);
	for (int i = 0; i < 6; i++) {
		pids[i] = fork();
		CHECK(pids[i] >= 0);
		if (pids[i] == 0) {
			uintptr_t mine;

			open_driver(&rm);
			mine = (uintptr_t)take_until_full(NULL);
			CHECK_EQUAL(write(got[1], &mine, sizeof(mine)), sizeof(mine));
			for (;;)
				pause();	/* what it has stays taken */
		}
	}
	for (int i = 0; i < 6; i++) {
		uintptr_t mine;

		CHECK_EQUAL(read(got[0], &mine, sizeof(mine)), sizeof(mine));
		sum += mine;
	}
	CHECK_EQUAL(sum, SLICE_MIB);
	for (int i = 0; i < 6; i++)
		kill_holder(pids[i]);
}

static bool has_pid(const uint32_t *pids, uint32_t count, pid_t pid)
{
	for (uint32_t i = 0; i < count; i++) {
		if (pids[i] == (uint32_t)pid)
			return true;
	}
	return false;
}

/* The processes shown are the slice's. */
static void case_pids(void)
{
	uint32_t pids[PIDS_MAX], count = PIDS_MAX;
	pid_t pid;

	open_driver(&rm);
	CHECK_EQUAL(alloc_mib(&rm, 2, NULL), NV_OK);
	pid = start_holder(2);
	CHECK_EQUAL(test_rm_pids(&rm, CLASS_MEMORY, pids, &count), NV_OK);
	CHECK(has_pid(pids, count, getpid()));
	CHECK(has_pid(pids, count, pid));
	CHECK_EQUAL(count, 2);
	kill_holder(pid);
	count = PIDS_MAX;
	CHECK_EQUAL(test_rm_pids(&rm, CLASS_MEMORY, pids, &count), NV_OK);
	CHECK(!has_pid(pids, count, pid));
}

static void case_managed(void)
{
	void *a, *b;

	open_driver(&rm);
	CHECK_EQUAL(test_uvm_open(&rm), 0);
	a = test_managed(&rm, 100 * MIB);
	CHECK(a);
	CHECK_EQUAL(info_mib(FB_INFO_INDEX_HEAP_FREE), SLICE_MIB - 100);
	CHECK(!test_managed(&rm, 158 * MIB));
	CHECK_EQUAL(errno, ENOMEM);
	b = test_managed(&rm, 156 * MIB);
	CHECK(b);
	CHECK_EQUAL(alloc_mib(&rm, 2, NULL), NV_ERR_NO_MEMORY);
	CHECK_EQUAL(munmap(a, 100 * MIB), 0);
	CHECK_EQUAL(alloc_mib(&rm, 100, NULL), NV_OK);
	CHECK_EQUAL(munmap(b, 156 * MIB), 0);
	CHECK_EQUAL(info_mib(FB_INFO_INDEX_HEAP_FREE), 156);
}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{ "limit", case_limit },
	{ "killed", case_killed },
	{ "crashes", case_crashes },
	{ "inherited", case_inherited },
	{ "threads", case_threads },
	{ "processes", case_processes },
	{ "pids", case_pids },
	{ "managed", case_managed },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc == 2 && i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (!strcmp(argv[1], cases[i].name)) {
			cases[i].run();
			return 0;
		}
	}
	fprintf(stderr, "usage: guest_memory CASE\n");
	return 2;
}
