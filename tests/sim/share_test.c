/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator's sharing: dups, exports, processes as the driver counts them, UVM mappings that keep memory. Run under
 * fracgpu-sim, one GPU. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lib/check.h"
#include "lib/test_rm.h"

#define MIB (1ull << 20)
#define BASE 0x700000000000ull

enum { PRIVATE, OWNED, DUPED };

static uint64_t free_bytes(struct test_rm *rm)
{
	uint64_t bytes = 0;

	CHECK_EQUAL(test_rm_fb_info(rm, FB_INFO_INDEX_HEAP_FREE, &bytes), NV_OK);
	return bytes;
}

static uint32_t vidmem(struct test_rm *rm, uint64_t bytes)
{
	uint32_t object = 0;

	CHECK_EQUAL(test_rm_vidmem(rm, &bytes, &object), NV_OK);
	return object;
}

static void check_pid_info(struct test_rm *rm, pid_t pid, uint64_t private_bytes, uint64_t owned, uint64_t duped)
{
	uint64_t bytes[3];

	CHECK_EQUAL(test_rm_pid_info(rm, (uint32_t)pid, bytes), NV_OK);
	CHECK_EQUAL(bytes[PRIVATE], private_bytes);
	CHECK_EQUAL(bytes[OWNED], owned);
	CHECK_EQUAL(bytes[DUPED], duped);
}

/* Memory with two names is gone with the last. */
static void test_dup(struct test_rm *rm)
{
	struct test_rm other;
	uint64_t before = free_bytes(rm);
	uint32_t object = vidmem(rm, 4 * MIB);
	uint32_t dup = 0;

	CHECK_EQUAL(test_rm_open(&other, 0), 0);
	check_pid_info(rm, getpid(), 4 * MIB, 0, 0);
	CHECK_EQUAL(test_rm_dup(&other, other.client, other.device, &dup, rm->client, object), NV_OK);
	CHECK(dup != 0);
	/* both clients are ours */
	check_pid_info(rm, getpid(), 0, 4 * MIB, 4 * MIB);
	CHECK_EQUAL(free_bytes(rm), before - 4 * MIB);
	CHECK_EQUAL(test_rm_free(rm, rm->client, object), NV_OK);
	CHECK_EQUAL(free_bytes(rm), before - 4 * MIB);
	check_pid_info(rm, getpid(), 4 * MIB, 0, 0);
	CHECK_EQUAL(test_rm_free(&other, other.client, dup), NV_OK);
	CHECK_EQUAL(free_bytes(rm), before);
	dup = 0;
	CHECK_EQUAL(test_rm_dup(&other, other.client, other.device, &dup, rm->client, object), NV_ERR_OBJECT_NOT_FOUND);
	test_rm_close(&other);
}

/* Another process may not dup before it was shared. */
static void test_dup_across(struct test_rm *rm)
{
	uint64_t before = free_bytes(rm);
	uint32_t object = vidmem(rm, 4 * MIB);
	pid_t self = getpid();
	int pipes[2][2];
	char byte = 0;
	int status;
	pid_t pid;

	CHECK_EQUAL(pipe(pipes[0]), 0);
	CHECK_EQUAL(pipe(pipes[1]), 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		struct test_rm other;
		uint32_t dup = 0;

		CHECK_EQUAL(test_rm_open(&other, 0), 0);
		CHECK_EQUAL(test_rm_dup(&other, other.client, other.device, &dup, rm->client, object),
			    NV_ERR_INSUFFICIENT_PERMISSIONS);
		CHECK_EQUAL(write(pipes[0][1], "", 1), 1);
		CHECK_EQUAL(read(pipes[1][0], &byte, 1), 1);
		CHECK_EQUAL(test_rm_dup(&other, other.client, other.device, &dup, rm->client, object), NV_OK);
		check_pid_info(&other, self, 0, 4 * MIB, 0);
		check_pid_info(&other, getpid(), 0, 0, 4 * MIB);
		CHECK_EQUAL(write(pipes[0][1], "", 1), 1);
		CHECK_EQUAL(read(pipes[1][0], &byte, 1), 1);
		_exit(0);
	}
	CHECK_EQUAL(read(pipes[0][0], &byte, 1), 1);
	CHECK_EQUAL(test_rm_share(rm, rm->client, object), NV_OK);
	CHECK_EQUAL(write(pipes[1][1], "", 1), 1);
	CHECK_EQUAL(read(pipes[0][0], &byte, 1), 1);
	CHECK_EQUAL(test_rm_free(rm, rm->client, object), NV_OK);
	CHECK_EQUAL(free_bytes(rm), before - 4 * MIB);
	CHECK_EQUAL(write(pipes[1][1], "", 1), 1);
	CHECK_EQUAL(waitpid(pid, &status, 0), pid);
	CHECK_EQUAL(status, 0);
	CHECK_EQUAL(free_bytes(rm), before);
	for (int i = 0; i < 4; i++)
		close(pipes[i / 2][i % 2]);
}

