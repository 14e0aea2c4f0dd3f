/* SPDX-License-Identifier: Apache-2.0 */
/* policy/account.c: who holds what. */
#include "policy/account.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)

enum { OWNER = 3, OTHER = 4, CLIENT = 0xc1d00001, CLIENT2 = 0xc1d00002 };

#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define IS_SLOWED true
#endif
#elif defined(__SANITIZE_THREAD__)
#define IS_SLOWED true
#endif
#ifndef IS_SLOWED
#define IS_SLOWED false
#endif

static struct account *a;	/* the one under test, made anew for each */

static struct account *map_account(void)
{
	void *p = mmap(NULL, sizeof(struct account), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(p != MAP_FAILED);
	return p;
}

static int setup(void **state)
{
	const uint64_t limits[] = { 100 * MIB, 50 * MIB, 0 };

	a = map_account();
	assert_int_equal(account_init(a, 3, limits), 0);
	return 0;
}

static int teardown(void **state)
{
	munmap(a, sizeof(*a));
	return 0;
}

static void assert_whole(uint64_t used0, uint64_t used1)
{
	assert_int_equal(account_check(a), 0);
	assert_int_equal(a->used_bytes[0], used0);
	assert_int_equal(a->used_bytes[1], used1);
}

static int object(enum hold_kind kind, uint32_t client, uint32_t handle, uint32_t parent, uint32_t charge)
{
	struct hold hold = {
		.kind = kind, .owner = OWNER, .client = client, .handle = handle, .parent = parent, .charge = charge,
	};

	return account_hold(a, &hold);
}

static uint32_t charge(uint32_t gpu_mask, uint64_t bytes)
{
	uint32_t charge = 0;

	assert_int_equal(account_charge(a, gpu_mask, bytes, &charge), 0);
	assert_int_not_equal(charge, 0);
	return charge;
}

static void memory(uint32_t client, uint32_t handle, uint32_t parent, uint64_t bytes)
{
	assert_int_equal(object(HOLD_MEMORY, client, handle, parent, charge(1, bytes)), 0);
}

static int range(enum hold_kind kind, uint16_t owner, uint64_t address, uint64_t length, uint32_t charge)
{
	struct hold hold = {
		.kind = kind, .owner = owner, .charge = charge, .address = address, .length = length,
	};

	return account_hold(a, &hold);
}

/* client -> device 1 -> { subdevice 2 -> memory 12, memory 11, group 3 -> channel 4 } */
static void tree(uint32_t client)
{
	object(HOLD_CLIENT, client, client, 0, 0);
	object(HOLD_DEVICE, client, 1, client, 0);
	object(HOLD_SUBDEVICE, client, 2, 1, 0);
	object(HOLD_GROUP, client, 3, 1, 0);
	object(HOLD_CHANNEL, client, 4, 3, 0);
	memory(client, 11, 1, 10 * MIB);
	memory(client, 12, 2, 5 * MIB);
}

static void test_init(void **state)
{
	const uint64_t limits[ACCOUNT_GPUS + 1] = { 0 };

	assert_int_equal(account_init(a, 0, limits), -EINVAL);
	assert_int_equal(account_init(a, ACCOUNT_GPUS + 1, limits), -EINVAL);
	assert_whole(0, 0);
}

static void test_charge(void **state)
{
	uint32_t kept = charge(1, 60 * MIB);
	uint32_t c = 77;

	assert_int_equal(account_charge(a, 1, 40 * MIB + 1, &c), -EDQUOT);
	assert_int_equal(a->refusals[0], 1);
	assert_int_equal(account_charge(a, 3, 41 * MIB, &c), -EDQUOT);	/* would fit on GPU 1 alone */
	assert_int_equal(account_charge(a, 2, 51 * MIB, &c), -EDQUOT);
	assert_int_equal(account_charge(a, 4, 0, &c), -EDQUOT);		/* not the slice's */
	assert_int_equal(account_charge(a, 1u << ACCOUNT_GPUS, 1, &c), -EDQUOT);
	assert_int_equal(account_charge(a, 0, 1, &c), -EDQUOT);
	assert_int_equal(account_charge(a, 1, UINT64_MAX, &c), -EOVERFLOW);
	assert_int_equal(c, 77);
	assert_whole(60 * MIB, 0);
	c = charge(3, 40 * MIB);
	assert_whole(100 * MIB, 40 * MIB);
	account_uncharge(a, c);
	assert_whole(60 * MIB, 0);
	account_uncharge(a, c);		/* twice is once */
	account_uncharge(a, 0);
	account_uncharge(a, ACCOUNT_CHARGES + 1);
	assert_int_equal(object(HOLD_MEMORY, CLIENT, 1, 0, kept), 0);
	account_uncharge(a, kept);	/* held: stays */
	assert_whole(60 * MIB, 0);
	assert_int_equal(a->peak_bytes[0], 100 * MIB);
	assert_int_equal(a->peak_bytes[1], 40 * MIB);
}

static void test_settle(void **state)
{
	uint32_t c = charge(1, 99 * MIB);

	account_settle(a, c, 101 * MIB);	/* the driver rounded up: over the limit, but there */
	assert_whole(101 * MIB, 0);
	assert_int_equal(a->peak_bytes[0], 101 * MIB);
	account_settle(a, c, MIB);
	assert_whole(MIB, 0);
	account_settle(a, c + 1, 5 * MIB);	/* no such charge */
	account_settle(a, 0, 5 * MIB);
	assert_whole(MIB, 0);
}

/* The last hold gives back, whichever it is. */
static void test_last_hold(void **state)
{
	uint32_t c = charge(1, 7 * MIB);

	object(HOLD_CLIENT, CLIENT, CLIENT, 0, 0);
	object(HOLD_CLIENT, CLIENT2, CLIENT2, 0, 0);
	assert_int_equal(object(HOLD_MEMORY, CLIENT, 10, CLIENT, c), 0);
	assert_int_equal(object(HOLD_MEMORY, CLIENT2, 10, CLIENT2, c), 0);
	assert_int_equal(range(HOLD_MAPPING, OWNER, 0x7000, 4096, c), 0);
	assert_whole(7 * MIB, 0);
	assert_int_equal(account_drop(a, CLIENT, 10), 1);
	assert_int_equal(account_drop(a, CLIENT, 10), 0);	/* the driver says OK to that, it means nothing */
	assert_int_equal(account_drop(a, CLIENT2, CLIENT2), 2);
	assert_whole(7 * MIB, 0);
	assert_null(account_find(a, CLIENT2, 10));
	account_unmap(a, HOLD_MAPPING, OTHER, 0x7000, 4096);	/* somebody else's addresses */
	assert_whole(7 * MIB, 0);
	account_unmap(a, HOLD_MAPPING, OWNER, 0x7000, 4096);
	assert_whole(0, 0);
	assert_int_equal(a->hold_count, 1);
}

static void test_find(void **state)
{
	tree(CLIENT);
	assert_int_equal(account_find(a, CLIENT, 11)->kind, HOLD_MEMORY);
	assert_null(account_find(a, CLIENT2, 11));
	assert_null(account_find(a, CLIENT, 99));
	range(HOLD_MANAGED, OWNER, 0x1000, 4096, 0);
	range(HOLD_RANGE, OWNER, 0x1000, 4096, 0);
	assert_int_equal(account_find_range(a, HOLD_MANAGED, OWNER, 0x1000)->kind, HOLD_MANAGED);
	assert_int_equal(account_find_range(a, HOLD_RANGE, OWNER, 0x1000)->kind, HOLD_RANGE);
	assert_null(account_find_range(a, HOLD_MAPPING, OWNER, 0x1000));
	assert_null(account_find_range(a, HOLD_MANAGED, OTHER, 0x1000));
	assert_null(account_find_range(a, HOLD_MANAGED, OWNER, 0x2000));
}

static void test_subtrees(void **state)
{
	tree(CLIENT);
	tree(CLIENT2);
	assert_whole(30 * MIB, 0);
	assert_int_equal(account_drop(a, CLIENT, 3), 2);
	assert_null(account_find(a, CLIENT, 4));
	assert_int_equal(account_drop(a, CLIENT, 2), 2);
	assert_whole(25 * MIB, 0);
	assert_int_equal(account_drop(a, CLIENT, 1), 2);
	assert_whole(15 * MIB, 0);
	assert_non_null(account_find(a, CLIENT, CLIENT));
	assert_int_equal(account_drop(a, CLIENT2, 1), 6);
	assert_whole(0, 0);
	tree(CLIENT2);
	memory(CLIENT2, 99, 0x12345, MIB);	/* below something we do not know: of this client all the same */
	assert_int_equal(account_drop(a, CLIENT2, CLIENT2), 8);
	assert_whole(0, 0);
	assert_int_equal(a->hold_count, 1);
}

/* A handle given anew: the old object, and what hung below it, is gone. */
static void test_handle_again(void **state)
{
	uint32_t c;

	tree(CLIENT);
	assert_int_equal(object(HOLD_DEVICE, CLIENT, 1, CLIENT, 0), 0);
	assert_whole(0, 0);
	assert_int_equal(a->hold_count, 2);
	c = charge(1, MIB);
	object(HOLD_MEMORY, CLIENT, 50, 1, c);
	object(HOLD_MEMORY, CLIENT, 50, 1, c);	/* a dup onto itself keeps its charge */
	assert_whole(MIB, 0);
	assert_int_equal(a->charges[c - 1].holds, 1);
	range(HOLD_MAPPING, OWNER, 0x1000, 4096, c);
	range(HOLD_MAPPING, OWNER, 0x1000, 8192, charge(1, 2 * MIB));
	assert_whole(3 * MIB, 0);
	account_drop(a, CLIENT, 50);
	assert_whole(2 * MIB, 0);
}

/* Lines of parents that the driver would never make. */
static void test_deep(void **state)
{
	enum { DEPTH = 1000 };

	/* made from the leaf up, so that table order is the bad one */
	memory(CLIENT, DEPTH, DEPTH - 1, MIB);
	for (uint32_t i = DEPTH - 1; i > 0; i--)
		object(i % 2 ? HOLD_DEVICE : HOLD_SUBDEVICE, CLIENT, i, i == 1 ? CLIENT : i - 1, 0);
	assert_int_equal(account_drop(a, CLIENT, 1), DEPTH);
	assert_whole(0, 0);
	/* a ring hangs below nothing, and ends nowhere */
	object(HOLD_DEVICE, CLIENT, 1, 3, 0);
	object(HOLD_DEVICE, CLIENT, 2, 1, 0);
	object(HOLD_DEVICE, CLIENT, 3, 2, 0);
	object(HOLD_DEVICE, CLIENT, 7, 7, 0);
	object(HOLD_DEVICE, CLIENT, 8, CLIENT, 0);
	assert_int_equal(account_drop(a, CLIENT, 8), 1);
	assert_int_equal(account_drop(a, CLIENT, 7), 1);
	assert_int_equal(account_drop(a, CLIENT, 2), 3);
	assert_whole(0, 0);
	assert_int_equal(a->hold_count, 0);
}

/* Managed memory [0x10000, 0x20000) with a charge on two GPUs, cut in all ways. */
static void test_unmap(void **state)
{
	static const struct {
		uint64_t address, length;
		uint64_t left;		/* bytes */
		uint32_t holds;
	} cases[] = {
		{ 0x10000, 0x10000, 0, 0 },
		{ 0x0, 0x100000, 0, 0 },
		{ 0x0, UINT64_MAX, 0, 0 },
		{ 0x10000, UINT64_MAX, 0, 0 },
		{ 0x10000, 0x4000, 0xc000, 1 },
		{ 0xf000, 0x5000, 0xc000, 1 },
		{ 0x1c000, 0x4000, 0xc000, 1 },
		{ 0x1c000, 0x40000, 0xc000, 1 },
		{ 0x14000, 0x4000, 0xc000, 2 },
		{ 0x0, 0x10000, 0x10000, 1 },
		{ 0x20000, 0x10000, 0x10000, 1 },
		{ 0x14000, 0, 0x10000, 1 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		range(HOLD_MANAGED, OWNER, 0x10000, 0x10000, charge(3, 0x10000));
		account_unmap(a, HOLD_MAPPING, OWNER, cases[i].address, cases[i].length);
		account_unmap(a, HOLD_MANAGED, OTHER, cases[i].address, cases[i].length);
		assert_whole(0x10000, 0x10000);
		account_unmap(a, HOLD_MANAGED, OWNER, cases[i].address, cases[i].length);
		if (a->used_bytes[0] != cases[i].left || a->hold_count != cases[i].holds)
			fail_msg("case %zu: %llu bytes, %u holds", i, (unsigned long long)a->used_bytes[0],
				 a->hold_count);
		assert_whole(cases[i].left, cases[i].left);
		/* the rest is where it should be: unmapping the same again takes nothing, unmapping all takes all */
		account_unmap(a, HOLD_MANAGED, OWNER, cases[i].address, cases[i].length);
		assert_whole(cases[i].left, cases[i].left);
		account_unmap(a, HOLD_MANAGED, OWNER, 0x10000, 0x10000);
		assert_whole(0, 0);
		assert_int_equal(a->hold_count, 0);
	}
}

static void test_unmap_mappings(void **state)
{
	for (uint64_t i = 0; i < 4; i++)
		range(HOLD_MAPPING, OWNER, 0x10000 + i * 0x1000, 0x1000, charge(1, MIB));
	range(HOLD_MANAGED, OWNER, UINT64_MAX - 10, 0x1000, charge(1, MIB));	/* a range that wraps */
	account_unmap(a, HOLD_MAPPING, OWNER, 0x10800, 0x800);	/* the end of the first */
	assert_whole(5 * MIB, 0);
	account_unmap(a, HOLD_MAPPING, OWNER, 0x10400, 0x1000);	/* the rest of its end, the start of the second */
	assert_whole(5 * MIB, 0);
	account_unmap(a, HOLD_MAPPING, OWNER, 0x10200, 0x100);	/* out of the middle of what is left: two pieces */
	assert_whole(5 * MIB, 0);
	account_unmap(a, HOLD_MAPPING, OWNER, 0x10000, 0x200);
	assert_whole(5 * MIB, 0);
	account_unmap(a, HOLD_MAPPING, OWNER, 0x10300, 0x100);	/* the last piece of the first */
	assert_whole(4 * MIB, 0);
	account_unmap(a, HOLD_MAPPING, OWNER, 0, UINT64_MAX);
	assert_whole(MIB, 0);
	account_unmap(a, HOLD_MANAGED, OWNER, 0, UINT64_MAX);
	assert_whole(0, 0);
}

/* No room for the upper end: the range stays whole, nothing is counted too low. */
static void test_split_when_full(void **state)
{
	uint32_t last = 0;

	range(HOLD_MANAGED, OWNER, 0x10000, 0x10000, charge(1, 0x10000));
	for (uint32_t i = 0; i < ACCOUNT_HOLDS - 1; i++)
		assert_int_equal(object(HOLD_CHANNEL, CLIENT, last = i + 1, 0, 0), 0);
	assert_int_equal(object(HOLD_CHANNEL, CLIENT, last + 1, 0, 0), -ENOSPC);
	account_unmap(a, HOLD_MANAGED, OWNER, 0x14000, 0x1000);
	assert_whole(0x10000, 0);
	assert_int_equal(account_find_range(a, HOLD_MANAGED, OWNER, 0x10000)->length, 0x10000);
	account_drop(a, CLIENT, 1);
	account_unmap(a, HOLD_MANAGED, OWNER, 0x14000, 0x1000);
	assert_whole(0xf000, 0);
}

static void test_owner(void **state)
{
	uint32_t c = charge(1, 3 * MIB);
	struct hold export = { .kind = HOLD_EXPORT, .owner = OWNER, .charge = c, .address = 1 };
	struct hold theirs = { .kind = HOLD_MEMORY, .owner = OTHER, .client = CLIENT2, .handle = 5, .charge = c };

	tree(CLIENT);
	account_hold(a, &export);
	account_hold(a, &theirs);
	range(HOLD_MANAGED, OWNER, 0x10000, MIB, charge(3, MIB));
	assert_int_equal(account_owner_bytes(a, OWNER, 0), 19 * MIB);
	assert_int_equal(account_owner_bytes(a, OWNER, 1), MIB);
	assert_int_equal(account_owner_bytes(a, OTHER, 0), 3 * MIB);
	assert_int_equal(account_owner_bytes(a, OWNER, ACCOUNT_GPUS), 0);
	/* held twice by one: counts once */
	theirs.handle = 6;
	account_hold(a, &theirs);
	assert_int_equal(account_owner_bytes(a, OTHER, 0), 3 * MIB);
	account_drop_owner(a, OTHER);
	assert_whole(19 * MIB, MIB);
	account_drop_owner(a, OWNER);
	assert_whole(3 * MIB, 0);		/* the export outlives its maker */
	assert_int_equal(a->hold_count, 1);
	assert_int_equal(account_owner_bytes(a, OWNER, 0), 0);
	assert_non_null(account_find_range(a, HOLD_EXPORT, ACCOUNT_NO_OWNER, 1));
	account_drop_orphans(a);
	assert_whole(0, 0);
}

static int count_until(struct hold *hold, void *arg)
{
	int *left = arg;

	assert_int_equal(hold->kind, HOLD_MEMORY);
	return --*left ? 0 : 42;
}

static void test_each(void **state)
{
	int left = 100;

	tree(CLIENT);
	assert_int_equal(account_each(a, HOLD_MEMORY, count_until, &left), 0);
	assert_int_equal(left, 98);
	left = 1;
	assert_int_equal(account_each(a, HOLD_MEMORY, count_until, &left), 42);
}

static void test_full(void **state)
{
	uint32_t c;

	for (uint32_t i = 0; i < ACCOUNT_CHARGES; i++)
		assert_int_equal(account_charge(a, 1, 1, &c), 0);
	assert_int_equal(account_charge(a, 1, 1, &c), -ENOSPC);
	assert_whole(ACCOUNT_CHARGES, 0);
	for (uint32_t i = 1; i <= ACCOUNT_HOLDS; i++)
		assert_int_equal(object(HOLD_MEMORY, CLIENT, i, 0, i), 0);
	assert_int_equal(object(HOLD_MEMORY, CLIENT2, 1, 0, 1), -ENOSPC);
	assert_int_equal(a->charges[0].holds, 1);
	assert_int_equal(object(HOLD_MEMORY, CLIENT, 5, 0, 5), 0);	/* the same handle anew needs no room */
	assert_whole(ACCOUNT_CHARGES, 0);
	/* Nearly full for many rounds: an entry is found without a search. */
	for (uint32_t i = 1; i <= 1000000; i++) {
		uint32_t handle = 1 + i % ACCOUNT_HOLDS;

		assert_int_equal(account_drop(a, CLIENT, handle), 1);
		assert_int_equal(account_charge(a, 1, 1, &c), 0);
		assert_int_equal(object(HOLD_MEMORY, CLIENT, handle, 0, c), 0);
	}
	assert_whole(ACCOUNT_CHARGES, 0);
	account_drop_owner(a, OWNER);
	assert_whole(0, 0);
}

/* --- repair --- */

static void test_repair_keeps(void **state)
{
	uint32_t lost;

	tree(CLIENT);
	range(HOLD_MANAGED, OWNER, 0x10000, MIB, charge(3, MIB));
	lost = charge(1, 2 * MIB);	/* its maker died before the hold */
	assert_whole(18 * MIB, MIB);
	account_repair(a);
	assert_whole(16 * MIB, MIB);
	assert_int_equal(charge(1, 1), lost);
	account_uncharge(a, lost);
	assert_int_equal(account_drop(a, CLIENT, CLIENT), 7);
	assert_whole(MIB, MIB);
}

/* Derived parts in any state, and bytes that nobody wrote. */
static void test_repair_garbage(void **state)
{
	unsigned int seed = 1;

	for (int round = 0; round < 20; round++) {
		tree(CLIENT + (uint32_t)round);
		for (size_t i = 0; i < sizeof(a->hash) / sizeof(a->hash[0]); i++)
			a->hash[i] = (uint32_t)rand_r(&seed);
		a->hold_count = a->hold_free = a->charge_free = (uint32_t)rand_r(&seed);
		a->used_bytes[0] = 1;
		for (uint32_t i = 0; i < a->hold_high; i++)
			a->holds[i].next = (uint32_t)rand_r(&seed);
		a->range_root = (uint32_t)rand_r(&seed);
		for (uint32_t i = 0; i < a->charge_high; i++)
			a->charges[i].holds = (uint32_t)rand_r(&seed);
		account_repair(a);
		assert_whole(15 * MIB, 0);
		assert_int_equal(account_drop(a, CLIENT + (uint32_t)round, CLIENT + (uint32_t)round), 7);
		assert_whole(0, 0);
	}
	for (int round = 0; round < 20; round++) {
		uint32_t *words = (uint32_t *)(void *)a->holds;

		for (size_t i = 0; i < 1000 * sizeof(struct hold) / 4; i++)
			words[i] = (uint32_t)rand_r(&seed) >> (rand_r(&seed) % 32);
		for (uint32_t i = 0; i < 1000; i++)
			a->charges[i] = (struct charge){ (uint64_t)rand_r(&seed), (uint32_t)rand_r(&seed), 9 };
		a->hold_high = round % 2 ? 1000 : UINT32_MAX;
		a->charge_high = round % 2 ? 1000 : UINT32_MAX;
		account_repair(a);
		assert_int_equal(account_check(a), 0);
		for (uint32_t owner = 0; owner < 0x10000; owner += 0x111)
			account_drop_owner(a, (uint16_t)owner);
		assert_int_equal(account_check(a), 0);
	}
}

/* A script of everything that changes an account, one step a call. Returns false after the last. */
static bool script(int step)
{
	switch (step) {
	case 0:
		object(HOLD_CLIENT, CLIENT, CLIENT, 0, 0);
		return true;
	case 1:
		object(HOLD_DEVICE, CLIENT, 1, CLIENT, 0);
		return true;
	case 2:
		memory(CLIENT, 2, 1, 3 * MIB);
		return true;
	case 3:
		range(HOLD_MANAGED, OWNER, 0x10000, 0x10000, charge(3, 0x10000));
		return true;
	case 4:
		range(HOLD_MAPPING, OWNER, 0x90000, 0x1000, account_find(a, CLIENT, 2)->charge);
		return true;
	case 5:
		memory(CLIENT, 3, 1, MIB);
		return true;
	case 6:
		account_settle(a, account_find(a, CLIENT, 3)->charge, 2 * MIB);
		return true;
	case 7:
		account_unmap(a, HOLD_MANAGED, OWNER, 0x10000, 0x1000);
		return true;
	case 8:
		account_unmap(a, HOLD_MANAGED, OWNER, 0x1f000, 0x1000);
		return true;
	case 9:
		memory(CLIENT, 3, 1, MIB);	/* the handle anew */
		return true;
	case 10:
		account_drop(a, CLIENT, 3);
		return true;
	case 11:
		account_drop(a, CLIENT, 1);
		return true;
	case 12:
		account_unmap(a, HOLD_MAPPING, OWNER, 0x90000, 0x1000);
		return true;
	case 13:
		memory(CLIENT, 2, 1, 3 * MIB);
		return true;
	case 14:
		account_drop_owner(a, OWNER);
		return true;
	default:
		return false;
	}
}

enum { STEPS = 15 };

/* Whether a hold is one that the script makes, with all its fields. */
static bool is_of_script(const struct hold *h)
{
	if (h->owner != OWNER)
		return false;
	switch (h->kind) {
	case HOLD_CLIENT:
		return h->client == CLIENT && h->handle == CLIENT && !h->charge;
	case HOLD_DEVICE:
		return h->client == CLIENT && h->handle == 1 && h->parent == CLIENT && !h->charge;
	case HOLD_MEMORY:
		return h->client == CLIENT && (h->handle == 2 || h->handle == 3) && h->parent == 1 && h->charge;
	case HOLD_MAPPING:
		return h->address == 0x90000 && h->length == 0x1000 && h->charge;
	case HOLD_MANAGED:	/* cut in two stores: the start may be new while the length is old */
		return h->address >= 0x10000 && h->address + h->length <= 0x21000 && h->charge;
	default:
		return false;
	}
}

/* What the next process would find if the traced one were dead now. */
static void check_corpse(const struct account *corpse, struct account *copy, const uint64_t used[STEPS + 1], int step)
{
	const uint64_t least = used[step] < used[step + 1] ? used[step] : used[step + 1];
	const uint64_t most = used[step] > used[step + 1] ? used[step] : used[step + 1];

	memcpy(copy, corpse, offsetof(struct account, charges));
	memcpy(copy->charges, corpse->charges, 64 * sizeof(struct charge));
	memcpy(copy->holds, corpse->holds, 64 * sizeof(struct hold));
	account_repair(copy);
	if (account_check(copy) < 0)
		fail_msg("step %d: the repaired account is not whole", step);
	/* Step 9 gives the old object back, then takes the new one. */
	if (copy->used_bytes[0] > most || (step != 9 && copy->used_bytes[0] < least))
		fail_msg("step %d: %llu bytes; wanted %llu to %llu", step, (unsigned long long)copy->used_bytes[0],
			 (unsigned long long)least, (unsigned long long)most);
	for (int i = 0; i < 64; i++) {
		if (copy->holds[i].kind != HOLD_NONE && !is_of_script(&copy->holds[i]))
			fail_msg("step %d: hold %d is half made or half dropped", step, i);
	}
}

/* Death between any two instructions: a child runs the script one instruction at a time; after each, a copy of its
 * account is repaired and must be whole. */
static void test_repair_every_instruction(void **state)
{
	const uint64_t limits[] = { 100 * MIB, 50 * MIB, 0 };
	struct account *copy = map_account();
	uint64_t used[STEPS + 1] = { 0 };
	int *step = (int *)(void *)&map_account()->serial;
	unsigned int instructions = 0;
	int status;
	pid_t child;

	if (IS_SLOWED) {
		print_message("thread sanitizer: far too many instructions\n");
		skip();
	}
	for (int i = 0; script(i); i++)
		used[i + 1] = a->used_bytes[0];
	assert_whole(0, 0);
	memset(a, 0, offsetof(struct account, holds) + 64 * sizeof(struct hold));
	account_init(a, 3, limits);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
			_exit(77);
		kill(getpid(), SIGSTOP);
		while (script(*step))
			++*step;
		_exit(0);
	}
	for (;;) {
		assert_int_equal(waitpid(child, &status, 0), child);
		if (!WIFSTOPPED(status))
			break;
		if (*step < STEPS)
			check_corpse(a, copy, used, *step);
		instructions++;
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("no ptrace here\n");
		skip();
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_true(instructions > 1000);
	assert_whole(0, 0);
	munmap(copy, sizeof(*copy));
}

/* Against a model: random calls, the sums as plain arrays say. */
static void test_model(void **state)
{
	enum { OBJECTS = 500, ROUNDS = 200000 };
	static struct {
		uint32_t charge;
		bool is_alive;
	} objects[OBJECTS];
	static uint64_t bytes[ACCOUNT_CHARGES + 1];
	static uint32_t holds[ACCOUNT_CHARGES + 1];
	uint64_t used = 0;
	unsigned int seed = 7;

	memset(objects, 0, sizeof(objects));
	for (int round = 0; round < ROUNDS; round++) {
		uint32_t i = (uint32_t)rand_r(&seed) % OBJECTS;
		uint32_t from = (uint32_t)rand_r(&seed) % OBJECTS;
		uint64_t size = (uint64_t)rand_r(&seed) % MIB;
		uint32_t c;

		if (objects[i].is_alive) {
			c = objects[i].charge;
			objects[i].is_alive = false;
			assert_int_equal(account_drop(a, CLIENT, i), 1);
			if (--holds[c] == 0)
				used -= bytes[c];
		} else if (objects[from].is_alive && round % 2) {
			c = objects[from].charge;
			assert_int_equal(account_find(a, CLIENT, from)->charge, c);
			assert_int_equal(object(HOLD_MEMORY, CLIENT, i, 0, c), 0);
			objects[i].charge = c;
			objects[i].is_alive = true;
			holds[c]++;
		} else if (account_charge(a, 1, size, &c) == 0) {
			assert_int_equal(object(HOLD_MEMORY, CLIENT, i, 0, c), 0);
			objects[i].charge = c;
			objects[i].is_alive = true;
			bytes[c] = size;
			holds[c] = 1;
			used += size;
		} else {
			assert_true(used + size > a->limit_bytes[0]);
		}
		assert_int_equal(a->used_bytes[0], used);
		if (round % 5000 == 0) {
			assert_int_equal(account_check(a), 0);
			account_repair(a);
			assert_int_equal(a->used_bytes[0], used);
		}
	}
	assert_int_equal(account_check(a), 0);
}

/* Ranges against a model that has a byte a page: mapped over, cut and dropped anywhere. */
static void test_ranges_model(void **state)
{
	enum { PAGES = 512, PAGE = 4096, OWNERS = 3, ROUNDS = 40000 };
	static uint8_t mapped[OWNERS][PAGES];
	unsigned int seed = 11;
	uint64_t used = 0;

	for (int round = 0; round < ROUNDS; round++) {
		uint32_t who = (uint32_t)rand_r(&seed) % OWNERS;
		uint32_t first = (uint32_t)rand_r(&seed) % PAGES;
		uint32_t count = 1 + (uint32_t)rand_r(&seed) % (round % 3 ? 8 : PAGES);
		uint64_t address = (who ? 0 : UINT64_C(1) << 63) + first * PAGE;
		bool maps = round % 2;

		count = count < PAGES - first ? count : PAGES - first;
		account_unmap(a, HOLD_MANAGED, (uint16_t)who, address, (uint64_t)count * PAGE);
		if (maps)
			range(HOLD_MANAGED, (uint16_t)who, address, (uint64_t)count * PAGE, charge(1, (uint64_t)count * PAGE));
		for (uint32_t page = first; page < first + count; page++) {
			used -= (uint64_t)mapped[who][page] * PAGE;
			mapped[who][page] = maps;
			used += (uint64_t)maps * PAGE;
		}
		assert_int_equal(a->used_bytes[0], used);
		if (round % 1000 == 0) {
			assert_whole(used, 0);
			account_repair(a);
			assert_whole(used, 0);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_init, setup, teardown),
		cmocka_unit_test_setup_teardown(test_charge, setup, teardown),
		cmocka_unit_test_setup_teardown(test_settle, setup, teardown),
		cmocka_unit_test_setup_teardown(test_last_hold, setup, teardown),
		cmocka_unit_test_setup_teardown(test_find, setup, teardown),
		cmocka_unit_test_setup_teardown(test_subtrees, setup, teardown),
		cmocka_unit_test_setup_teardown(test_handle_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deep, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unmap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unmap_mappings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_split_when_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_owner, setup, teardown),
		cmocka_unit_test_setup_teardown(test_each, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_repair_keeps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_repair_garbage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_repair_every_instruction, setup, teardown),
		cmocka_unit_test_setup_teardown(test_model, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ranges_model, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
