/* SPDX-License-Identifier: Apache-2.0 */
/* Allocates and frees under a timer that signals a thousand times a second. No call may be lost or made twice: what is held at the
 * end is what the slice's view and the simulated driver say. A call that ends with EINTR was not made, and is made again.
 * usage: signals ALLOCATIONS [restart] */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include "abi/calls.h"
#include "lib/test_rm.h"

enum { HELD = 8, LEFT = 3 };

static const uint64_t piece = UINT64_C(2) << 20;
static volatile sig_atomic_t rang;
static unsigned int interrupted, failed;

static void on_alarm(int number)
{
	(void)number;
	rang++;
}

static void ring(long microseconds)
{
	struct itimerval timer = { .it_interval = { .tv_usec = microseconds }, .it_value = { .tv_usec = microseconds } };

	setitimer(ITIMER_REAL, &timer, NULL);
}

static int ioctl_again(int fd, unsigned long request, void *argument)
{
	int value;

	while ((value = ioctl(fd, request, argument)) < 0 && errno == EINTR)
		interrupted++;
	return value;
}

static void judge(const char *call, int code)
{
	if (code != 0 && failed++ == 0)
		printf("%s: %d\n", call, code);
}

static uint64_t driver_holds(void)
{
	char *state = test_sim_state();
	const char *at = state ? strstr(state, "\"used\": ") : NULL;
	unsigned long long used = ~0ULL;

	if (at)
		sscanf(at, "\"used\": %llu", &used);
	free(state);
	return used;
}

int main(int argc, char **argv)
{
	unsigned long allocations = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000;
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = argc > 2 ? SA_RESTART : 0 };
	uint64_t total = 0, left = 0, driver, before;
	uint32_t objects[HELD];
	unsigned int held = 0;
	struct test_rm rm;
	int code;

	test_rm_ioctl = ioctl_again;
	code = test_rm_open(&rm, 0);
	if (code != 0) {
		printf("no driver: %d\n", code);
		return 1;
	}
	before = driver_holds();
	sigaction(SIGALRM, &action, NULL);
	ring(1000);
	for (unsigned long i = 0; i < allocations; i++) {
		uint64_t bytes = piece;

		objects[held] = 0;	/* the driver names it: a call made twice would leave one that nobody knows */
		code = test_rm_vidmem(&rm, &bytes, &objects[held]);
		judge("allocation", code);
		held += code == 0;
		while (held == HELD || (i + 1 == allocations && held > LEFT))
			judge("free", test_rm_free(&rm, rm.client, objects[--held]));
	}
	ring(0);
	test_rm_fb_info(&rm, FB_INFO_INDEX_HEAP_SIZE, &total);
	test_rm_fb_info(&rm, FB_INFO_INDEX_HEAP_FREE, &left);
	driver = driver_holds() - before;
	printf("signals %d interrupted %u failed %u held %u ledger %llu driver %llu\n", (int)rang, interrupted, failed, held,
	       (unsigned long long)((total - left) / piece), (unsigned long long)(driver / piece));
	return failed || total - left != held * piece || driver != held * piece;
}
