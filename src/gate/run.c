/* SPDX-License-Identifier: Apache-2.0 */
/* The loop of a driver of one slice's gates: sleeps until something is due or the settings change. */
#include "gate/driver.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS UINT64_C(1000000000)

/* With no setting left for this long the driver is given up; a new one costs some ms. */
#define LINGER_NS (10 * SECOND_NS)

static uint64_t now_monotonic(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

void gate_settings_changed(struct ledger *ledger)
{
	ledger_settings_changed(ledger);
}

/* Sleep until the generation is another one, or a time (0: for ever). */
static void wait_for_change(const struct ledger *ledger, uint32_t generation, uint64_t until_ns)
{
	struct timespec until = { .tv_sec = (time_t)(until_ns / SECOND_NS), .tv_nsec = (long)(until_ns % SECOND_NS) };

	syscall(SYS_futex, &ledger->generation, FUTEX_WAIT_BITSET, generation, until_ns ? &until : NULL, NULL,
		FUTEX_BITSET_MATCH_ANY);
}

static bool is_over(const uint32_t *stop)
{
	return __atomic_load_n(stop, __ATOMIC_SEQ_CST) != 0;
}

/* Drive until there is nothing to drive for a while. */
static int drive(struct ledger_handle *h, const struct gate_options *options, const uint32_t *stop, struct error *err)
{
	uint64_t needed_ns = now_monotonic();
	struct gate_driver *d;
	int r;

	r = gate_driver_new(&d, options, err);
	if (r < 0)
		return r;
	r = gate_driver_add(d, h);
	while (r >= 0 && !is_over(stop)) {
		uint32_t generation = __atomic_load_n(&h->ledger->generation, __ATOMIC_SEQ_CST);
		uint64_t now = now_monotonic(), next;

		if (gate_is_needed(h->ledger))
			needed_ns = now;
		else if (now - needed_ns > LINGER_NS)
			break;
		gate_driver_step(d, now, &next);
		wait_for_change(h->ledger, generation, next);
	}
	gate_driver_free(d);
	return 0;
}

/* To be late by 200 us twice in 20 ms is a point. Where we may, we go before the programs that keep the CPUs busy; it is
 * little that we do there. */
static void be_punctual(void)
{
	struct sched_param param = { .sched_priority = 1 };

	prctl(PR_SET_TIMERSLACK, 1000);
	sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &param);
}

int gate_run(struct ledger_handle *ledger, const struct gate_options *options, const uint32_t *stop, struct error *err)
{
	int r = 0;

	be_punctual();
	while (r >= 0 && !is_over(stop)) {
		uint32_t generation = __atomic_load_n(&ledger->ledger->generation, __ATOMIC_SEQ_CST);

		if (gate_is_needed(ledger->ledger))
			r = drive(ledger, options, stop, err);
		else if (!is_over(stop))
			wait_for_change(ledger->ledger, generation, 0);
	}
	return r;
}

static void *thread_main(void *arg)
{
	struct gate_thread *t = arg;

	t->result = gate_run(t->ledger, &t->options, &t->stop, &t->err);
	return NULL;
}

int gate_thread_start(struct gate_thread *t, struct ledger_handle *ledger, const struct gate_options *options)
{
	sigset_t all, saved;
	int r;

	memset(t, 0, sizeof(*t));
	t->ledger = ledger;
	t->options = *options;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	r = -pthread_create(&t->thread, NULL, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	t->is_running = r == 0;
	return r;
}

void gate_thread_stop(struct gate_thread *t)
{
	if (!t->is_running)
		return;
	__atomic_store_n(&t->stop, 1, __ATOMIC_SEQ_CST);
	gate_settings_changed(t->ledger->ledger);
	pthread_join(t->thread, NULL);
	t->is_running = false;
}
