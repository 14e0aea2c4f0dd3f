/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator's channels: hidden memory of groups, gates, time slices, privileges. Run under fracgpu-sim with two
 * GPUs. */
#include <grp.h>
#include <string.h>
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

/* Whether the state has a channel with these flags. */
static void check_channel(uint32_t channel, bool enabled, bool scheduled)
{
	char want[128];
	char handle[32];
	char *state = test_sim_state();
	char *at;

	CHECK(state);
	snprintf(handle, sizeof(handle), "{\"handle\": %u, \"group\"", channel);
	snprintf(want, sizeof(want), "\"enabled\": %s, \"scheduled\": %s,", enabled ? "true" : "false",
		 scheduled ? "true" : "false");
	at = strstr(state, handle);
	CHECK(at);
	at = strstr(at, "\"enabled\"");
	CHECK(at);
	if (strncmp(at, want, strlen(want)) != 0)
		fprintf(stderr, "%.60s\n", at);
	CHECK(strncmp(at, want, strlen(want)) == 0);
	free(state);
}

/* Context buffers come out of the heap and are nobody's. */
static void test_hidden(struct test_rm *rm)
{
	uint64_t before = free_bytes(rm);
	uint64_t bytes[3];
	uint32_t group = 0, channel = 0;

	CHECK_EQUAL(test_rm_group(rm, &group), NV_OK);
	CHECK_EQUAL(test_rm_channel(rm, group, &channel, 0), NV_OK);
	CHECK_EQUAL(free_bytes(rm), before - 2 * MIB);
	CHECK_EQUAL(test_rm_pid_info(rm, (uint32_t)getpid(), bytes), NV_OK);
	CHECK_EQUAL(bytes[0] + bytes[1] + bytes[2], 0);
	CHECK_EQUAL(test_rm_free(rm, rm->client, group), NV_OK);
	CHECK_EQUAL(free_bytes(rm), before);
	/* the channel went with its group */
	CHECK_EQUAL(test_rm_disable(rm, rm->client, channel, true), 0x21);
}

/* A channel goes with the memory its USERD is in. */
static void test_depends(struct test_rm *rm)
{
	uint32_t group = 0, channel = 0, memory = 0;
	uint64_t bytes = MIB;

	CHECK_EQUAL(test_rm_vidmem(rm, &bytes, &memory), NV_OK);
	CHECK_EQUAL(test_rm_group(rm, &group), NV_OK);
	CHECK_EQUAL(test_rm_channel(rm, group, &channel, memory), NV_OK);
	CHECK_EQUAL(test_rm_disable(rm, rm->client, channel, true), NV_OK);
	CHECK_EQUAL(test_rm_free(rm, rm->client, memory), NV_OK);
	CHECK_EQUAL(test_rm_disable(rm, rm->client, channel, false), 0x21);
	CHECK_EQUAL(test_rm_free(rm, rm->client, group), NV_OK);
}

/* Anyone closes and opens anyone's channels; scheduling opens too. */
static void test_gate(struct test_rm *rm)
{
	uint32_t group = 0, channel = 0;
	int status;
	pid_t pid;

	CHECK_EQUAL(test_rm_group(rm, &group), NV_OK);
	CHECK_EQUAL(test_rm_channel(rm, group, &channel, 0), NV_OK);
	check_channel(channel, true, false);
	CHECK_EQUAL(test_rm_schedule(rm, group, true), NV_OK);
	check_channel(channel, true, true);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		struct test_rm other;

		CHECK_EQUAL(setgroups(0, NULL), 0);
		CHECK_EQUAL(setgid(65534), 0);
		CHECK_EQUAL(setuid(65534), 0);
		CHECK_EQUAL(test_rm_open(&other, 0), 0);
		CHECK_EQUAL(test_rm_disable(&other, rm->client, channel, true), NV_OK);
		check_channel(channel, false, true);
		_exit(0);
	}
	CHECK_EQUAL(waitpid(pid, &status, 0), pid);
	CHECK_EQUAL(status, 0);
	/* whoever closed it is gone, and it stays closed */
	check_channel(channel, false, true);
	CHECK_EQUAL(test_rm_disable(rm, rm->client, channel, false), NV_OK);
	check_channel(channel, true, true);
	CHECK_EQUAL(test_rm_disable(rm, rm->client, channel, true), NV_OK);
	CHECK_EQUAL(test_rm_schedule(rm, group, true), NV_OK);
	check_channel(channel, true, true);
	CHECK_EQUAL(test_rm_schedule(rm, group, false), NV_OK);
	check_channel(channel, true, false);
	CHECK_EQUAL(test_rm_free(rm, rm->client, group), NV_OK);
}

