/* SPDX-License-Identifier: Apache-2.0 */
/* The loop of a driver of one slice's gates: sleeps until something is due, the settings change, or a peer speaks. */
#include "gate/driver.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "gate/share.h"

#define SECOND_NS UINT64_C(1000000000)

/* With no setting left for this long the driver is given up; a new one costs some ms. */
#define LINGER_NS (10 * SECOND_NS)

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

/* A futex cannot be polled: a thread waits on it and writes to a descriptor that can. */
struct waker {
	pthread_t thread;
	const struct ledger *ledger;
	int event;
	uint32_t stop;
};

static void *wake_main(void *arg)
{
	struct waker *w = arg;
	uint32_t seen = __atomic_load_n(&w->ledger->generation, __ATOMIC_SEQ_CST), now;

	while (!is_over(&w->stop)) {
		wait_for_change(w->ledger, seen, 0);
		now = __atomic_load_n(&w->ledger->generation, __ATOMIC_SEQ_CST);
		if (now != seen)
			eventfd_write(w->event, 1);
		seen = now;
	}
	return NULL;
}

static int waker_start(struct waker *w, const struct ledger *ledger)
{
	int r;

	*w = (struct waker){ .ledger = ledger, .event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	if (w->event < 0)
		return -errno;
	r = -pthread_create(&w->thread, NULL, wake_main, w);
	if (r < 0)
		close(w->event);
	return r;
}

static void waker_stop(struct waker *w, struct ledger *ledger)
{
	__atomic_store_n(&w->stop, 1, __ATOMIC_SEQ_CST);
	gate_settings_changed(ledger);
	pthread_join(w->thread, NULL);
	close(w->event);
}

/* Until a time, or until somebody speaks. Returns whether it was the ledger's settings. */
static bool wait_for_word(const struct share *share, const struct waker *waker, uint64_t until_ns)
{
	struct pollfd polls[SHARE_MEMBERS + 2];
	uint64_t now = monotonic_ns(), left = until_ns > now ? until_ns - now : 0;
	struct timespec timeout = { .tv_sec = (time_t)(left / SECOND_NS), .tv_nsec = (long)(left % SECOND_NS) };
	uint32_t count = share_polls(share, polls);
	eventfd_t events;

	polls[count] = (struct pollfd){ .fd = waker->event, .events = POLLIN };
	ppoll(polls, count + 1, &timeout, NULL);
	return eventfd_read(waker->event, &events) == 0;
}

static void drive_loop(struct ledger_handle *h, struct share *share, struct gate_driver *d, const struct waker *waker,
		       const uint32_t *stop)
{
	uint64_t needed_ns = monotonic_ns();

	while (!is_over(stop)) {
		uint64_t now = monotonic_ns(), next;

		if (gate_is_needed(h->ledger) || share_is_needed(share))
			needed_ns = now;
		else if (now - needed_ns > LINGER_NS)
			return;
		share_tend(share, now);
		gate_driver_step(d, now, &next);
		share_speak(share, now);
		if (wait_for_word(share, waker, next))
			share_changed(share);
	}
}

/* Drive until there is nothing to drive for a while. */
static int drive(struct ledger_handle *h, const struct gate_options *options, const uint32_t *stop, struct error *err)
{
	struct gate_options ours = *options;
	struct gate_driver *d;
	struct waker waker;
	struct share share;
	int r;

	share_init(&share, options);
	ours.report = share_report;
	ours.arg = &share;
	r = gate_driver_new(&d, &ours, err);
	if (r < 0)
		return r;
	r = waker_start(&waker, h->ledger);
	if (r < 0) {
		gate_driver_free(d);
		return error_set(err, r, "cannot start a thread: %s", strerror(-r));
	}
	share_attach(&share, d, gate_driver_add(d, h));
	drive_loop(h, &share, d, &waker, stop);
	share_done(&share);
	waker_stop(&waker, h->ledger);
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