/* An export lives in the file it was put in, whoever holds that. */
static void test_export(struct test_rm *rm)
{
	uint64_t before = free_bytes(rm);
	uint32_t object = vidmem(rm, 4 * MIB);
	uint32_t imported = 0;
	int fd = open("/dev/nvidiactl", O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQUAL(test_rm_import(rm, fd, &imported), NV_ERR_INVALID_ARGUMENT);
	CHECK_EQUAL(test_rm_export(rm, object, -1), NV_ERR_INVALID_ARGUMENT);
	CHECK_EQUAL(test_rm_export(rm, object, 0), NV_ERR_INVALID_ARGUMENT);
	CHECK_EQUAL(test_rm_export(rm, object, fd), NV_OK);
	CHECK_EQUAL(test_rm_free(rm, rm->client, object), NV_OK);
	CHECK_EQUAL(free_bytes(rm), before - 4 * MIB);
	check_pid_info(rm, getpid(), 0, 0, 0);
	CHECK_EQUAL(test_rm_import(rm, fd, &imported), NV_OK);
	check_pid_info(rm, getpid(), 0, 0, 4 * MIB);
	CHECK_EQUAL(test_rm_free(rm, rm->client, imported), NV_OK);
	CHECK_EQUAL(free_bytes(rm), before - 4 * MIB);
	close(fd);
	CHECK_EQUAL(free_bytes(rm), before);
}

/* Classes that keep memory without being memory. */
static void test_reference(struct test_rm *rm)
{
	uint64_t before = free_bytes(rm);
	uint32_t object = vidmem(rm, 4 * MIB);
	uint32_t surface[4] = { object };
	uint32_t keeper = 0;

	CHECK_EQUAL(test_rm_alloc(rm, rm->client, rm->device, &keeper, 0xda, surface), NV_OK);
	check_pid_info(rm, getpid(), 0, 4 * MIB, 0);
	CHECK_EQUAL(test_rm_free(rm, rm->client, object), NV_OK);
	check_pid_info(rm, getpid(), 0, 0, 0);
	CHECK_EQUAL(free_bytes(rm), before - 4 * MIB);
	CHECK_EQUAL(test_rm_free(rm, rm->client, keeper), NV_OK);
	CHECK_EQUAL(free_bytes(rm), before);
}

/* Processes by what they have; the client's, not the caller's. */
static void test_pids(struct test_rm *rm)
{
	uint32_t pids[8] = { 0 };
	uint32_t count = 8;
	uint32_t group = 0, channel = 0, compute = 0;

	CHECK_EQUAL(test_rm_pids(rm, TEST_RM_CLASS_COMPUTE, pids, &count), NV_OK);
	CHECK_EQUAL(count, 0);
	CHECK_EQUAL(test_rm_group(rm, &group), NV_OK);
	CHECK_EQUAL(test_rm_channel(rm, group, &channel, 0), NV_OK);
	CHECK_EQUAL(test_rm_alloc(rm, rm->client, channel, &compute, TEST_RM_CLASS_COMPUTE, NULL), NV_OK);
	count = 8;
	CHECK_EQUAL(test_rm_pids(rm, TEST_RM_CLASS_COMPUTE, pids, &count), NV_OK);
	CHECK_EQUAL(count, 1);
	CHECK_EQUAL(pids[0], getpid());
	CHECK_EQUAL(test_rm_free(rm, rm->client, group), NV_OK);
	count = 8;
	CHECK_EQUAL(test_rm_pids(rm, TEST_RM_CLASS_COMPUTE, pids, &count), NV_OK);
	CHECK_EQUAL(count, 0);
}

/* In a PID namespace of its own, a process sees that namespace's processes, under their numbers there; before 535.113.01
 * all of them, under the host's. */
static void test_pid_namespace(struct test_rm *rm)
{
	struct abi_version version;
	bool translates;
	uint32_t pids[8] = { 0 };
	uint32_t count = 8;
	int status;
	pid_t pid;

	CHECK_EQUAL(abi_version_parse(rm->version_text, &version), 0);
	translates = abi_version_compare(version, (struct abi_version){ 535, 113, 1 }) >= 0;
	vidmem(rm, 4 * MIB);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		struct test_rm other;

		if (unshare(CLONE_NEWPID) < 0) {
			fprintf(stderr, "no PID namespace here: not tested\n");
			_exit(0);
		}
		pid = fork();
		CHECK(pid >= 0);
		if (pid) {
			CHECK_EQUAL(waitpid(pid, &status, 0), pid);
			CHECK_EQUAL(status, 0);
			_exit(0);
		}
		CHECK_EQUAL(getpid(), 1);
		CHECK_EQUAL(test_rm_open(&other, 0), 0);
		vidmem(&other, 2 * MIB);
		CHECK_EQUAL(test_rm_pids(&other, 0x80, pids, &count), NV_OK);
		if (translates) {
			CHECK_EQUAL(count, 1);
			CHECK_EQUAL(pids[0], 1);
			check_pid_info(&other, 1, 2 * MIB, 0, 0);
		} else {
			CHECK_EQUAL(count, 2);
		}
		/* through the other file, the caller is still who asks */
		CHECK_EQUAL(test_rm_pids(rm, 0x80, pids, &count), NV_OK);
		CHECK_EQUAL(count, translates ? 1 : 2);
		_exit(0);
	}
	CHECK_EQUAL(waitpid(pid, &status, 0), pid);
	CHECK_EQUAL(status, 0);
	check_pid_info(rm, getpid(), 4 * MIB, 0, 0);
	CHECK_EQUAL(test_rm_free(rm, rm->client, rm->device), NV_OK);
	test_rm_close(rm);
	CHECK_EQUAL(test_rm_open(rm, 0), 0);
}

