/* SPDX-License-Identifier: Apache-2.0 */
/* Gates and their guard against a driver that keeps the state of its channels in shared memory. */
#include "gate/gate.h"
#include "gate/guard.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "abi/calls.h"
#include "base/bytes.h"

enum { CLIENT = 0xc1d00001, FAKE_CHANNELS = 1024, NV_ERR_TIMEOUT = 0x65 };

/* A driver that knows channels 0x100 + i of one client. */
struct fake {
	uint32_t calls, entries, most;	/* entries in the largest call */
	uint32_t fail;			/* status to give instead */
	uint32_t first_enable, first_disable;	/* number of the call, from 1 */
	uint8_t exists[FAKE_CHANNELS];
	uint8_t off[FAKE_CHANNELS];
	pid_t caller;
};

static struct fake *fake;
static struct account *account;

static int fake_control(void *arg, uint32_t gpu, void *params, uint32_t size)
{
	struct fake *f = arg;
	uint32_t count = get_u32(params, DISABLE_COUNT);
	bool disable = ((const char *)params)[DISABLE_DISABLE];

	if (size != DISABLE_SIZE || count > DISABLE_MAX || gpu != 0)
		return -EINVAL;
	f->caller = getpid();
	f->calls++;
	f->entries += count;
	f->most = count > f->most ? count : f->most;
	if (disable && !f->first_disable)
		f->first_disable = f->calls;
	if (!disable && !f->first_enable)
		f->first_enable = f->calls;
	if (f->fail)
		return (int)f->fail;
	/* what comes before the one that is not there is done; what is closed twice must be opened twice */
	for (uint32_t i = 0; i < count; i++) {
		uint32_t channel = get_u32(params, DISABLE_CHANNELS + 4 * i) - 0x100;

		if (get_u32(params, DISABLE_CLIENTS + 4 * i) != CLIENT || channel >= FAKE_CHANNELS || !f->exists[channel])
			return NV_ERR_OBJECT_NOT_FOUND;
		if (disable)
			f->off[channel]++;
		else if (f->off[channel])
			f->off[channel]--;
	}
	return NV_OK;
}

static struct gate_port fake_port(void)
{
	return (struct gate_port){ .control = fake_control, .arg = fake };
}

static uint32_t count_off(void)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < FAKE_CHANNELS; i++)
		n += ((volatile struct fake *)fake)->off[i] != 0;
	return n;
}

static void hold(enum hold_kind kind, uint32_t handle, uint32_t parent, uint32_t engine, uint16_t gpu)
{
	struct hold h = { .kind = kind, .client = CLIENT, .handle = handle, .parent = parent, .engine = engine, .gpu = gpu,
			  .length = kind == HOLD_GROUP || parent == CLIENT ? SCHEDULED : 0 };

	assert_int_equal(account_hold(account, &h), 0);
}

static int setup(void **state)
{
	uint64_t limits[2] = { 1 << 20, 1 << 20 };

	account = calloc(1, sizeof(*account));
	fake = mmap(NULL, sizeof(*fake), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!account || fake == MAP_FAILED || account_init(account, 2, limits) < 0)
		return -1;
	hold(HOLD_CLIENT, CLIENT, 0, 0, 0);
	hold(HOLD_GROUP, 0x10, CLIENT, 1, 0);	/* compute */
	hold(HOLD_GROUP, 0x11, CLIENT, 11, 0);	/* copies */
	(void)state;
	return 0;
}

static int teardown(void **state)
{
	free(account);
	munmap(fake, sizeof(*fake));
	(void)state;
	return 0;
}

static void make_channels(uint32_t first, uint32_t count, uint32_t group)
{
	for (uint32_t i = first; i < first + count; i++) {
		hold(HOLD_CHANNEL, 0x100 + i, group, 0, 0);
		fake->exists[i] = 1;
	}
}

