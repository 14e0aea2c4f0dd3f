/* SPDX-License-Identifier: Apache-2.0 */
/* What the preload door itself adds to a call: door-bench [ROUNDS [BLOCKS]]. Its code is linked in here, over a driver that
 * says yes at once, so what is left when the same calls without it are taken away is the door. Prints one JSON object:
 * nanoseconds of the nine calls of one cuMemAlloc and cuMemFree, the best of ten, with BLOCKS others allocated. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "ledger/ledger.h"
#include "lib/test_rm.h"

enum { UVM_MAJOR = 511, HANDLE_FIRST = 0x1000 };

#define BLOCK_BYTES (UINT64_C(2) << 20)
#define PLACE (UINT64_C(1) << 44)

static int ctl = -1, uvm = -1;

long __real_syscall(long number, ...);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);

/* A driver that agrees. */
static int agree(unsigned long request, void *argument)
{
	static uint32_t next = HANDLE_FIRST;

	if (abi_request_nr((uint32_t)request) == NV_ESC_RM_ALLOC && !get_u32(argument, ALLOC_OBJECT))
		put_u32(argument, ALLOC_OBJECT, next++);
	return 0;
}

static int agree_directly(int fd, unsigned long request, void *argument)
{
	return agree(request, argument);
}

static int stat_of_device(int fd, struct stat *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->st_mode = S_IFCHR;
	ret->st_rdev = fd == ctl ? makedev(195, 255) : makedev(UVM_MAJOR, 0);
	return 0;
}

long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	if (number == SYS_ioctl)
		return agree((unsigned long)b, (void *)c);
	if (number == SYS_fstat && ((int)a == ctl || (int)a == uvm))
		return stat_of_device((int)a, (struct stat *)b);
	if (number == SYS_newfstatat && strcmp((const char *)b, "/dev/nvidia-uvm") == 0)
		return stat_of_device(uvm, (struct stat *)c);
	return __real_syscall(number, a, b, c, d, e, f);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* What libcuda asks between its allocations: nothing to us. */
static int pass(struct test_rm *rm)
{
	uint8_t params[32] = { 0 };

	return test_rm_control(rm, rm->client, rm->device, 0x503c0104, params, sizeof(params));
}

static int allocate(struct test_rm *rm, uint64_t place, uint32_t *ret_object)
{
	uint64_t bytes = BLOCK_BYTES, left;
	int r = test_rm_fb_info(rm, FB_INFO_INDEX_HEAP_FREE, &left);

	*ret_object = 0;
	r = r ? r : test_rm_vidmem(rm, &bytes, ret_object);
	r = r ? r : pass(rm);
	r = r ? r : test_uvm_range(rm, place, BLOCK_BYTES);
	return r ? r : test_uvm_map(rm, place, BLOCK_BYTES, rm->client, *ret_object);
}

static int release(struct test_rm *rm, uint64_t place, uint32_t object)
{
	uint64_t left;
	int r = test_rm_fb_info(rm, FB_INFO_INDEX_HEAP_FREE, &left);

	r = r ? r : pass(rm);
	r = r ? r : test_uvm_free(rm, place, BLOCK_BYTES);
	return r ? r : test_rm_free(rm, rm->client, object);
}

/* Returns nanoseconds of a pair, 0 when a call failed. */
static uint64_t measure(struct test_rm *rm, unsigned long rounds)
{
	enum { TIMES = 10 };
	uint64_t best = UINT64_MAX;

	for (int time = 0; time < TIMES; time++) {
		uint64_t before = now_ns(), each;

		for (unsigned long i = 0; i < rounds; i++) {
			uint32_t object;

			if (allocate(rm, PLACE, &object) || release(rm, PLACE, object))
				return 0;
		}
		each = (now_ns() - before) / rounds;
		best = each < best ? each : best;
	}
	return best;
}

/* The door finds its ledger beside the file that it was loaded from: this program. */
static int make_ledger(char path[PATH_MAX])
{
	const struct ledger_gpu gpu = { .total_bytes = UINT64_C(80) << 30 };
	const uint64_t limit = UINT64_C(64) << 30;
	const struct ledger_settings settings = { .name = "bench", .door = "preload", .driver = "580.159.04", .gpu_count = 1,
						  .gpus = &gpu, .limits = &limit };
	struct ledger_handle ledger;
	char program[PATH_MAX] = { 0 };
	struct error err;
	int r;

	if (readlink("/proc/self/exe", program, sizeof(program) - 1) < 0 ||
	    snprintf(path, PATH_MAX, "%.*s/ledger", PATH_MAX - 8, dirname(program)) < 0)
		return -errno;
	unlink(path);
	r = ledger_create(&ledger, path, &settings, &err);
	if (r < 0)
		fprintf(stderr, "door-bench: %s\n", err.text);
	else
		ledger_close(&ledger);
	return r;
}

static int start(struct test_rm *rm)
{
	struct abi_version version;
	int r;

	memset(rm, 0, sizeof(*rm));
	rm->ctl = ctl = open("/dev/null", O_RDWR | O_CLOEXEC);
	rm->uvm = uvm = open("/dev/null", O_RDWR | O_CLOEXEC);
	r = abi_version_parse("580.159.04", &version);
	r = r ? r : abi_layout_find(version, &rm->layout);
	return r;
}

static int make_objects(struct test_rm *rm)
{
	uint8_t init[UVM_INITIALIZE_SIZE] = { 0 };
	uint8_t device[DEVICE_ALLOC_SIZE] = { 0 };
	uint8_t subdevice[SUBDEVICE_ALLOC_SIZE] = { 0 };
	int r = test_rm_client(rm, &rm->client);

	r = r ? r : test_rm_alloc(rm, rm->client, rm->client, &rm->device, 0x80, device);
	r = r ? r : test_rm_alloc(rm, rm->client, rm->device, &rm->subdevice, 0x2080, subdevice);
	return r ? r : test_uvm_call(rm->uvm, UVM_INITIALIZE, init);
}

int main(int argc, char **argv)
{
	unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 2000;
	unsigned long blocks = argc > 2 ? strtoul(argv[2], NULL, 10) : 200;
	char path[PATH_MAX];
	struct test_rm rm;
	uint64_t without, with;
	int r;

	if (argc > 3 || !rounds || blocks > 10000) {
		fputs("usage: door-bench [ROUNDS [BLOCKS]]\n", stderr);
		return 2;
	}
	r = make_ledger(path);
	r = r ? r : start(&rm);
	r = r ? r : make_objects(&rm);
	for (unsigned long i = 1; i <= blocks && r == 0; i++) {
		uint32_t object;

		r = allocate(&rm, PLACE + i * 2 * BLOCK_BYTES, &object);
	}
	with = r ? 0 : measure(&rm, rounds);
	test_rm_ioctl = agree_directly;
	without = measure(&rm, rounds);
	unlink(path);
	if (!with || !without) {
		fprintf(stderr, "door-bench: a call failed: %d\n", r);
		return 1;
	}
	printf("{\"door_ns\":%" PRIu64 ",\"without_ns\":%" PRIu64 ",\"added_ns\":%" PRIu64 "}\n", with, without, with - without);
	return 0;
}
