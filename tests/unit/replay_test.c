/* SPDX-License-Identifier: Apache-2.0 */
/* Calls whose answer was not taken: what is a repetition and what is not. The test is the caller: its own memory is looked at. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/listener.h"
#include "supervisor/replay.h"

static bool is_waiting = true;

/* Stands for the kernel's. */
bool listener_is_valid(int listener, uint64_t id)
{
	return is_waiting;
}

struct argument {
	uint32_t in, out;
};

static struct argument argument;

static struct seccomp_notif call_with(uint64_t request)
{
	struct seccomp_notif n = { .pid = (uint32_t)syscall(SYS_gettid), .data = { .nr = SYS_ioctl } };

	n.data.args[1] = request;
	n.data.args[2] = (uint64_t)(uintptr_t)&argument;
	return n;
}

/* Judge a call that reads the argument and writes its second half. */
static void judge(const struct seccomp_notif *n, bool asked, int value)
{
	static const uint32_t out = 7;

	replay_begin(n);
	replay_read((uint64_t)(uintptr_t)&argument, &argument, sizeof(argument));
	if (asked)
		replay_asked();
	replay_written((uint64_t)(uintptr_t)&argument.out, &out, sizeof(out));
	replay_valued(value);
}

static void lose(const struct seccomp_notif *n, bool asked, int value)
{
	judge(n, asked, value);
	replay_keep(n);
	replay_end();
}

static void send_answer(const struct seccomp_notif *n)
{
	judge(n, true, 0);
	replay_sent(n);
	replay_end();
}

/* Whether the same thread's next call is answered, and how. */
static bool again(const struct seccomp_notif *n, struct seccomp_notif_resp *r)
{
	bool answered;

	memset(r, 0, sizeof(*r));
	replay_begin(n);
	answered = replay_answers(-1, n, r);
	replay_end();
	return answered;
}

static void start(void)
{
	struct seccomp_notif other = call_with(99);
	struct seccomp_notif_resp r;

	again(&other, &r); /* gives up what was kept */
	argument = (struct argument){ .in = 1 };
	is_waiting = true;
}

static void a_repetition_is_answered(void **state)
{
	struct seccomp_notif n = call_with(1);
	struct seccomp_notif_resp r;

	start();
	lose(&n, true, 3);
	assert_true(again(&n, &r));
	assert_int_equal(r.val, 3);
	assert_int_equal(argument.out, 7);
	assert_false(again(&n, &r)); /* once */

	/* also when the answer's bytes are there already, and an error */
	start();
	lose(&n, true, -EINVAL);
	argument.out = 7;
	assert_true(again(&n, &r));
	assert_int_equal(r.error, -EINVAL);
	assert_int_equal(r.val, 0);
}

static void another_call_is_not(void **state)
{
	struct seccomp_notif n = call_with(1), other = call_with(2);
	struct seccomp_notif_resp r;

	/* another request: and with it the kept one is given up */
	start();
	lose(&n, true, 0);
	assert_false(again(&other, &r));
	assert_false(again(&n, &r));

	/* other bytes */
	start();
	lose(&n, true, 0);
	argument.in = 2;
	assert_false(again(&n, &r));

	/* another thread */
	start();
	lose(&n, true, 0);
	other = n;
	other.pid++;
	assert_false(again(&other, &r));
	assert_true(again(&n, &r));

}

/* Signals come one after the other. */
static void one_that_is_interrupted_too(void **state)
{
	struct seccomp_notif n = call_with(1);
	struct seccomp_notif_resp r;

	/* nobody hears this answer: who sends it is told so, and keeps it */
	start();
	lose(&n, true, 0);
	is_waiting = false;
	replay_begin(&n);
	assert_true(replay_answers(-1, &n, &r));
	assert_int_equal(argument.out, 0);
	replay_keep(&n);
	replay_end();
	is_waiting = true;
	assert_true(again(&n, &r));
	assert_int_equal(argument.out, 7);

	/* what was read of one that waits no more tells nothing */
	start();
	lose(&n, true, 0);
	is_waiting = false;
	argument.in = 2;
	assert_false(again(&n, &r));
	is_waiting = true;
	argument.in = 1;
	assert_true(again(&n, &r));
}

/* The kernel said that the answer was taken, and was wrong. */
static void an_answer_that_was_sent(void **state)
{
	struct seccomp_notif alloc = call_with(0xc030462b), control = call_with(0xc020462a);
	struct seccomp_notif_resp r;

	start();
	send_answer(&alloc);
	assert_false(again(&alloc, &r)); /* as it was before: a new one */
	start();
	send_answer(&alloc);
	argument.out = 7;
	assert_true(again(&alloc, &r));
	start();
	send_answer(&control);
	argument.out = 7;
	assert_false(again(&control, &r));
	start();
	send_answer(&alloc);
	argument.out = 7;
	usleep(20000);
	assert_false(again(&alloc, &r)); /* too late */
}

static void what_was_not_done_is_not_kept(void **state)
{
	static const uint8_t big[4096];
	struct seccomp_notif n = call_with(1);
	struct seccomp_notif_resp r;

	start();
	lose(&n, false, 0);
	assert_false(again(&n, &r));

	start();
	replay_begin(&n);
	replay_read((uint64_t)(uintptr_t)big, big, sizeof(big));
	replay_asked();
	replay_valued(0);
	replay_keep(&n);
	replay_end();
	assert_false(again(&n, &r));
}

static void the_oldest_goes(void **state)
{
	struct seccomp_notif n = call_with(1), other = n;
	struct seccomp_notif_resp r;

	start();
	lose(&n, true, 0);
	for (int i = 1; i <= 64; i++) {
		other.pid = n.pid + (uint32_t)i;
		lose(&other, true, 0);
	}
	assert_false(again(&n, &r));
}

static void *judge_beside(void *arg)
{
	const struct seccomp_notif *n = arg;

	replay_begin(n);
	replay_end();
	return NULL;
}

/* A call waits while one of the same thread is judged. */
static void one_after_the_other(void **state)
{
	struct seccomp_notif n = call_with(1);
	struct timespec soon;
	pthread_t thread;

	replay_begin(&n);
	assert_int_equal(pthread_create(&thread, NULL, judge_beside, &n), 0);
	clock_gettime(CLOCK_REALTIME, &soon);
	soon.tv_nsec += 20000000;
	soon.tv_sec += soon.tv_nsec / 1000000000;
	soon.tv_nsec %= 1000000000;
	assert_int_equal(pthread_timedjoin_np(thread, NULL, &soon), ETIMEDOUT);
	replay_end();
	assert_int_equal(pthread_join(thread, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_repetition_is_answered),
		cmocka_unit_test(another_call_is_not),
		cmocka_unit_test(one_that_is_interrupted_too),
		cmocka_unit_test(an_answer_that_was_sent),
		cmocka_unit_test(what_was_not_done_is_not_kept),
		cmocka_unit_test(the_oldest_goes),
		cmocka_unit_test(one_after_the_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
