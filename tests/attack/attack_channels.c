/* SPDX-License-Identifier: Apache-2.0 */
/* Attacks on the turns of others, and on one's own: controls that stop, start or favour channels. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "attack.h"

static struct test_rm rm;
static uint32_t victim_client, victim_channel;

/* Not in the slice: a channel that runs, until the input ends. */
static void victim(void)
{
	uint32_t group = 0, channel = 0;
	char c;

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	CHECK_EQUAL(test_rm_group(&rm, &group), NV_OK);
	CHECK_EQUAL(test_rm_channel(&rm, group, &channel, 0), NV_OK);
	CHECK_EQUAL(test_rm_schedule(&rm, group, true), NV_OK);
	printf("%u %u\n", rm.client, channel);
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
}

static void fill_disable(uint8_t params[DISABLE_SIZE], uint32_t count)
{
	memset(params, 0, DISABLE_SIZE);
	params[DISABLE_DISABLE] = 1;
	put_u32(params, DISABLE_COUNT, count);
	for (uint32_t i = 0; i < count && i < DISABLE_MAX; i++) {
		put_u32(params, DISABLE_CLIENTS + i * 4, victim_client);
		put_u32(params, DISABLE_CHANNELS + i * 4, victim_channel);
	}
}

static int disable(uint8_t params[DISABLE_SIZE])
{
	return test_rm_control(&rm, rm.client, rm.subdevice, NV2080_CTRL_CMD_FIFO_DISABLE_CHANNELS, params,
			       DISABLE_SIZE);
}

static void own_channel(uint32_t *ret_group, uint32_t *ret_channel)
{
	*ret_group = *ret_channel = 0;
	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	CHECK_EQUAL(test_rm_group(&rm, ret_group), NV_OK);
	CHECK_EQUAL(test_rm_channel(&rm, *ret_group, ret_channel, 0), NV_OK);
	CHECK_EQUAL(test_rm_schedule(&rm, *ret_group, true), NV_OK);
}

/* Alone, last in a list behind one's own, in lists of odd lengths. */
static void pause_other(void)
{
	static const uint32_t lengths[] = { 2, 64, 65, 0x80000001u, UINT32_MAX };
	uint8_t params[DISABLE_SIZE];
	uint32_t group, channel;

	own_channel(&group, &channel);
	CHECK(test_rm_disable(&rm, victim_client, victim_channel, true) != NV_OK);
	fill_disable(params, 2);
	put_u32(params, DISABLE_CLIENTS, rm.client);
	put_u32(params, DISABLE_CHANNELS, channel);
	CHECK(disable(params) != NV_OK);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		fill_disable(params, lengths[i]);
		CHECK(disable(params) != NV_OK);
	}
	/* one's own: as ever */
	CHECK_EQUAL(test_rm_disable(&rm, rm.client, channel, true), NV_OK);
	CHECK_EQUAL(test_rm_disable(&rm, rm.client, channel, false), NV_OK);
}

/* Around libc. */
static int raw_ioctl(int fd, unsigned long request, void *argument)
{
	return (int)syscall(SYS_ioctl, fd, request, argument);
}

static void pause_raw(void)
{
	uint32_t group, channel;

	own_channel(&group, &channel);
	test_rm_ioctl = raw_ioctl;
	test_rm_disable(&rm, victim_client, victim_channel, true);
}

/* All that the interface has besides, on objects of one's own: none may be said yes to. */
static void refused(void)
{
	static const uint32_t on_subdevice[] = { 0x2080110a, 0x20801115, 0x20801116, 0x20801117, 0x2080111a,
						 0x2080111b, 0x2080111c, 0x20801121, 0x20800194 };
	static const uint32_t on_device[] = { 0x801705, 0x80170f, 0x801711, 0x801712 };
	static const uint32_t on_group[] = { 0xa06c0107, 0xa06c0110 };
	static const uint32_t on_channel[] = { 0xa06f0109, 0xa06f0111, 0xa06f0112 };
	uint32_t group, channel;
	uint8_t params[4096];

	own_channel(&group, &channel);
	memset(params, 0, sizeof(params));
#define REFUSED(list, object)                                                                                \
	for (size_t i = 0; i < sizeof(list) / sizeof((list)[0]); i++) {                                      \
		for (uint32_t size = 0; size <= 1024; size = size ? size * 2 : 1)                            \
			CHECK(test_rm_control(&rm, rm.client, object, (list)[i], params, size) != NV_OK);    \
	}
	REFUSED(on_subdevice, rm.subdevice)
	REFUSED(on_device, rm.device)
	REFUSED(on_group, group)
	REFUSED(on_channel, channel)
}

/* A harmless control becomes another while it is looked at. */
static uint8_t control[CONTROL_SIZE] __attribute__((aligned(8)));
static atomic_bool is_over;

static void *flip_command(void *arg)
{
	volatile uint32_t *command = (volatile uint32_t *)(void *)(control + CONTROL_COMMAND);

	while (!atomic_load_explicit(&is_over, memory_order_relaxed)) {
		*command = 0x20800102;
		*command = NV2080_CTRL_CMD_FIFO_DISABLE_CHANNELS;
	}
	return NULL;
}

static void race(void)
{
	uint8_t params[DISABLE_SIZE];
	uint32_t group, channel;
	pthread_t thread;

	own_channel(&group, &channel);
	fill_disable(params, 1);
	put_u32(control, CONTROL_CLIENT, rm.client);
	put_u32(control, CONTROL_OBJECT, rm.subdevice);
	put_u64(control, CONTROL_PARAMS, (uintptr_t)params);
	put_u32(control, CONTROL_PARAMS_SIZE, sizeof(params));
	CHECK_EQUAL(pthread_create(&thread, NULL, flip_command, NULL), 0);
	for (int i = 0; i < 3000; i++)
		test_rm_call(rm.ctl, NV_ESC_RM_CONTROL, control, sizeof(control));
	atomic_store(&is_over, true);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
}

static const struct attack attacks[] = {
	{ "victim", victim },	    { "pause-other", pause_other },
	{ "pause-raw", pause_raw }, { "refused", refused },
	{ "race", race },	    { NULL, NULL },
};

int main(int argc, char **argv)
{
	if (argc > 3) {
		victim_client = (uint32_t)strtoul(argv[2], NULL, 10);
		victim_channel = (uint32_t)strtoul(argv[3], NULL, 10);
	}
	return attack_main(attacks, argc, argv);
}