/* A forked child is not who made the client: it may allocate with the file it has, but not map. */
static void test_fork(struct test_rm *rm)
{
	uint8_t map[56] = { 0 };
	uint32_t object = vidmem(rm, 2 * MIB);
	int status;
	pid_t pid;

	put_u32(map, 0, rm->client);
	put_u32(map, 4, rm->device);
	put_u32(map, 8, object);
	put_u64(map, 24, 4096);
	put_u32(map, 48, (uint32_t)rm->gpu);
	CHECK_EQUAL(test_rm_call(rm->ctl, NV_ESC_RM_MAP_MEMORY, map, sizeof(map)), 0);
	CHECK_EQUAL(get_u32(map, 40), NV_OK);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		vidmem(rm, 2 * MIB);
		check_pid_info(rm, getpid(), 0, 0, 0);
		check_pid_info(rm, getppid(), 4 * MIB, 0, 0);
		CHECK_EQUAL(test_rm_call(rm->ctl, NV_ESC_RM_MAP_MEMORY, map, sizeof(map)), 0);
		CHECK_EQUAL(get_u32(map, 40), NV_ERR_INVALID_CLIENT);
		_exit(0);
	}
	CHECK_EQUAL(waitpid(pid, &status, 0), pid);
	CHECK_EQUAL(status, 0);
	check_pid_info(rm, getpid(), 4 * MIB, 0, 0);
	CHECK_EQUAL(test_rm_free(rm, rm->client, rm->device), NV_OK);
	test_rm_close(rm);
	CHECK_EQUAL(test_rm_open(rm, 0), 0);
}

/* ---- UVM ---- */