static void test_disable_arguments(struct test_rm *rm)
{
	uint8_t params[DISABLE_SIZE] = { 1 };
	uint32_t group = 0, channel = 0;

	CHECK_EQUAL(test_rm_group(rm, &group), NV_OK);
	CHECK_EQUAL(test_rm_channel(rm, group, &channel, 0), NV_OK);
	put_u32(params, DISABLE_COUNT, DISABLE_MAX + 1);
	CHECK_EQUAL(test_rm_control(rm, rm->client, rm->subdevice, NV2080_CTRL_CMD_FIFO_DISABLE_CHANNELS, params,
				    sizeof(params)), NV_ERR_INVALID_ARGUMENT);
	put_u32(params, DISABLE_COUNT, 0);
	put_u64(params, DISABLE_EVENT, 1);
	CHECK_EQUAL(test_rm_control(rm, rm->client, rm->subdevice, NV2080_CTRL_CMD_FIFO_DISABLE_CHANNELS, params,
				    sizeof(params)), NV_ERR_INSUFFICIENT_PERMISSIONS);
	CHECK_EQUAL(test_rm_disable(rm, rm->client, group, true), 0x21);
	CHECK_EQUAL(test_rm_disable(rm, 0x1234, channel, true), 0x21);
	CHECK_EQUAL(test_rm_free(rm, rm->client, group), NV_OK);
}

static void test_timeslice(struct test_rm *rm)
{
	uint64_t slice = 1500;
	uint32_t group = 0;

	CHECK_EQUAL(test_rm_group(rm, &group), NV_OK);
	CHECK_EQUAL(test_rm_control(rm, rm->client, group, NVA06C_CTRL_CMD_SET_TIMESLICE, &slice, 8), NV_OK);
	slice = 0;
	CHECK_EQUAL(test_rm_control(rm, rm->client, group, 0xa06c0104, &slice, 8), NV_OK);
	CHECK_EQUAL(slice, 1500);
	CHECK_EQUAL(test_rm_control(rm, rm->client, rm->subdevice, 0xa06c0104, &slice, 8),
		    NV_ERR_INVALID_OBJECT_HANDLE);
	CHECK_EQUAL(test_rm_free(rm, rm->client, group), NV_OK);
}

/* What needs CAP_SYS_ADMIN of the caller. */
static void test_privileges(struct test_rm *rm)
{
	int status;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		struct test_rm other;
		uint32_t object = 0;
		uint32_t level = 0;

		CHECK_EQUAL(setgid(65534), 0);
		CHECK_EQUAL(setuid(65534), 0);
		CHECK_EQUAL(test_rm_open(&other, 0), 0);
		CHECK_EQUAL(test_rm_alloc(&other, other.client, other.device, &object, 0x82, NULL),
			    NV_ERR_INSUFFICIENT_PERMISSIONS);
		CHECK_EQUAL(test_rm_control(&other, other.client, other.subdevice, 0x20801119, &level, 4),
			    NV_ERR_INSUFFICIENT_PERMISSIONS);
		_exit(0);
	}
	CHECK_EQUAL(waitpid(pid, &status, 0), pid);
	CHECK_EQUAL(status, 0);
}

/* Each GPU has its own memory. */
static void test_two_gpus(struct test_rm *rm)
{
	struct test_rm second;
	uint64_t before = free_bytes(rm);
	uint64_t bytes = 64 * MIB;
	uint64_t second_before;
	uint32_t object = 0, dup = 0;

	CHECK_EQUAL(test_rm_open(&second, 1), 0);
	second_before = free_bytes(&second);
	CHECK(second_before != before);
	CHECK_EQUAL(test_rm_vidmem(&second, &bytes, &object), NV_OK);
	CHECK_EQUAL(free_bytes(rm), before);
	CHECK_EQUAL(free_bytes(&second), second_before - bytes);
	CHECK_EQUAL(test_rm_dup(rm, rm->client, rm->device, &dup, second.client, object), NV_ERR_INVALID_OBJECT_PARENT);
	test_rm_close(&second);
	CHECK_EQUAL(test_rm_open(&second, 2), -2);	/* ENOENT */
	test_rm_close(&second);
}

int main(void)
{
	static void (*const tests[])(struct test_rm *) = {
		test_hidden, test_depends, test_gate, test_disable_arguments, test_timeslice, test_privileges,
		test_two_gpus,
	};
	struct test_rm rm;
	uint64_t before;

	if (geteuid() != 0) {
		fputs("needs root: changes its user\n", stderr);
		return 77;
	}
	CHECK_EQUAL(test_rm_open(&rm, 0), 0);
	before = free_bytes(&rm);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		tests[i](&rm);
		CHECK_EQUAL(free_bytes(&rm), before);
	}
	test_rm_close(&rm);
	return 0;
}
