/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor's filter: which calls ask, in every way to make them, and what they are read as.
 *
 * A child loads the filter and makes each call of a table; the test stands for the supervisor and answers ENOKEY, which
 * no call here would give by itself. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "abi/calls.h"
#include "supervisor/filter.h"
#include "supervisor/listener.h"
#include "supervisor/spawn.h"

enum way { NATIVE, NATIVE_HIGH, WITH_X32_BIT, X32, X32_WITHOUT_BIT, COMPAT };

struct attempt {
	const char *what;
	enum way way;
	uint64_t request;
	bool asked;
};

/* abi_request() for initialisers */
#define RM(nr, size) (3u << 30 | (uint32_t)(size) << 16 | (uint32_t)'F' << 8 | (nr))

static const struct attempt ioctls[] = {
	{ "RM_ALLOC long", NATIVE, RM(0x2b, 48), true },
	{ "RM_ALLOC, another type and direction", NATIVE, 0x4030002b | 'X' << 8, true },
	{ "RM_ALLOC, high garbage", NATIVE_HIGH, RM(0x2b, 48), true },
	{ "RM_ALLOC through the x32 bit", WITH_X32_BIT, RM(0x2b, 48), true },
	{ "RM_ALLOC as x32", X32, RM(0x2b, 48), true },
	{ "RM_ALLOC as x32 without the bit", X32_WITHOUT_BIT, RM(0x2b, 48), true },
	{ "RM_ALLOC through int 0x80", COMPAT, RM(0x2b, 48), true },
	{ "RM_ALLOC, a size nobody has", NATIVE, RM(0x2b, 3), true },
	{ "lowest NR", NATIVE, RM(0x20, 1), true },
	{ "highest NR of the first block", NATIVE, RM(0x5f, 0x3fff), true },
	{ "between the blocks", NATIVE, RM(0x60, 8), false },
	{ "between the blocks, end", NATIVE, RM(0xbf, 8), false },
	{ "second block", NATIVE, RM(0xc0, 8), true },
	{ "second block, end", NATIVE, RM(0xff, 8), true },
	{ "XFER_CMD", NATIVE, RM(0xd3, 16), true },
	{ "NR below all of them", NATIVE, RM(0x1f, 8), false },
	{ "UVM_MAP_EXTERNAL_ALLOCATION", NATIVE, 0x21, true },
	{ "UVM_MAP_EXTERNAL_ALLOCATION through int 0x80", COMPAT, 0x21, true },
	{ "UVM_INITIALIZE", NATIVE, 0x30000001, true },
	{ "UVM_DEINITIALIZE", NATIVE, 0x30000002, true },
	{ "UVM_REGISTER_CHANNEL", NATIVE, 0x1b, false },
	{ "UVM_FREE", NATIVE, 0x22, true },
	{ "UVM_CREATE_EXTERNAL_RANGE", NATIVE, 0x49, false },
	{ "UVM, first number that nobody has", NATIVE, 0x51, true },
	{ "UVM, first number behind the words", NATIVE, 0x60, true },
	{ "RM_MAP_MEMORY", NATIVE, RM(0x4e, 56), false },
	{ "RM_MAP_MEMORY, another type", NATIVE, 0xc038004e | 'X' << 8, false },
	{ "RM_MAP_MEMORY, another size", NATIVE, RM(0x4e, 48), true },
	{ "RM_MAP_MEMORY through int 0x80", COMPAT, RM(0x4e, 56), false },
	{ "REGISTER_FD", NATIVE, RM(0xc9, 4), false },
	{ "UVM, last number it could use", NATIVE, 0xfff, true },
	{ "modesetting", NATIVE, 0xc0100000 | 'm' << 8, true },
	{ "modesetting, another size", NATIVE, 0xc0200000 | 'm' << 8, false },
	{ "TCGETS", NATIVE, TCGETS, false },
	{ "TCSETS", NATIVE, TCSETS, false },
	{ "TIOCGWINSZ", NATIVE, TIOCGWINSZ, false },
	{ "TCGETS through int 0x80", COMPAT, TCGETS, false },
	{ "FIONBIO", NATIVE, FIONBIO, false },
	{ "FIOCLEX", NATIVE, FIOCLEX, false },
	{ "FBIOGET_VSCREENINFO", NATIVE, 0x4600, false },
	{ "FBIOPAN_DISPLAY's neighbour with an RM number", NATIVE, 0x462b, false },
	{ "SIOCGIFCONF", NATIVE, 0x8912, false },
};