static void test_collect(void **state)
{
	struct gate_set *set = calloc(1, sizeof(*set));
	struct hold *group;

	make_channels(0, 8, 0x10);
	make_channels(100, 5, 0x11);
	hold(HOLD_CHANNEL, 0x900, CLIENT, 1, 1);	/* on the other GPU */
	hold(HOLD_CHANNEL, 0x901, CLIENT, 3, 0);	/* without a group */
	hold(HOLD_CHANNEL, 0x902, CLIENT, 9, 0);
	gate_init(set, 0);
	group = account_find(account, CLIENT, 0x10);
	group->length = SCHEDULING;
	assert_int_equal(gate_collect(set, 3, account, 0), 1);
	group->length = SCHEDULED;
	assert_int_equal(gate_collect(set, 3, account, 0), 9);
	assert_int_equal(gate_collect(set, 3, account, 0), 9);
	assert_int_equal(set->count, 9);
	account_drop(account, CLIENT, 0x103);
	assert_int_equal(gate_collect(set, 3, account, 0), 8);
	account_drop(account, CLIENT, 0x10);
	assert_int_equal(gate_collect(set, 3, account, 0), 1);
	assert_int_equal(set->channels[0].handle, 0x901);
	assert_int_equal(gate_collect(set, 4, account, 1), 1);	/* another slice keeps its own */
	assert_int_equal(set->count, 2);
	assert_int_equal(gate_collect(set, GATE_SLICES, account, 1), -EINVAL);
	free(set);
	(void)state;
}

static void test_split(void **state)
{
	struct gate_set *set = calloc(1, sizeof(*set));
	struct gate_port port = fake_port();

	make_channels(0, 200, 0x10);
	gate_init(set, 0);
	assert_int_equal(gate_collect(set, 0, account, 0), 200);
	assert_int_equal(gate_apply(set, &port, 1, 1), 0);
	assert_int_equal(fake->calls, 0);	/* born open */
	assert_int_equal(gate_apply(set, &port, 0, 2), 0);
	assert_int_equal(count_off(), 200);
	assert_int_equal(fake->calls, 4);
	assert_int_equal(fake->most, 64);
	assert_int_equal(gate_apply(set, &port, 0, 3), 0);
	assert_int_equal(fake->calls, 4);	/* nothing to do */
	assert_int_equal(gate_apply(set, &port, 1, 4), 0);
	assert_int_equal(count_off(), 0);
	assert_int_equal(fake->calls, 8);
	free(set);
	(void)state;
}

/* Two slices in one set: opened before closed, all that open in one call. */
static void test_order(void **state)
{
	struct gate_set *set = calloc(1, sizeof(*set));
	struct gate_port port = fake_port();

	gate_init(set, 0);
	make_channels(0, 2, 0x10);
	gate_collect(set, 0, account, 0);
	account_drop(account, CLIENT, 0x100);
	account_drop(account, CLIENT, 0x101);
	make_channels(2, 3, 0x10);
	assert_int_equal(gate_collect(set, 1, account, 0), 3);
	assert_int_equal(set->count, 5);
	gate_apply(set, &port, 1, 1);
	assert_int_equal(count_off(), 3);
	memset(fake->off, 0, 2);
	fake->calls = fake->first_enable = fake->first_disable = 0;
	gate_apply(set, &port, 2, 2);
	assert_int_equal(fake->calls, 2);
	assert_int_equal(fake->first_enable, 1);
	assert_int_equal(fake->first_disable, 2);
	assert_int_equal(fake->off[0] + fake->off[1], 2);
	assert_int_equal(count_off(), 2);
	/* a slice that leaves opens its own */
	assert_int_equal(gate_forget(set, &port, 0), 0);
	assert_int_equal(count_off(), 0);
	assert_int_equal(set->count, 3);
	free(set);
	(void)state;
}

static void test_vanished(void **state)
{
	struct gate_set *set = calloc(1, sizeof(*set));
	struct gate_port port = fake_port();
	uint32_t calls;

	gate_init(set, 0);
	make_channels(0, 70, 0x10);
	gate_collect(set, 0, account, 0);
	gate_apply(set, &port, 1, 1);
	fake->exists[5] = fake->exists[69] = 0;
	assert_int_equal(gate_apply(set, &port, 0, 2), 0);
	assert_int_equal(count_off(), 68);
	assert_int_equal(gate_apply(set, &port, 1, 3), 0);
	assert_int_equal(count_off(), 0);
	/* once known to be gone they cost nothing, even while the account still holds them */
	gate_collect(set, 0, account, 0);
	calls = fake->calls;
	assert_int_equal(gate_apply(set, &port, 0, 4), 0);
	assert_int_equal(fake->calls - calls, 2);
	/* a handle that is used anew is found again */
	fake->exists[5] = 1;
	assert_int_equal(gate_apply(set, &port, 0, UINT64_C(2000000000)), 0);
	assert_int_equal(count_off(), 69);
	assert_int_equal(gate_open_all(set, &port, GATE_OPEN), 0);
	assert_int_equal(count_off(), 0);
	free(set);
	(void)state;
}

