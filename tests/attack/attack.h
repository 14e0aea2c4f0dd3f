/* SPDX-License-Identifier: Apache-2.0 */
/* What the attacks share: cases by name, ways to take as much memory as one gets. An attack checks that its
 * own steps worked as it needs them; whether it got more than its slice is judged by tests/attack/attack.py,
 * which asks the simulator. Builds with glibc and musl, dynamic and static. */
#ifndef FG_TESTS_ATTACK_H
#define FG_TESTS_ATTACK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lib/check.h"
#include "lib/test_rm.h"

#define MIB (UINT64_C(1) << 20)
#define LIMIT (1024 * MIB) /* of the slice, as attack.py makes it */
#define CHUNK (64 * MIB)
enum { TRIES = 40 }; /* chunks: well past the limit */

struct attack {
	const char *name;
	void (*run)(void);
};

/* Take chunks until one is refused. Returns the bytes. */
static inline uint64_t fill(struct test_rm *rm)
{
	uint64_t sum = 0;

	for (int i = 0; i < TRIES; i++) {
		uint64_t bytes = CHUNK;

		if (test_rm_vidmem(rm, &bytes, NULL) != NV_OK)
			break;
		sum += bytes;
	}
	return sum;
}

/* Give all back, and take the whole slice: nothing was lost, nothing was won. */
static inline void fill_anew(struct test_rm *rm)
{
	CHECK_EQUAL(test_rm_free(rm, rm->client, rm->client), NV_OK);
	test_rm_close(rm);
	CHECK_EQUAL(test_rm_open(rm, 0), NV_OK);
	CHECK_EQUAL(fill(rm), LIMIT);
}

static inline void say_bytes(const char *what, uint64_t bytes)
{
	printf("%s: %llu MiB\n", what, (unsigned long long)(bytes >> 20));
	fflush(stdout);
}

/* Let the simulator see the managed memory of this moment. */
static inline void look(void)
{
	char *state = test_sim_state();

	CHECK(state);
	free(state);
}

/* Attacks that can win for a moment stay as they are, and have to be found out. */
static inline void stay_if_over(void)
{
	unsigned long long used = 0, managed = 0;
	char *state = test_sim_state();
	const char *at;

	CHECK(state);
	at = strstr(state, "\"used\": ");
	CHECK(at && sscanf(at, "\"used\": %llu, \"managed\": %llu", &used, &managed) == 2);
	free(state);
	say_bytes("holds", used + managed);
	while (getenv("ATTACK_STAYS") && used + managed > LIMIT)
		pause();
}

/* A free place in the address space, as long as wanted. */
static inline uint64_t find_place(uint64_t length)
{
	void *place = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(place != MAP_FAILED);
	munmap(place, length);
	return (uint64_t)(uintptr_t)place;
}

static inline void open_all(struct test_rm *rm)
{
	CHECK_EQUAL(test_rm_open(rm, 0), NV_OK);
	CHECK_EQUAL(test_uvm_open(rm), NV_OK);
}

/* Wait for a child that must have ended well. */
static inline void reap(pid_t pid)
{
	int status;

	CHECK_EQUAL(waitpid(pid, &status, 0), pid);
	CHECK_EQUAL(status, 0);
}

static inline int attack_main(const struct attack *attacks, int argc, char **argv)
{
	for (const struct attack *a = attacks; argc >= 2 && a->name; a++) {
		if (!strcmp(a->name, argv[1])) {
			a->run();
			return 0;
		}
	}
	fprintf(stderr, "no such attack\n");
	return 2;
}

#endif