enum { IOCTLS = sizeof(ioctls) / sizeof(ioctls[0]) };

/* What the child saw and what the parent read, in memory both have. */
struct shared {
	long result[IOCTLS];
	struct filter_args args[IOCTLS];
	uint32_t current;
	long map_result[8];
	struct filter_args map_args[8];
};

static struct shared *shared;
static struct filter filter;	/* of a driver that is known */
static int null_fd = -1, tty_fd = -1;

static long compat_call(uint32_t nr, uint32_t a, uint32_t b, uint32_t c)
{
#if defined(__x86_64__)
	long result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10",
			 "r11");
	return (int)result;
#else
	return -ENOKEY;
#endif
}

static long raw_result(long result)
{
	return result == -1 ? -errno : result;
}

static long make_ioctl(const struct attempt *a, int fd)
{
	switch (a->way) {
	case NATIVE:
		return raw_result(syscall(SYS_ioctl, fd, a->request, NULL));
	case NATIVE_HIGH:
		return raw_result(syscall(SYS_ioctl, fd, a->request | UINT64_C(0xdeadbeef) << 32, NULL));
#if defined(__x86_64__)
	case WITH_X32_BIT:
		return raw_result(syscall(SYS_ioctl | 0x40000000, fd, a->request, NULL));
	case X32:
		return raw_result(syscall(514 | 0x40000000, fd, a->request, NULL));
	case X32_WITHOUT_BIT:
		return raw_result(syscall(514, fd, a->request, NULL));
	case COMPAT:
		return compat_call(54, (uint32_t)fd, (uint32_t)a->request, 0);
#else
	case WITH_X32_BIT:
	case X32:
	case X32_WITHOUT_BIT:
	case COMPAT:
		return a->asked ? -ENOKEY : 0;
#endif
	}
	return 0;
}

static int run_ioctls(void *arg)
{
	for (uint32_t i = 0; i < IOCTLS; i++) {
		__atomic_store_n(&shared->current, i, __ATOMIC_SEQ_CST);
		shared->result[i] = make_ioctl(&ioctls[i], i % 2 ? tty_fd : null_fd);
	}
	return 0;
}

/* Answer one notification. */
static void answer(const struct spawned *child, bool is_map)
{
	union notification n;
	union response r = { 0 };
	uint32_t at;

	if (listener_receive(child->listener, &n) < 0)
		return;
	assert_true(listener_is_valid(child->listener, n.data.id));
	at = __atomic_load_n(&shared->current, __ATOMIC_SEQ_CST);
	filter_decode(&n.data.data, is_map ? &shared->map_args[at] : &shared->args[at]);
	r.data.id = n.data.id;
	r.data.error = -ENOKEY;
	listener_send(child->listener, &r);
}

/* Be the supervisor until the child ends. */
static void serve(const struct spawned *child, bool is_map)
{
	struct pollfd p[] = { { .fd = child->listener, .events = POLLIN },
			      { .fd = (int)syscall(SYS_pidfd_open, child->pid, 0), .events = POLLIN } };

	assert_int_equal(listener_prepare(child->listener), 0);
	assert_true(p[1].fd >= 0);
	while (!p[1].revents) {
		assert_true(poll(p, 2, 60000) > 0);
		if (p[0].revents & POLLIN)
			answer(child, is_map);
	}
	close(p[1].fd);
}

static void run_child(int (*run)(void *), bool is_map)
{
	struct error err = { 0 };
	struct spawned child;
	sigset_t mask;
	int r;

	sigprocmask(SIG_SETMASK, NULL, &mask);
	memset(shared, 0, sizeof(*shared));
	r = spawn_filtered(&filter, run, NULL, &mask, &child, &err);
	if (r < 0)
		fail_msg("%s", err.text);
	serve(&child, is_map);
	assert_int_equal(spawn_wait_started(&child), 0);
	assert_int_equal(waitpid(child.pid, NULL, 0), child.pid);
	assert_true(listener_is_hung_up(child.listener));
	close(child.listener);
}