/* An external mapping keeps memory that was freed. */
static void test_external(struct test_rm *rm)
{
	struct test_rm *uvm = rm;
	uint64_t before = free_bytes(rm);
	uint32_t object = vidmem(rm, 4 * MIB);

	CHECK_EQUAL(test_uvm_open(uvm), NV_OK);
	CHECK_EQUAL(test_uvm_map(uvm, BASE, 4 * MIB, rm->client, object), 0x1e);
	CHECK_EQUAL(test_uvm_range(uvm, BASE, 8 * MIB), NV_OK);
	CHECK_EQUAL(test_uvm_range(uvm, BASE + 4 * MIB, 8 * MIB), 0x1e);
	CHECK_EQUAL(test_uvm_map(uvm, BASE, 4 * MIB, rm->client, 0x1234), NV_ERR_OBJECT_NOT_FOUND);
	CHECK_EQUAL(test_uvm_map(uvm, BASE, 4 * MIB, 0x1234, object), NV_ERR_INVALID_CLIENT);
	CHECK_EQUAL(test_uvm_map(uvm, BASE, 4 * MIB, rm->client, object), NV_OK);
	check_pid_info(rm, getpid(), 0, 4 * MIB, 0);
	CHECK_EQUAL(test_rm_free(rm, rm->client, object), NV_OK);
	CHECK_EQUAL(free_bytes(rm), before - 4 * MIB);
	CHECK_EQUAL(test_uvm_unmap(uvm, BASE, 4 * MIB), NV_OK);
	CHECK_EQUAL(free_bytes(rm), before);

	object = vidmem(rm, 4 * MIB);
	CHECK_EQUAL(test_uvm_map(uvm, BASE + 4 * MIB, 4 * MIB, rm->client, object), NV_OK);
	CHECK_EQUAL(test_rm_free(rm, rm->client, object), NV_OK);
	CHECK_EQUAL(test_uvm_free(uvm, BASE, 8 * MIB), NV_OK);
	CHECK_EQUAL(free_bytes(rm), before);

	object = vidmem(rm, 4 * MIB);
	CHECK_EQUAL(test_uvm_range(uvm, BASE, 8 * MIB), NV_OK);
	CHECK_EQUAL(test_uvm_map(uvm, BASE, 4 * MIB, rm->client, object), NV_OK);
	CHECK_EQUAL(test_rm_free(rm, rm->client, object), NV_OK);
	close(rm->uvm);
	rm->uvm = -1;
	CHECK_EQUAL(free_bytes(rm), before);
}

/* Managed memory counts while it is mapped, by anyone but not against an allocation that needs the room. */
static void test_managed_memory(struct test_rm *rm)
{
	uint64_t before = free_bytes(rm);
	uint8_t range[24] = { 0 };
	unsigned char *managed;
	uint32_t object;
	int fd = open("/dev/nvidia-uvm", O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	put_u64(range, 0, BASE);
	put_u64(range, 8, MIB);
	CHECK_EQUAL(test_uvm_call(fd, UVM_CREATE_EXTERNAL_RANGE, range), 0);
	CHECK_EQUAL(get_u32(range, 16), 0x16);	/* not initialized */
	CHECK_EQUAL(test_uvm_call(fd, 0x7fffff, range), -EINVAL);
	close(fd);

	CHECK_EQUAL(test_uvm_open(rm), NV_OK);
	managed = test_managed(rm, 16 * MIB);
	CHECK(managed);
	CHECK_EQUAL(free_bytes(rm), before - 16 * MIB);
	managed[0] = 1;
	managed[16 * MIB - 1] = 2;
	CHECK_EQUAL(managed[0] + managed[16 * MIB - 1], 3);
	CHECK_EQUAL(munmap(managed + 8 * MIB, 8 * MIB), 0);
	CHECK_EQUAL(free_bytes(rm), before - 8 * MIB);
	object = vidmem(rm, before / (2 * MIB) * (2 * MIB));
	CHECK_EQUAL(test_rm_free(rm, rm->client, object), NV_OK);
	/* the mapping keeps the file */
	close(rm->uvm);
	rm->uvm = -1;
	CHECK_EQUAL(free_bytes(rm), before - 8 * MIB);
	CHECK_EQUAL(munmap(managed, 8 * MIB), 0);
	CHECK_EQUAL(free_bytes(rm), before);
}

/* An argument that lies in managed memory is served by the file system itself. */
static void test_argument_in_managed(struct test_rm *rm)
{
	uint8_t *args;

	CHECK_EQUAL(test_uvm_open(rm), NV_OK);
	args = test_managed(rm, MIB);
	CHECK(args);
	put_u32(args, FREE_ROOT, rm->client);
	put_u32(args, FREE_OBJECT, 0x77);
	put_u32(args, FREE_STATUS, 0x55);
	CHECK_EQUAL(test_rm_call(rm->ctl, NV_ESC_RM_FREE, args, FREE_SIZE), 0);
	CHECK_EQUAL(get_u32(args, FREE_STATUS), NV_OK);
	CHECK_EQUAL(munmap(args, MIB), 0);
	close(rm->uvm);
	rm->uvm = -1;
}

int main(void)
{
	static void (*const tests[])(struct test_rm *) = {
		test_dup, test_dup_across, test_export, test_reference, test_pids, test_pid_namespace, test_fork,
		test_external, test_managed_memory, test_argument_in_managed,
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
