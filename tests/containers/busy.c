/* SPDX-License-Identifier: Apache-2.0 */
/* Allocates and frees, some hundred times a second, until SIGTERM; then says how it went, and keeps what it has until it is killed.
 * usage: busy */
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "abi/calls.h"
#include "lib/test_rm.h"

enum { HELD = 8, LEFT = 3, PAUSE_NS = 5000000 };

static volatile sig_atomic_t is_over;

static void on_term(int number)
{
	is_over = number;
}

int main(void)
{
	struct sigaction action = { .sa_handler = on_term, .sa_flags = SA_RESTART };
	const struct timespec pause_time = { .tv_nsec = PAUSE_NS };
	unsigned long calls = 0, failed = 0;
	uint32_t objects[HELD];
	unsigned int held = 0;
	struct test_rm rm;
	int code = test_rm_open(&rm, 0);

	sigaction(SIGTERM, &action, NULL);
	if (code != 0)
		printf("no driver: %d\n", code);
	printf("up\n");
	fflush(stdout);
	while (code == 0 && (!is_over || held != LEFT)) {
		uint64_t bytes = UINT64_C(2) << 20;
		bool takes = is_over ? held < LEFT : held < HELD && calls % 16 < HELD;
		int r;

		if (takes) {
			objects[held] = 0;
			r = test_rm_vidmem(&rm, &bytes, &objects[held]);
			held += r == 0;
		} else if (held > 0) {
			r = test_rm_free(&rm, rm.client, objects[--held]);
		} else {
			r = 0;
		}
		calls++;
		failed += r != 0;
		if (failed > 100)
			break;
		nanosleep(&pause_time, NULL);
	}
	printf("calls %lu failed %lu held %u\n", calls, failed, held);
	fflush(stdout);
	for (;;)
		pause();
}
