/* SPDX-License-Identifier: Apache-2.0 */
/* The threads that receive and answer.
 *
 * One waits for the next call, the others sleep. A thread that waited and is woken on its own processor answers soonest:
 * with all of them waiting in turn a call took twice as long (measured: 15.8 us, 6.7 us). Who is about to ask the driver and
 * sees more calls wakes another thread. A driver call may block, and meanwhile nobody would wait: a sentinel looks every
 * millisecond, as long as there are calls at all. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "supervisor/internal.h"

/* Ends a worker's wait on kernels that do not end it when the last task is gone (before 6.11). */
#define STOP_SIGNAL (SIGRTMIN + 7)

enum { TICK_NS = 1000000, QUIET_TICKS = 20 };

/* Send one more thread to wait for calls, if one sleeps. */
static void call_another(struct serving *s)
{
	pthread_mutex_lock(&s->lock);
	if (s->asleep > s->called) {
		s->called++;
		atomic_fetch_add(&s->receivers, 1);
		pthread_cond_signal(&s->wake);
	}
	pthread_mutex_unlock(&s->lock);
}

static void stop_all(struct serving *s)
{
	atomic_store(&s->is_stopping, true);
	pthread_mutex_lock(&s->lock);
	pthread_cond_broadcast(&s->wake);
	pthread_cond_broadcast(&s->wake_sentinel);
	pthread_mutex_unlock(&s->lock);
}

/* Sleep until called. False: it is over. */
static bool sleep_until_called(struct serving *s)
{
	bool is_called;

	pthread_mutex_lock(&s->lock);
	s->asleep++;
	while (!s->called && !atomic_load(&s->is_stopping))
		pthread_cond_wait(&s->wake, &s->lock);
	s->asleep--;
	is_called = s->called != 0;
	s->called -= is_called;
	pthread_mutex_unlock(&s->lock);
	return is_called && !atomic_load(&s->is_stopping);
}

/* The sentinel sees that nobody waits, or it is told. */
static void tell_sentinel(struct serving *s)
{
	if (atomic_load(&s->is_watched))
		return;
	pthread_mutex_lock(&s->lock);
	atomic_store(&s->is_watched, true);
	pthread_cond_signal(&s->wake_sentinel);
	pthread_mutex_unlock(&s->lock);
}

void serve_busy(struct serving *s)
{
	if (listener_has_more(s->listener))
		call_another(s);
}

/* One after the other until somebody else waits. False: the last process is gone, or it is over. */
static bool receive_calls(struct serving *s)
{
	union notification n;
	uint_fast32_t none = 0;
	int code;

	do {
		code = listener_receive(s->listener, &n);
		if (code == -ENOENT && listener_is_hung_up(s->listener))
			return false;
		if (code == 0) {
			atomic_fetch_sub(&s->receivers, 1);
			atomic_fetch_add(&s->received, 1);
			tell_sentinel(s);
			serve_answer(s, &n);
			none = 0;
		}
		if (atomic_load(&s->is_stopping))
			return false;
	} while (code < 0 || atomic_compare_exchange_strong(&s->receivers, &none, 1));
	return true;
}

static void *worker(void *arg)
{
	struct serving *s = arg;

	while (sleep_until_called(s)) {
		if (!receive_calls(s)) {
			stop_all(s);
			break;
		}
	}
	return NULL;
}

/* Until there was no call for a while, and somebody waits for the next. */
static void watch_calls(struct serving *s)
{
	const struct timespec tick = { .tv_nsec = TICK_NS };
	uint_fast64_t seen = atomic_load(&s->received);

	for (int quiet = 0; quiet < QUIET_TICKS && !atomic_load(&s->is_stopping); quiet++) {
		uint_fast64_t now;

		nanosleep(&tick, NULL);
		now = atomic_load(&s->received);
		if (atomic_load(&s->receivers) == 0 && listener_has_more(s->listener))
			call_another(s);
		if (now != seen || atomic_load(&s->receivers) == 0)
			quiet = 0;
		seen = now;
	}
}

static void *sentinel(void *arg)
{
	struct serving *s = arg;

	while (!atomic_load(&s->is_stopping)) {
		pthread_mutex_lock(&s->lock);
		while (!atomic_load(&s->is_watched) && !atomic_load(&s->is_stopping))
			pthread_cond_wait(&s->wake_sentinel, &s->lock);
		pthread_mutex_unlock(&s->lock);
		watch_calls(s);
		atomic_store(&s->is_watched, false);
		/* a call that came before that has told nobody */
		if (atomic_load(&s->receivers) == 0)
			atomic_store(&s->is_watched, true);
	}
	return NULL;
}

static void on_stop(int number)
{
}

int serve_start(struct serving *s)
{
	struct sigaction action = { .sa_handler = on_stop };
	sigset_t stop, saved;
	int code = 0;

	sigaction(STOP_SIGNAL, &action, NULL);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->wake, NULL);
	pthread_cond_init(&s->wake_sentinel, NULL);
	/* whoever starts first waits for calls */
	s->called = 1;
	atomic_store(&s->receivers, 1);
	sigfillset(&stop);
	sigdelset(&stop, STOP_SIGNAL);
	pthread_sigmask(SIG_SETMASK, &stop, &saved);
	for (s->worker_count = 0; s->worker_count < SUPERVISOR_THREADS && !code; s->worker_count += !code)
		code = -pthread_create(&s->workers[s->worker_count], NULL, s->worker_count ? worker : sentinel, s);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	return code;
}

void serve_stop(struct serving *s)
{
	struct timespec wait;

	if (!s->worker_count)
		return;
	stop_all(s);
	for (uint32_t i = 0; i < s->worker_count; i++) {
		/* again and again: the signal may come just before the wait */
		do {
			pthread_kill(s->workers[i], STOP_SIGNAL);
			clock_gettime(CLOCK_REALTIME, &wait);
			wait.tv_nsec += 10000000;
			if (wait.tv_nsec >= 1000000000) {
				wait.tv_nsec -= 1000000000;
				wait.tv_sec++;
			}
		} while (pthread_timedjoin_np(s->workers[i], NULL, &wait) == ETIMEDOUT);
	}
	s->worker_count = 0;
}
