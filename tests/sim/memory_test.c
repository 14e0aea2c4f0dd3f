/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator's memory: sizes, limits, the tree of objects, what closing frees. Run under fracgpu-sim, one GPU. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lib/check.h"
#include "lib/test_rm.h"

#define MIB (1ull << 20)

static uint64_t free_bytes(struct test_rm *rm)
{
	uint64_t bytes = 0;

	CHECK_EQUAL(test_rm_fb_info(rm, FB_INFO_INDEX_HEAP_FREE, &bytes), NV_OK);
	return bytes;
}

static int try_vidmem(struct test_rm *rm, uint64_t bytes, uint32_t *object)
{
	*object = 0;
	return test_rm_vidmem(rm, &bytes, object);
}

/* Requests are told by number and size alone; what is unknown is EINVAL. */
static void test_requests(struct test_rm *rm)
{
	uint8_t args[FREE_SIZE] = { 0 };
	uint32_t object = 0;
	uint64_t before = free_bytes(rm);
	uint64_t bytes = 2 * MIB;

	CHECK_EQUAL(test_rm_call(rm->ctl, NV_ESC_RM_FREE, args, FREE_SIZE - 4), -EINVAL);
	CHECK_EQUAL(test_rm_call(rm->ctl, 0x01, args, 16), -EINVAL);
	CHECK_EQUAL(test_rm_call(rm->gpu, NV_ESC_RM_FREE, args, FREE_SIZE), -EINVAL);
	/* the real driver looks at neither type nor direction */
	CHECK_EQUAL(test_rm_vidmem(rm, &bytes, &object), NV_OK);
	put_u32(args, FREE_ROOT, rm->client);
	put_u32(args, FREE_OBJECT, object);
	CHECK_EQUAL(ioctl(rm->ctl, FREE_SIZE << 16 | 'x' << 8 | NV_ESC_RM_FREE, args), 0);
	CHECK_EQUAL(get_u32(args, FREE_STATUS), NV_OK);
	CHECK_EQUAL(free_bytes(rm), before);
	/* a bad address is EFAULT */
	CHECK_EQUAL(test_rm_call(rm->ctl, NV_ESC_RM_FREE, NULL, FREE_SIZE), -EFAULT);
	CHECK_EQUAL(ioctl(rm->ctl, FREE_SIZE << 16 | NV_ESC_RM_FREE, NULL), -1);
	CHECK_EQUAL(errno, EFAULT);
}

/* The same call inside XFER_CMD. */
static void test_xfer(struct test_rm *rm)
{
	uint8_t args[FREE_SIZE] = { 0 };
	uint8_t xfer[16] = { 0 };
	uint32_t object = 0;
	uint64_t before = free_bytes(rm);

	CHECK_EQUAL(try_vidmem(rm, 2 * MIB, &object), NV_OK);
	put_u32(args, FREE_ROOT, rm->client);
	put_u32(args, FREE_OBJECT, object);
	put_u32(xfer, 0, NV_ESC_RM_FREE);
	put_u32(xfer, 4, FREE_SIZE);
	put_u64(xfer, 8, (uintptr_t)args);
	CHECK_EQUAL(test_rm_call(rm->ctl, NV_ESC_IOCTL_XFER_CMD, xfer, sizeof(xfer)), 0);
	CHECK_EQUAL(free_bytes(rm), before);
}

static void test_sizes(struct test_rm *rm)
{
	uint64_t before = free_bytes(rm);
	uint32_t object = 0;
	uint64_t bytes = 1;

	CHECK_EQUAL(test_rm_vidmem(rm, &bytes, &object), NV_OK);
	CHECK_EQUAL(bytes, 64 << 10);
	CHECK_EQUAL(free_bytes(rm), before - (64 << 10));
	CHECK_EQUAL(test_rm_free(rm, rm->client, object), NV_OK);
	bytes = 2 * MIB + 1;
	object = 0;
	CHECK_EQUAL(test_rm_vidmem(rm, &bytes, &object), NV_OK);
	CHECK_EQUAL(bytes, 4 * MIB);
	CHECK_EQUAL(test_rm_free(rm, rm->client, object), NV_OK);
	bytes = 0;
	CHECK_EQUAL(test_rm_vidmem(rm, &bytes, NULL), NV_ERR_INVALID_ARGUMENT);
	bytes = UINT64_MAX;
	CHECK_EQUAL(test_rm_vidmem(rm, &bytes, NULL), NV_ERR_NO_MEMORY);
	CHECK_EQUAL(free_bytes(rm), before);
}

