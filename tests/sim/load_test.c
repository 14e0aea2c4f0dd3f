/* SPDX-License-Identifier: Apache-2.0 */
/* Many processes and threads at the simulator at once: nothing is lost, nothing waits for ever. Run under fracgpu-sim. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/check.h"
#include "lib/test_rm.h"

enum { PROCESSES = 6, THREADS = 6, ROUNDS = 60 };
#define MIB (1ull << 20)

static uint64_t free_bytes(struct test_rm *rm)
{
	uint64_t bytes = 0;

	CHECK_EQUAL(test_rm_fb_info(rm, FB_INFO_INDEX_HEAP_FREE, &bytes), NV_OK);
	return bytes;
}

/* Each round does a bit of everything; REGISTER_FD and exports make the server ask its own files. */
static void *run(void *arg)
{
	struct test_rm *shared = arg;

	for (int i = 0; i < ROUNDS; i++) {
		struct test_rm own;
		uint64_t bytes = MIB, more = MIB;
		uint32_t object = 0, exported = 0, imported = 0;
		int fd = open("/dev/nvidiactl", O_RDWR | O_CLOEXEC);

		CHECK(fd >= 0);
		CHECK_EQUAL(test_rm_open(&own, 0), NV_OK);
		CHECK_EQUAL(test_rm_vidmem(shared, &bytes, &object), NV_OK);
		CHECK_EQUAL(test_rm_vidmem(&own, &more, &exported), NV_OK);
		CHECK_EQUAL(test_rm_export(&own, exported, fd), NV_OK);
		CHECK_EQUAL(test_rm_import(&own, fd, &imported), NV_OK);
		CHECK(free_bytes(&own) > 0);
		CHECK_EQUAL(test_rm_free(shared, shared->client, object), NV_OK);
		/* in half of the rounds closing has to do it */
		if (i % 2)
			CHECK_EQUAL(test_rm_free(&own, own.client, own.client), NV_OK);
		close(fd);
		test_rm_close(&own);
	}
	return NULL;
}

/* Maps and unmaps managed memory while others make the server look at our mappings. */
static void *churn(void *arg)
{
	struct test_rm *shared = arg;

	for (int i = 0; i < ROUNDS; i++) {
		volatile char *managed = test_managed(shared, 2 * MIB);

		CHECK(managed);
		managed[0] = 1;
		managed[MIB] = 2;
		CHECK_EQUAL(munmap((void *)managed, 2 * MIB), 0);
	}
	return NULL;
}

static void child(void)
{
	pthread_t threads[THREADS + 1];
	struct test_rm shared;

	CHECK_EQUAL(test_rm_open(&shared, 0), NV_OK);
	CHECK_EQUAL(test_uvm_open(&shared), NV_OK);
	for (int i = 0; i <= THREADS; i++)
		CHECK_EQUAL(pthread_create(&threads[i], NULL, i == THREADS ? churn : run, &shared), 0);
	for (int i = 0; i <= THREADS; i++)
		CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
	_exit(0);
}

int main(void)
{
	struct test_rm rm;
	uint64_t before;

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	before = free_bytes(&rm);
	for (int i = 0; i < PROCESSES; i++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (pid == 0)
			child();
	}
	for (int i = 0; i < PROCESSES; i++) {
		int status;

		CHECK(wait(&status) > 0);
		CHECK_EQUAL(status, 0);
	}
	CHECK_EQUAL(free_bytes(&rm), before);
	test_rm_close(&rm);
	return 0;
}