static void test_ioctls(void **state)
{
	run_child(run_ioctls, false);
	for (uint32_t i = 0; i < IOCTLS; i++) {
		const struct filter_args *args = &shared->args[i];
		bool asked = shared->result[i] == -ENOKEY;

		if (asked != ioctls[i].asked)
			fail_msg("%s (0x%lx): %s, result %ld", ioctls[i].what, ioctls[i].request,
				 asked ? "asked" : "not asked", shared->result[i]);
		if (!asked || args->call == FILTER_OTHER)
			continue;
		assert_int_equal(args->call, FILTER_IOCTL);
		assert_int_equal(args->request, (uint32_t)ioctls[i].request);
		assert_int_equal(args->fd, i % 2 ? tty_fd : null_fd);
		assert_int_equal(args->argument, 0);
	}
#if defined(__x86_64__)
	assert_int_equal(shared->args[6].call, FILTER_IOCTL);	/* int 0x80 was read, not only answered */
#endif
}

static int run_maps(void *arg)
{
	static const int flags[] = { MAP_SHARED, MAP_SHARED_VALIDATE | MAP_FIXED_NOREPLACE, MAP_PRIVATE,
				     MAP_SHARED | MAP_ANONYMOUS };

	for (uint32_t i = 0; i < 4; i++) {
		__atomic_store_n(&shared->current, i, __ATOMIC_SEQ_CST);
		shared->map_result[i] = raw_result(syscall(SYS_mmap, 0x123456000, 8192, PROT_READ, flags[i],
							   flags[i] & MAP_ANONYMOUS ? -1 : null_fd, 0x123456000));
	}
#if defined(__x86_64__)
	__atomic_store_n(&shared->current, 4, __ATOMIC_SEQ_CST);
	__asm__ volatile("push %%rbp\n\tmov %[off], %%ebp\n\tint $0x80\n\tpop %%rbp"
			 : "=a"(shared->map_result[4])
			 : "a"(192), "b"(0x10000), "c"(8192), "d"(PROT_READ), "S"(MAP_SHARED), "D"(null_fd),
			   [off] "r"(0x10)
			 : "memory", "r8", "r9", "r10", "r11");
	shared->map_result[5] = compat_call(90, 0, 0, 0);
#endif
	return 0;
}

static void test_maps(void **state)
{
	run_child(run_maps, true);
	assert_int_equal(shared->map_result[0], -ENOKEY);
	assert_int_equal(shared->map_args[0].call, FILTER_MMAP);
	assert_int_equal(shared->map_args[0].address, 0x123456000);
	assert_int_equal(shared->map_args[0].offset, 0x123456000);
	assert_int_equal(shared->map_args[0].length, 8192);
	assert_int_equal(shared->map_args[0].flags, MAP_SHARED);
	assert_int_equal(shared->map_args[0].fd, null_fd);
	assert_int_equal(shared->map_result[1], -ENOKEY);
	assert_int_not_equal(shared->map_result[2], -ENOKEY);
	assert_int_not_equal(shared->map_result[3], -ENOKEY);
#if defined(__x86_64__)
	assert_int_equal((int)shared->map_result[4], -ENOKEY);
	assert_int_equal(shared->map_args[4].call, FILTER_MMAP);
	assert_int_equal(shared->map_args[4].address, 0x10000);
	assert_int_equal(shared->map_args[4].offset, 0x10000);
	assert_int_equal((int)shared->map_result[5], -ENOSYS);
#endif
}

/* What a program says about a call, without running it: a BPF machine for the few instructions it uses. */
static uint32_t judge(const struct filter *f, const struct seccomp_data *data)
{
	const struct sock_filter *p = f->code;
	uint32_t a = 0, x = 0;

	for (unsigned int at = 0; at < f->length; at++) {
		bool yes;

		switch (p[at].code) {
		case BPF_LD | BPF_W | BPF_ABS:
			memcpy(&a, (const char *)data + p[at].k, sizeof(a));
			break;
		case BPF_LD | BPF_IMM:
			a = p[at].k;
			break;
		case BPF_MISC | BPF_TAX:
			x = a;
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= p[at].k;
			break;
		case BPF_ALU | BPF_RSH | BPF_X:
			assert_true(x < 32);
			a >>= x;
			break;
		case BPF_RET | BPF_K:
			return p[at].k;
		case BPF_JMP | BPF_JA:
			at += p[at].k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
		case BPF_JMP | BPF_JGE | BPF_K:
		case BPF_JMP | BPF_JSET | BPF_K:
			yes = BPF_OP(p[at].code) == BPF_JEQ ? a == p[at].k
				: BPF_OP(p[at].code) == BPF_JGE ? a >= p[at].k : (a & p[at].k) != 0;
			at += yes ? p[at].jt : p[at].jf;
			break;
		default:
			fail_msg("instruction %u is unknown here", at);
		}
	}
	fail_msg("ran off the end");
	return 0;
}