/* Class 0x40 is video memory only. */
static void test_location(struct test_rm *rm)
{
	uint8_t params[128] = { 0 };
	uint32_t object = 0;

	put_u64(params, MEMORY_BYTES, MIB);
	put_u32(params, MEMORY_ATTR, 1u << 25);
	CHECK_EQUAL(test_rm_alloc(rm, rm->client, rm->device, &object, 0x40, params), NV_ERR_INVALID_ARGUMENT);
	put_u32(params, MEMORY_ATTR, 0);
	put_u32(params, MEMORY_FLAGS, 0x80000);
	CHECK_EQUAL(test_rm_alloc(rm, rm->client, rm->device, &object, 0x40, params), NV_ERR_INVALID_ARGUMENT);
	CHECK_EQUAL(test_rm_alloc(rm, rm->client, rm->device, &object, 0x40, NULL), NV_ERR_INVALID_ARGUMENT);
	put_u32(params, MEMORY_FLAGS, 0);
	CHECK_EQUAL(test_rm_alloc(rm, rm->client, rm->client, &object, 0x40, params), NV_ERR_INVALID_OBJECT_PARENT);
	CHECK_EQUAL(test_rm_alloc(rm, rm->client, rm->device, &object, 0xdead, params), NV_ERR_INVALID_CLASS);
	CHECK_EQUAL(test_rm_alloc_short(rm, rm->client, rm->subdevice, &object, 0x40, params), NV_OK);
	CHECK_EQUAL(test_rm_free(rm, rm->client, object), NV_OK);
}

/* A full card says NO_MEMORY, and takes again what is given back. */
static void test_full(struct test_rm *rm)
{
	uint64_t left = free_bytes(rm);
	uint32_t most = 0, more = 0;

	CHECK_EQUAL(try_vidmem(rm, left / (2 * MIB) * (2 * MIB), &most), NV_OK);
	CHECK_EQUAL(try_vidmem(rm, 2 * MIB, &more), NV_ERR_NO_MEMORY);
	CHECK_EQUAL(test_rm_free(rm, rm->client, most), NV_OK);
	CHECK_EQUAL(free_bytes(rm), left);
	CHECK_EQUAL(try_vidmem(rm, 2 * MIB, &more), NV_OK);
	CHECK_EQUAL(test_rm_free(rm, rm->client, more), NV_OK);
}

static void test_handles(struct test_rm *rm)
{
	uint32_t object = 0x5c000001, again = 0x5c000001, client = 0;
	uint64_t bytes = MIB;
	uint64_t before = free_bytes(rm);

	CHECK_EQUAL(test_rm_vidmem(rm, &bytes, &object), NV_OK);
	CHECK_EQUAL(object, 0x5c000001);
	CHECK_EQUAL(test_rm_vidmem(rm, &bytes, &again), 0x19);
	/* what is unknown is freed with success, and nothing happens */
	CHECK_EQUAL(test_rm_free(rm, rm->client, 0x5c00ffff), NV_OK);
	CHECK_EQUAL(free_bytes(rm), before - MIB);
	CHECK_EQUAL(test_rm_free(rm, rm->client, object), NV_OK);
	CHECK_EQUAL(test_rm_client(rm, &client), NV_OK);
	CHECK_EQUAL(client >> 20, 0xc1d);
	CHECK(client != rm->client);
	CHECK_EQUAL(test_rm_free(rm, client, client), NV_OK);
	CHECK_EQUAL(test_rm_free(rm, client, client), NV_ERR_INVALID_CLIENT);
}