/* Closed, and then unknown to the account: a forked child may have it, so it is opened before it is forgotten. */
static void test_leaving(void **state)
{
	struct gate_set *set = calloc(1, sizeof(*set));
	struct gate_port port = fake_port();

	gate_init(set, 0);
	make_channels(0, 4, 0x10);
	gate_collect(set, 0, account, 0);
	gate_apply(set, &port, 0, 1);
	account_drop(account, CLIENT, 0x100);
	account_drop(account, CLIENT, 0x101);
	fake->exists[1] = 0;
	gate_collect(set, 0, account, 0);
	/* one comes back in time */
	hold(HOLD_CHANNEL, 0x100, 0x10, 0, 0);
	gate_collect(set, 0, account, 0);
	account_drop(account, CLIENT, 0x102);
	gate_collect(set, 0, account, 0);
	assert_int_equal(gate_apply(set, &port, 0, 2), 0);
	assert_int_equal(set->count, 2);
	assert_int_equal(fake->off[0], 1);
	assert_int_equal(fake->off[2], 0);
	assert_int_equal(fake->off[3], 1);
	free(set);
	(void)state;
}

/* The driver does not answer: what is to leave stays known, and is tried again. */
static void test_leaving_trouble(void **state)
{
	struct gate_set *set = calloc(1, sizeof(*set));
	struct gate_port port = fake_port();

	gate_init(set, 0);
	make_channels(0, 3, 0x10);
	gate_collect(set, 0, account, 0);
	gate_apply(set, &port, 0, 1);
	account_drop(account, CLIENT, 0x100);
	account_drop(account, CLIENT, 0x101);
	gate_collect(set, 0, account, 0);
	fake->fail = NV_ERR_TIMEOUT;
	fake->calls = 0;
	assert_int_equal(gate_apply(set, &port, 1, 2), -EIO);
	assert_int_equal(fake->calls, 1);
	fake->fail = 0;
	assert_int_equal(gate_apply(set, &port, 0, 3), 0);
	assert_int_equal(fake->off[0] + fake->off[1], 0);
	assert_int_equal(fake->off[2], 1);
	assert_int_equal(set->count, 1);
	free(set);
	(void)state;
}

/* A member's channels, told in parts; those of other slices stay. */
static void test_told(void **state)
{
	struct gate_set *theirs = calloc(1, sizeof(*theirs)), *ours = calloc(1, sizeof(*ours));
	struct gate_port port = fake_port();
	struct gate_about list[3];
	uint32_t total, count;
	uint64_t changes;

	gate_init(theirs, 0);
	gate_init(ours, 0);
	make_channels(0, 7, 0x10);
	gate_collect(theirs, 0, account, 0);
	changes = theirs->changes;
	gate_collect(theirs, 0, account, 0);
	assert_int_equal(theirs->changes, changes);
	gate_take(ours, 9, (const struct gate_about[]){ { CLIENT, 0x170, 1 } }, 1, true, true);
	for (uint32_t first = 0; first < 7; first += count) {
		count = gate_describe(theirs, 0, first, list, 3, &total);
		assert_int_equal(total, 7);
		assert_int_equal(gate_take(ours, 5, list, count, first == 0, first + count == total), 0);
	}
	assert_int_equal(ours->count, 8);
	fake->exists[0x70] = 1;
	gate_apply(ours, &port, UINT64_C(1) << 9, 1);
	assert_int_equal(count_off(), 7);
	/* nothing left to tell of: opened, and forgotten */
	gate_take(ours, 5, list, 0, true, true);
	gate_apply(ours, &port, UINT64_C(1) << 9, 2);
	assert_int_equal(count_off(), 0);
	assert_int_equal(ours->count, 1);
	account_drop(account, CLIENT, 0x103);
	gate_collect(theirs, 0, account, 0);
	assert_int_not_equal(theirs->changes, changes);
	free(theirs);
	free(ours);
	(void)state;
}

static void test_trouble(void **state)
{
	struct gate_set *set = calloc(1, sizeof(*set));
	struct gate_port port = fake_port();

	gate_init(set, 0);
	make_channels(0, 3, 0x10);
	gate_collect(set, 0, account, 0);
	fake->fail = NV_ERR_TIMEOUT;
	assert_int_equal(gate_apply(set, &port, 0, 1), -EIO);
	assert_int_equal(fake->calls, 1);	/* no loop against a wedged GPU */
	fake->fail = 0;
	fake->off[1] = 1;	/* it had been done for one */
	assert_int_equal(gate_apply(set, &port, 0, 2), 0);
	assert_int_equal(count_off(), 3);
	assert_int_equal(fake->off[1], 1);
	fake->fail = NV_ERR_TIMEOUT;
	assert_int_equal(gate_apply(set, &port, 1, 2), -EIO);
	fake->fail = 0;
	assert_int_equal(gate_apply(set, &port, 1, 3), 0);
	assert_int_equal(count_off(), 0);
	free(set);
	(void)state;
}

