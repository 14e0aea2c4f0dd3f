/* SPDX-License-Identifier: Apache-2.0 */
/* Calls whose answer did not reach the caller: kept in a small table of the process, oldest first out. */
#include "supervisor/replay.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include "abi/calls.h"
#include "base/clock.h"
#include "supervisor/listener.h"

enum { RANGES = 8, BYTES = 2048, KEPT = 64, SENT_NS = 10000000 };

/* Ranges of the caller's memory, and the bytes of all of them in turn. */
struct ranges {
	uint32_t count;
	size_t size;
	struct {
		uint64_t address;
		size_t size;
	} at[RANGES];
	uint8_t bytes[BYTES];
};

struct record {
	struct ranges read, written;
	int value;
	bool is_on, is_asked, is_valued, is_too_much;
};

struct kept {
	uint64_t at_ns;
	struct seccomp_data call;
	struct record record;
	uint32_t tid;
	bool used;
	bool is_sent;		/* the kernel said that the answer was taken */
};

/* A call that a thread of ours judges. */
struct flight {
	uint32_t tid;		/* the caller's */
	struct flight *next;
};

static _Thread_local struct record current;
static _Thread_local struct flight mine;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
static struct flight *flights;
static uint32_t waiting;
static struct kept table[KEPT];
static uint32_t next;
static atomic_uint count;

static bool is_judged(uint32_t tid)
{
	const struct flight *f = flights;

	while (f && f->tid != tid)
		f = f->next;
	return f != NULL;
}

void replay_begin(const struct seccomp_notif *n)
{
	pthread_mutex_lock(&lock);
	while (is_judged(n->pid)) {
		waiting++;
		pthread_cond_wait(&ended, &lock);
		waiting--;
	}
	mine.tid = n->pid;
	mine.next = flights;
	flights = &mine;
	pthread_mutex_unlock(&lock);
	current.read.count = current.written.count = 0;
	current.read.size = current.written.size = 0;
	current.is_on = true;
	current.is_asked = current.is_valued = current.is_too_much = false;
}

void replay_end(void)
{
	struct flight **at = &flights;

	current.is_on = false;
	pthread_mutex_lock(&lock);
	while (*at != &mine)
		at = &(*at)->next;
	*at = mine.next;
	if (waiting)
		pthread_cond_broadcast(&ended);
	pthread_mutex_unlock(&lock);
}

static void add(struct ranges *r, uint64_t address, const void *bytes, size_t size)
{
	if (r->count == RANGES || size > BYTES - r->size) {
		current.is_too_much = true;
		return;
	}
	r->at[r->count].address = address;
	r->at[r->count++].size = size;
	memcpy(r->bytes + r->size, bytes, size);
	r->size += size;
}

void replay_read(uint64_t address, const void *bytes, size_t size)
{
	/* after the driver was asked it is no part of what tells one call from another */
	if (current.is_on && !current.is_asked && size)
		add(&current.read, address, bytes, size);
}

void replay_written(uint64_t address, const void *bytes, size_t size)
{
	if (current.is_on && size)
		add(&current.written, address, bytes, size);
}

void replay_asked(void)
{
	current.is_asked = true;
}

void replay_valued(int value)
{
	current.value = value;
	current.is_valued = true;
}

static void keep(const struct seccomp_notif *n, const struct record *record, bool is_sent)
{
	struct kept *k;

	pthread_mutex_lock(&lock);
	k = &table[next++ % KEPT];
	if (!k->used)
		atomic_fetch_add(&count, 1);
	k->used = true;
	k->is_sent = is_sent;
	k->at_ns = monotonic_ns();
	k->tid = n->pid;
	k->call = n->data;
	k->record = *record;
	pthread_mutex_unlock(&lock);
}

void replay_keep(const struct seccomp_notif *n)
{
	if (current.is_asked && current.is_valued && !current.is_too_much)
		keep(n, &current, false);
}

void replay_sent(const struct seccomp_notif *n)
{
	if (abi_request_nr((uint32_t)n->data.args[1]) == NV_ESC_RM_ALLOC && current.is_asked && current.is_valued &&
	    !current.is_too_much && current.value == 0)
		keep(n, &current, true);
}

/* What of the written ranges lies in a range of memory, put over its bytes. */
static void put_over(const struct ranges *written, uint64_t address, uint8_t *bytes, size_t size)
{
	const uint8_t *from = written->bytes;

	for (uint32_t i = 0; i < written->count; from += written->at[i++].size) {
		for (size_t k = 0; k < written->at[i].size; k++) {
			uint64_t place = written->at[i].address + k - address;

			if (place < size)
				bytes[place] = from[k];
		}
	}
}

/* Whether the caller's memory is as it was when the call came, or as it is when it was answered; or only the latter. */
static bool is_same(const struct record *record, pid_t tid, bool only_after)
{
	const uint8_t *before = record->read.bytes;

	for (uint32_t i = 0; i < record->read.count; before += record->read.at[i++].size) {
		uint64_t address = record->read.at[i].address;
		size_t size = record->read.at[i].size;
		uint8_t now[BYTES], after[BYTES];
		struct iovec here = { now, size }, there = { (void *)(uintptr_t)address, size };

		if (process_vm_readv(tid, &here, 1, &there, 1, 0) != (ssize_t)size)
			return false;
		memcpy(after, before, size);
		put_over(&record->written, address, after, size);
		if (memcmp(now, after, size) != 0 && (only_after || memcmp(now, before, size) != 0))
			return false;
	}
	return true;
}

static bool write_again(const struct ranges *written, pid_t tid)
{
	const uint8_t *from = written->bytes;

	for (uint32_t i = 0; i < written->count; from += written->at[i++].size) {
		struct iovec here = { (void *)(uintptr_t)from, written->at[i].size };
		struct iovec there = { (void *)(uintptr_t)written->at[i].address, written->at[i].size };

		if (process_vm_writev(tid, &here, 1, &there, 1, 0) != (ssize_t)written->at[i].size)
			return false;
	}
	return true;
}

static bool is_same_call(const struct seccomp_data *a, const struct seccomp_data *b)
{
	return a->nr == b->nr && a->arch == b->arch && memcmp(a->args, b->args, sizeof(a->args)) == 0;
}

/* Take what is kept of a thread out of the table. */
static bool take(uint32_t tid, struct kept *ret_kept)
{
	bool found = false;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < KEPT; i++) {
		if (!table[i].used || table[i].tid != tid)
			continue;
		*ret_kept = table[i];
		table[i].used = false;
		atomic_fetch_sub(&count, 1);
		found = true;
	}
	pthread_mutex_unlock(&lock);
	return found;
}

bool replay_answers(int listener, const struct seccomp_notif *n, struct seccomp_notif_resp *r)
{
	struct kept k;

	if (!atomic_load(&count) || !take(n->pid, &k))
		return false;
	if (!is_same_call(&n->data, &k.call) || (k.is_sent && monotonic_ns() - k.at_ns > SENT_NS))
		return false;
	if (!is_same(&k.record, (pid_t)n->pid, k.is_sent)) {
		/* of one that was interrupted itself other bytes tell nothing */
		if (!listener_is_valid(listener, n->id))
			keep(n, &k.record, k.is_sent);
		return false;
	}
	current = k.record;	/* a signal may end this wait as well */
	if (!listener_is_valid(listener, n->id))
		r->error = -EINTR;	/* nobody hears it: it is kept again */
	else if (!write_again(&k.record.written, (pid_t)n->pid))
		r->error = -EFAULT;
	else if (k.record.value < 0)
		r->error = k.record.value;
	else
		r->val = k.record.value;
	return true;
}