/* Freeing a parent frees what hangs on it. */
static void test_tree(struct test_rm *rm)
{
	struct test_rm other;
	uint64_t before = free_bytes(rm);
	uint32_t object = 0;

	CHECK_EQUAL(test_rm_open(&other, 0), 0);
	CHECK_EQUAL(try_vidmem(&other, 16 * MIB, &object), NV_OK);
	CHECK_EQUAL(free_bytes(rm), before - 16 * MIB);
	CHECK_EQUAL(test_rm_free(&other, other.client, other.device), NV_OK);
	CHECK_EQUAL(free_bytes(rm), before);
	CHECK_EQUAL(test_rm_control(&other, other.client, other.subdevice, 0x2080014a, NULL, 0),
		    NV_ERR_INVALID_OBJECT_HANDLE);
	test_rm_close(&other);
}

/* A client works through its own file only. */
static void test_files(struct test_rm *rm)
{
	struct test_rm other;
	uint64_t before = free_bytes(rm);
	uint32_t object = 0;
	uint64_t bytes = 8 * MIB;
	int copy;

	CHECK_EQUAL(test_rm_open(&other, 0), 0);
	CHECK_EQUAL(test_rm_free(&other, rm->client, rm->client), NV_ERR_INVALID_CLIENT);
	CHECK_EQUAL(try_vidmem(&other, 8 * MIB, &object), NV_OK);
	copy = dup(other.ctl);
	test_rm_close(&other);
	/* a copy of the descriptor is the same open file */
	CHECK_EQUAL(free_bytes(rm), before - bytes);
	close(copy);
	CHECK_EQUAL(free_bytes(rm), before);
	/* a file registered to the control file keeps it */
	CHECK_EQUAL(test_rm_open(&other, 0), 0);
	CHECK_EQUAL(try_vidmem(&other, 8 * MIB, &object), NV_OK);
	close(other.ctl);
	CHECK_EQUAL(free_bytes(rm), before - bytes);
	close(other.gpu);
	CHECK_EQUAL(free_bytes(rm), before);
	CHECK_EQUAL(test_rm_register_fd(rm->gpu, rm->ctl), -EINVAL);
}

/* A second control file, registered, is as good as the first. */
static void test_registered_ctl(struct test_rm *rm)
{
	uint64_t before = free_bytes(rm);
	uint32_t object = 0;
	struct test_rm second = *rm;

	second.ctl = open("/dev/nvidiactl", O_RDWR | O_CLOEXEC);
	CHECK(second.ctl >= 0);
	CHECK_EQUAL(try_vidmem(&second, 2 * MIB, &object), NV_ERR_INVALID_CLIENT);
	CHECK_EQUAL(test_rm_register_fd(second.ctl, rm->ctl), 0);
	CHECK_EQUAL(try_vidmem(&second, 2 * MIB, &object), NV_OK);
	close(second.ctl);
	CHECK_EQUAL(free_bytes(rm), before - 2 * MIB);
	CHECK_EQUAL(test_rm_free(rm, rm->client, object), NV_OK);
}

/* What a process that died held is free when its parent knows of its death. */
static void test_death(struct test_rm *rm)
{
	uint64_t before = free_bytes(rm);

	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();
		int status;

		CHECK(pid >= 0);
		if (pid == 0) {
			struct test_rm child;
			uint32_t object;

			CHECK_EQUAL(test_rm_open(&child, 0), 0);
			CHECK_EQUAL(try_vidmem(&child, 32 * MIB, &object), NV_OK);
			CHECK_EQUAL(free_bytes(&child), before - 32 * MIB);
			raise(SIGKILL);
		}
		CHECK_EQUAL(waitpid(pid, &status, 0), pid);
		CHECK(WIFSIGNALED(status));
		CHECK_EQUAL(free_bytes(rm), before);
	}
}

/* Every way of asking gives the same figures. */
static void test_info(struct test_rm *rm)
{
	uint64_t total, left, v1, v2;

	CHECK_EQUAL(test_rm_heap_info(rm, &total, &left), NV_OK);
	CHECK_EQUAL(test_rm_fb_info(rm, FB_INFO_INDEX_HEAP_SIZE, &v2), NV_OK);
	CHECK_EQUAL(total, v2);
	CHECK_EQUAL(left, free_bytes(rm));
	CHECK_EQUAL(test_rm_fb_info_v1(rm, FB_INFO_INDEX_HEAP_FREE, &v1), NV_OK);
	CHECK_EQUAL(v1, left);
	CHECK_EQUAL(test_rm_fb_info(rm, FB_INFO_INDEX_TOTAL_RAM_SIZE, &v2), NV_OK);
	CHECK(v2 > total);
	/* the size of parameters is exact */
	CHECK_EQUAL(test_rm_control(rm, rm->client, rm->subdevice, NV2080_CTRL_CMD_FB_GET_INFO, &v1, 8),
		    NV_ERR_INVALID_PARAM_STRUCT);
	CHECK_EQUAL(test_rm_control(rm, rm->client, rm->subdevice, 0x20800fff, &v1, 8), NV_ERR_NOT_SUPPORTED);
}

