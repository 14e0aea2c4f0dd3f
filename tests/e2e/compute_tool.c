/* SPDX-License-Identifier: Apache-2.0 */
/* GPU time on the simulator, for compute_test.sh. In a slice:
 *   tenant        makes a channel, says "CLIENT CHANNEL", and waits until it is killed; a SIGUSR1 has it ask for a timeslice
 *                 of 2048 us, as libcuda does some time after it has made its own, and say "asked"
 * outside of it:
 *   work CLIENT CHANNEL   gives it work without end
 *   busy CLIENT           says the ns that it was on the GPU so far, and the GPU's clock */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "abi/calls.h"
#include "base/bytes.h"
#include "lib/check.h"
#include "lib/test_rm.h"
#include "sim/runlist.h"

static struct test_rm rm;

static void wake(int number)
{
	(void)number;
}

static void tenant(void)
{
	uint32_t group = 0, channel = 0;
	uint64_t timeslice_us = 2048;

	signal(SIGUSR1, wake);

	CHECK_EQUAL(test_rm_group(&rm, &group), NV_OK);
	CHECK_EQUAL(test_rm_channel(&rm, group, &channel, 0), NV_OK);
	CHECK_EQUAL(test_rm_schedule(&rm, group, true), NV_OK);
	printf("%" PRIu32 " %" PRIu32 "\n", rm.client, channel);
	fflush(stdout);
	for (;;) {
		pause();
		CHECK_EQUAL(test_rm_control(&rm, rm.client, group, NVA06C_CTRL_CMD_SET_TIMESLICE, &timeslice_us, 8), NV_OK);
		printf("asked\n");
		fflush(stdout);
	}
}

static void work(uint32_t client, uint32_t channel)
{
	uint8_t params[SUBMIT_SIZE] = { 0 };

	put_u32(params, SUBMIT_CLIENT, client);
	put_u32(params, SUBMIT_CHANNEL, channel);
	put_u64(params, SUBMIT_NS, SIM_ENDLESS);
	CHECK_EQUAL(test_rm_control(&rm, rm.client, rm.subdevice, SIM_CTRL_SUBMIT, params, SUBMIT_SIZE), NV_OK);
}

static void busy(uint32_t client)
{
	uint8_t params[QUERY_SIZE] = { 0 };

	put_u32(params, QUERY_CLIENT, client);
	CHECK_EQUAL(test_rm_control(&rm, rm.client, rm.subdevice, SIM_CTRL_QUERY, params, QUERY_SIZE), NV_OK);
	printf("%" PRIu64 " %" PRIu64 "\n", get_u64(params, QUERY_BUSY), get_u64(params, QUERY_NOW));
}

int main(int argc, char **argv)
{
	uint32_t numbers[2] = { 0 };

	for (int i = 0; i < 2 && i + 2 < argc; i++)
		numbers[i] = (uint32_t)strtoul(argv[i + 2], NULL, 10);
	CHECK(argc >= 2);
	CHECK_EQUAL(test_rm_open(&rm, 0), 0);
	if (!strcmp(argv[1], "tenant"))
		tenant();
	else if (!strcmp(argv[1], "work"))
		work(numbers[0], numbers[1]);
	else
		busy(numbers[0]);
	return 0;
}