static bool is_asked(const struct filter *f, uint32_t request)
{
	struct seccomp_data data = { .nr = SYS_ioctl, .arch = f->code[1].k, .args = { 3, request, 0 } };
	uint32_t verdict = judge(f, &data);

	assert_true(verdict == SECCOMP_RET_USER_NOTIF || verdict == SECCOMP_RET_ALLOW);
	return verdict == SECCOMP_RET_USER_NOTIF;
}

/* Every row of the driver's tables is asked about by a filter that knows no driver. */
static void test_tables(void **state)
{
	size_t count;
	const struct abi_call *calls = abi_calls(&count);
	const struct abi_row *rows;
	struct filter all;

	filter_make(&all, NULL);
	for (size_t i = 0; i < count; i++) {
		uint32_t size = calls[i].size ? calls[i].size : 8;

		if (!is_asked(&all, abi_request(calls[i].nr, size)))
			fail_msg("%s (0x%x) is not asked about", calls[i].name, calls[i].nr);
	}
	rows = abi_uvm_calls(&count);
	assert_true(count > 0);
	for (size_t i = 0; i < count; i++) {
		if (!is_asked(&all, rows[i].number))
			fail_msg("%s (0x%x) is not asked about", rows[i].name, rows[i].number);
	}
}

/* One that knows it leaves out what passes, and nothing else: of each driver, each UVM request, each number and size. */
static void test_what_passes(void **state)
{
	static const char *const drivers[] = { "515.43.04", "535.216.01", "550.163.01", "580.142", "595.45.04" };
	struct engine e = { 0 };
	struct filter all, known;
	uint32_t left_out = 0;

	filter_make(&all, NULL);
	for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
		assert_int_equal(engine_init(&e, drivers[i], NULL), 0);
		filter_make(&known, &e);
		/* behind the words only CARD_INFO and the like without a size, which the driver refuses */
		for (uint32_t request = 0; request < 0x2000; request++)
			assert_int_equal(is_asked(&known, request),
					 is_asked(&all, request) && (request >= 0x60 || !engine_passes(&e, request)));
		for (uint32_t nr = 0; nr < 0x100; nr++) {
			for (uint32_t size = 1; size < 1024; size++) {
				uint32_t request = abi_request(nr, size);

				if (is_asked(&known, request) == is_asked(&all, request))
					continue;
				assert_true(is_asked(&all, request) && engine_passes(&e, request));
				left_out++;
			}
		}
		assert_true(is_asked(&known, UVM_INITIALIZE));
	}
	assert_true(left_out >= 5 * 10);
}

/* An architecture nobody expects gets nothing. */
static void test_other_architecture(void **state)
{
	struct seccomp_data data = { .nr = SYS_ioctl, .arch = 0x12345678, .args = { 3, RM(0x2b, 48) } };

	assert_int_equal(judge(&filter, &data), SECCOMP_RET_ERRNO | ENOSYS);
}

/* A second listener below the first is refused by the kernel, and we say so. */
static int run_nested(void *arg)
{
	shared->result[0] = filter_load(&filter);
	return 0;
}

static void test_nested(void **state)
{
	run_child(run_nested, false);
	assert_int_equal(shared->result[0], -EBUSY);
}

static int run_failing(void *arg)
{
	return -ENOENT;
}

static void test_failed_start(void **state)
{
	struct error err = { 0 };
	struct spawned child;
	sigset_t mask;

	sigprocmask(SIG_SETMASK, NULL, &mask);
	assert_int_equal(spawn_filtered(&filter, run_failing, NULL, &mask, &child, &err), 0);
	assert_int_equal(spawn_wait_started(&child), -ENOENT);
	waitpid(child.pid, NULL, 0);
	close(child.listener);
}

static int set_up(void **state)
{
	struct engine e = { 0 };
	int slave;

	if (engine_init(&e, "580.142", NULL) < 0)
		return -1;
	filter_make(&filter, &e);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (openpty(&tty_fd, &slave, NULL, NULL, NULL) < 0)
		tty_fd = null_fd;
	return shared == MAP_FAILED || null_fd < 0 ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_what_passes),
		cmocka_unit_test(test_other_architecture),
		cmocka_unit_test(test_ioctls),
		cmocka_unit_test(test_maps),
		cmocka_unit_test(test_nested),
		cmocka_unit_test(test_failed_start),
	};

	return cmocka_run_group_tests_name("filter", tests, set_up, NULL);
}
