/* SPDX-License-Identifier: Apache-2.0 */
/* src/ledger under kill -9: processes that book and drop all the time are killed at random moments, many of them while
 * they have the lock. Afterwards the account is whole, and nothing is held for the dead. */
#include "ledger/ledger.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define SECOND_NS UINT64_C(1000000000)

enum {
	PROCESSES = 32,
	KILLS = 1000,
	KILLS_FAST = 100,	/* FRACGPU_TEST_FAST: under sanitizers and valgrind */
	OBJECTS = 24,		/* handles that a process uses */
	LONGEST_WAIT_S = 20,	/* for the lock, on the slowest machine that tests run on */
	SLOT_MASK = 0x7ff,	/* of the lock word, src/ledger/lock.c */
};

static char path[64];
static struct ledger_handle h;

/* What the processes report. */
static struct report {
	uint64_t longest_wait_ns;
	uint64_t rounds;
	uint32_t broken;	/* an account that was not whole under the lock */
} *report;

static const struct ledger_gpu gpus[2] = { { .index = 0 }, { .index = 1 } };
static const uint64_t limits[2] = { 64 * MIB, 32 * MIB };

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static void keep_longest(uint64_t waited)
{
	uint64_t seen = __atomic_load_n(&report->longest_wait_ns, __ATOMIC_RELAXED);

	while (waited > seen && !__atomic_compare_exchange_n(&report->longest_wait_ns, &seen, waited, false,
							     __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static void one_step(struct account *a, uint16_t slot, unsigned int *seed)
{
	const uint32_t client = 0xc1d00000u + slot;
	uint32_t handle = 1 + (uint32_t)rand_r(seed) % OBJECTS;
	struct hold hold = { .owner = slot, .client = client, .handle = handle, .parent = 1000 };
	uint64_t address = (uint64_t)handle << 24;
	uint64_t bytes;

	switch (rand_r(seed) % 8) {
	case 0:
		hold = (struct hold){ .kind = HOLD_DEVICE, .owner = slot, .client = client, .handle = 1000, .parent = client };
		account_hold(a, &hold);		/* drops all below an old one */
		break;
	case 1:
	case 2:
		account_drop(a, client, handle);
		break;
	case 3:
		account_unmap(a, HOLD_MANAGED, slot, address + KIB * (unsigned int)rand_r(seed) % MIB, 256 * KIB);
		break;
	case 4:
		hold = (struct hold){ .kind = HOLD_MANAGED, .owner = slot, .address = address, .length = MIB };
		account_unmap(a, HOLD_MANAGED, slot, address, MIB);
		if (account_charge(a, 3, MIB, &hold.charge) == 0)
			account_hold(a, &hold);
		break;
	case 5:
		hold = (struct hold){ .kind = HOLD_EXPORT, .owner = slot, .address = ++a->serial };
		if (a->serial % 64 == 0 && account_charge(a, 1, KIB, &hold.charge) == 0)
			account_hold(a, &hold);
		break;
	default:
		hold.kind = HOLD_MEMORY;
		bytes = (uint64_t)rand_r(seed) % MIB;
		if (account_charge(a, 1, bytes, &hold.charge) == 0) {
			/* downwards: check_living() wants no sum above its limit */
			account_settle(a, hold.charge, bytes / 2);
			account_hold(a, &hold);
		}
		break;
	}
}

static void process(unsigned int seed)
{
	struct ledger_handle mine;
	sigset_t saved;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (ledger_open(&mine, path, true) < 0)
		_exit(3);
	for (uint64_t round = 0;; round++) {
		uint64_t start = now_ns();

		if (ledger_attach(&mine) < 0)
			_exit(4);
		ledger_lock(&mine, &saved);
		keep_longest(now_ns() - start);
		if (round % 512 == 0 && account_check(&mine.ledger->account) < 0)
			__atomic_store_n(&report->broken, 1, __ATOMIC_RELAXED);
		one_step(&mine.ledger->account, (uint16_t)mine.slot, &seed);
		ledger_unlock(&mine, &saved);
		__atomic_fetch_add(&report->rounds, 1, __ATOMIC_RELAXED);
	}
}

static pid_t start(unsigned int seed)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid)
		process(seed);
	return pid;
}

/* The process that has the lock now, as often as not; else any. */
static int choose(const pid_t *pids, unsigned int *seed)
{
	uint32_t holder = (__atomic_load_n(&h.ledger->lock, __ATOMIC_RELAXED) & SLOT_MASK) - 1;

	if (rand_r(seed) % 2 && holder < LEDGER_SLOTS) {
		for (int i = 0; i < PROCESSES; i++) {
			if (pids[i] == __atomic_load_n(&h.ledger->slots[holder].pid, __ATOMIC_RELAXED))
				return i;
		}
	}
	return rand_r(seed) % PROCESSES;
}

static uint64_t sum_of_owners(uint32_t gpu)
{
	const struct account *a = &h.ledger->account;
	uint64_t sum = account_owner_bytes(a, ACCOUNT_NO_OWNER, gpu);

	for (uint16_t slot = 0; slot < LEDGER_SLOTS; slot++) {
		if (h.ledger->slots[slot].state == SLOT_LIVE)
			sum += account_owner_bytes(a, slot, gpu);
	}
	return sum;
}

/* With everybody alive: the sums are what the living and the dead's exports hold. */
static void check_living(void)
{
	sigset_t saved;

	ledger_lock(&h, &saved);
	ledger_reap(&h);
	assert_int_equal(account_check(&h.ledger->account), 0);
	assert_true(h.ledger->account.used_bytes[0] <= limits[0]);
	assert_true(h.ledger->account.used_bytes[1] <= limits[1]);
	assert_int_equal(h.ledger->account.used_bytes[0], sum_of_owners(0));
	assert_int_equal(h.ledger->account.used_bytes[1], sum_of_owners(1));
	ledger_unlock(&h, &saved);
}

static void wait_for_rounds(uint64_t rounds)
{
	uint64_t until = __atomic_load_n(&report->rounds, __ATOMIC_RELAXED) + rounds;

	while (__atomic_load_n(&report->rounds, __ATOMIC_RELAXED) < until)
		sched_yield();
}

static void test_storm(void **state)
{
	const int kills = getenv("FRACGPU_TEST_FAST") ? KILLS_FAST : KILLS;
	pid_t pids[PROCESSES];
	unsigned int seed = 42;
	sigset_t saved;

	for (int i = 0; i < PROCESSES; i++)
		pids[i] = start((unsigned int)i);
	for (int i = 0; i < kills; i++) {
		int victim;
		int status;

		wait_for_rounds((uint64_t)rand_r(&seed) % 20);
		victim = choose(pids, &seed);
		kill(pids[victim], SIGKILL);
		assert_int_equal(waitpid(pids[victim], &status, 0), pids[victim]);
		assert_true(WIFSIGNALED(status));
		pids[victim] = start((unsigned int)(1000 + i));
		if (i % 50 == 49)
			check_living();
	}
	for (int i = 0; i < PROCESSES; i++) {
		kill(pids[i], SIGKILL);
		assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
	}
	ledger_lock(&h, &saved);
	ledger_reap(&h);
	ledger_unlock(&h, &saved);
	assert_int_equal(account_check(&h.ledger->account), 0);
	assert_int_equal(h.ledger->account.used_bytes[0], 0);
	assert_int_equal(h.ledger->account.used_bytes[1], 0);
	assert_int_equal(h.ledger->account.hold_count, 0);
	assert_int_equal(h.ledger->lock, 0);
	for (int slot = 0; slot < LEDGER_SLOTS; slot++)
		assert_int_equal(h.ledger->slots[slot].state, SLOT_FREE);
	assert_int_equal(report->broken, 0);
	print_message("%d kills, %llu repairs, %llu rounds, longest wait %llu us\n", kills,
		      (unsigned long long)h.ledger->events[LEDGER_REPAIR], (unsigned long long)report->rounds,
		      (unsigned long long)report->longest_wait_ns / 1000);
	/* else the test has tested nothing */
	assert_true(h.ledger->events[LEDGER_REPAIR] > (uint64_t)kills / 50);
	assert_true(report->longest_wait_ns < LONGEST_WAIT_S * SECOND_NS);
}

static int setup(void **state)
{
	const struct ledger_settings settings = {
		.name = "storm", .door = "preload", .driver = "580.142", .gpu_count = 2, .gpus = gpus, .limits = limits,
	};
	struct error err;
	int fd;

	snprintf(path, sizeof(path), "/tmp/fracgpu-storm.XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	unlink(path);
	if (ledger_create(&h, path, &settings, &err) < 0)
		fail_msg("%s", err.text);
	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(report != MAP_FAILED);
	return 0;
}

static int teardown(void **state)
{
	ledger_close(&h);
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_storm, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