static void test_vid_heap(struct test_rm *rm)
{
	static const uint32_t functions[] = { HEAP_FUNCTION_ALLOC_SIZE, HEAP_FUNCTION_ALLOC_TILED,
					      HEAP_FUNCTION_ALLOC_RANGE };
	uint64_t before = free_bytes(rm);

	for (int i = 0; i < 3; i++) {
		uint64_t bytes = 6 * MIB;
		uint32_t object = 0;

		CHECK_EQUAL(test_rm_heap_alloc(rm, functions[i], &bytes, &object), NV_OK);
		CHECK_EQUAL(bytes, 6 * MIB);
		CHECK_EQUAL(free_bytes(rm), before - 6 * MIB);
		CHECK_EQUAL(test_rm_heap_free(rm, object), NV_OK);
		CHECK_EQUAL(free_bytes(rm), before);
	}
}

/* ALLOC_MEMORY, on a GPU's own file, never gives video memory. */
static void test_alloc_memory(struct test_rm *rm)
{
	uint8_t args[56] = { 0 };
	uint64_t before = free_bytes(rm);

	put_u32(args, 0, rm->client);
	put_u32(args, 4, rm->device);
	put_u32(args, 12, 0x40);
	put_u64(args, 32, 16 * MIB - 1);
	CHECK_EQUAL(test_rm_call(rm->ctl, NV_ESC_RM_ALLOC_MEMORY, args, sizeof(args)), -EINVAL);
	CHECK_EQUAL(test_rm_call(rm->gpu, NV_ESC_RM_ALLOC_MEMORY, args, sizeof(args)), 0);
	CHECK_EQUAL(get_u32(args, 40), NV_OK);
	CHECK_EQUAL(free_bytes(rm), before);
	CHECK_EQUAL(test_rm_free(rm, rm->client, get_u32(args, 8)), NV_OK);
}

/* The 32-bit entry of the kernel leads to the same calls. */
static void test_compat(struct test_rm *rm)
{
#ifdef __x86_64__
	uint64_t before = free_bytes(rm);
	uint32_t object = 0;
	uint8_t *args = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	long r;

	CHECK(args != MAP_FAILED);
	CHECK_EQUAL(try_vidmem(rm, 2 * MIB, &object), NV_OK);
	put_u32(args, FREE_ROOT, rm->client);
	put_u32(args, FREE_OBJECT, object);
	__asm__ volatile("int $0x80" : "=a"(r)
			 : "a"(54L), "b"((long)rm->ctl), "c"((long)abi_request(NV_ESC_RM_FREE, FREE_SIZE)),
			   "d"((long)args) : "memory", "r8", "r9", "r10", "r11");
	if (r == -ENOSYS) {
		fputs("no 32-bit calls in this kernel: not tested\n", stderr);
		test_rm_free(rm, rm->client, object);
	} else {
		CHECK_EQUAL(r, 0);
	}
	CHECK_EQUAL(free_bytes(rm), before);
	munmap(args, 4096);
#endif
}

int main(void)
{
	static void (*const tests[])(struct test_rm *) = {
		test_requests, test_xfer, test_sizes, test_location, test_full, test_handles, test_tree, test_files,
		test_registered_ctl, test_death, test_info, test_vid_heap, test_alloc_memory, test_compat,
	};
	struct test_rm rm;
	uint64_t before;

	CHECK_EQUAL(test_rm_open(&rm, 0), 0);
	before = free_bytes(&rm);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		tests[i](&rm);
		CHECK_EQUAL(free_bytes(&rm), before);
	}
	test_rm_close(&rm);
	return 0;
}