/* To schedule a channel opens it, however often it was closed. */
static void test_scheduled_again(void **state)
{
	struct gate_set *set = calloc(1, sizeof(*set));
	struct gate_port port = fake_port();
	struct hold *group;

	gate_init(set, 0);
	make_channels(0, 3, 0x10);
	gate_collect(set, 0, account, 0);
	assert_int_equal(gate_apply(set, &port, 0, 1), 0);
	assert_int_equal(count_off(), 3);
	group = account_find(account, CLIENT, 0x10);
	group->length += SCHEDULE_ONCE;
	memset(fake->off, 0, sizeof(fake->off));
	gate_collect(set, 0, account, 0);
	assert_int_equal(gate_apply(set, &port, 0, 2), 0);
	assert_int_equal(count_off(), 3);
	gate_collect(set, 0, account, 0);
	assert_int_equal(gate_apply(set, &port, 0, 3), 0);
	assert_int_equal(fake->off[1], 1);
	assert_int_equal(gate_apply(set, &port, 1, 4), 0);
	assert_int_equal(count_off(), 0);
	free(set);
	(void)state;
}

static void wait_for_off(uint32_t count)
{
	for (int i = 0; i < 6000 && count_off() != count; i++)
		poll(NULL, 0, 10);
	assert_int_equal(count_off(), count);
}

/* Drive the gates in a child that closes them and then waits to be killed. */
static pid_t start_driver(uint32_t stall_ms)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct gate_port port = fake_port();
		struct guard guard;

		if (guard_start(&guard, 1, &port, NULL, 0, stall_ms) < 0)
			_exit(1);
		if (gate_collect(&guard.shared->sets[0], 0, account, 0) < 0)
			_exit(2);
		gate_apply(&guard.shared->sets[0], &port, 0, 1);
		for (;;)
			pause();
	}
	return pid;
}

static void test_guard_death(void **state)
{
	pid_t pid;
	int status;

	make_channels(0, 130, 0x10);
	pid = start_driver(0);
	wait_for_off(130);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	wait_for_off(0);
	assert_int_not_equal(fake->caller, pid);
	(void)state;
}

static void test_guard_hang(void **state)
{
	pid_t pid;
	int status;

	make_channels(0, 130, 0x10);
	pid = start_driver(100);
	/* it never beats: three calls close all, three of the guard's open all */
	for (int i = 0; i < 6000 && ((volatile struct fake *)fake)->calls < 6; i++)
		poll(NULL, 0, 10);
	wait_for_off(0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_not_equal(fake->caller, pid);
	(void)state;
}

static void test_guard_end(void **state)
{
	struct gate_port port = fake_port();
	struct guard guard;
	int fds[2];
	char byte;

	/* the guard keeps nothing of ours: we see the other end of a pipe close when we close it */
	assert_int_equal(pipe(fds), 0);
	make_channels(0, 3, 0x10);
	assert_int_equal(guard_start(&guard, 1, &port, NULL, 0, 0), 0);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);	/* whoever waits for any child does not meet it */
	assert_int_equal(waitpid(guard.pid, NULL, WNOHANG | __WCLONE), 0);
	gate_collect(&guard.shared->sets[0], 0, account, 0);
	gate_apply(&guard.shared->sets[0], &port, 0, 1);
	assert_int_equal(count_off(), 3);
	close(fds[1]);
	assert_int_equal(read(fds[0], &byte, 1), 0);
	close(fds[0]);
	assert_false(guard_beat(&guard));
	guard_stop(&guard);
	assert_int_equal(count_off(), 0);
	assert_int_equal(waitpid(guard.pid, NULL, WNOHANG | __WCLONE), -1);
	guard_stop(&guard);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_collect, setup, teardown),
		cmocka_unit_test_setup_teardown(test_split, setup, teardown),
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vanished, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leaving, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leaving_trouble, setup, teardown),
		cmocka_unit_test_setup_teardown(test_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_trouble, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scheduled_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_guard_death, setup, teardown),
		cmocka_unit_test_setup_teardown(test_guard_hang, setup, teardown),
		cmocka_unit_test_setup_teardown(test_guard_end, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
