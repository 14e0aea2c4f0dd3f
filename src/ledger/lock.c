/* SPDX-License-Identifier: Apache-2.0 */
/* The lock word: taken by compare-and-swap, slept on as a futex, taken over from the dead.
 *
 * The word names its holder: LEDGER_WAITERS, 20 bits of the slot's generation, 11 bits of slot + 1. With the
 * generation, no later owner of a slot is taken for a dead earlier one, and a word that was seen to be a dead
 * holder's can not have become a living one's by the time it is swapped.
 *
 * A holder is dead when the POSIX lock on its slot's byte is gone: the kernel drops that at the end of the process
 * (and when the process closes any descriptor of the file; ledger_attach() takes it again). */
#include "ledger/internal.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <time.h>

#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#endif

enum {
	SLOT_BITS = 11,
	GENERATION_MASK = 0xfffff,
	SPINS = 100,			/* a holder is done in less than a microsecond, mostly */
	WAIT_NS = 2000000,
	UNATTACHED = LEDGER_SLOTS,	/* stands for processes without a slot: one at a time */
};

_Static_assert(LEDGER_SLOTS + 1 < 1 << SLOT_BITS, "slot + 1 of the unattached fits");

int byte_lock(int fd, int command, short type, int64_t byte)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	return sys_fcntl(fd, command, (unsigned long)&lock);
}

int byte_is_locked(int fd, int command, int64_t byte, int32_t *ret_pid)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
	int r = sys_fcntl(fd, command, (unsigned long)&lock);

	if (r < 0)
		return r;
	if (ret_pid)
		*ret_pid = lock.l_type == F_UNLCK ? 0 : lock.l_pid;
	return lock.l_type != F_UNLCK;
}

void signals_block(sigset_t *saved)
{
	const uint64_t all = UINT64_MAX;

	SYS_CALL(SYS_rt_sigprocmask, SIG_BLOCK, &all, saved, sizeof(all));
}

void signals_restore(const sigset_t *saved)
{
	SYS_CALL(SYS_rt_sigprocmask, SIG_SETMASK, saved, NULL, sizeof(uint64_t));
}

void word_wait(uint32_t *word, uint32_t value)
{
	const struct timespec timeout = { .tv_nsec = WAIT_NS };

	SYS_CALL(SYS_futex, word, FUTEX_WAIT, value, &timeout, NULL, 0);
}

void word_wake(uint32_t *word)
{
	SYS_CALL(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void ledger_settings_changed(struct ledger *ledger)
{
	__atomic_add_fetch(&ledger->generation, 1, __ATOMIC_SEQ_CST);
	SYS_CALL(SYS_futex, &ledger->generation, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

uint32_t lock_word(uint32_t slot, uint32_t generation)
{
	return (generation & GENERATION_MASK) << SLOT_BITS | (slot + 1);
}

/* Whether the holder that a word names is dead. mine is the word of the asking process: another thread's hold. */
static bool is_holder_dead(struct ledger_handle *h, uint32_t word, uint32_t mine)
{
	uint32_t holder = word & ~LEDGER_WAITERS;
	uint32_t slot = (holder & ((1u << SLOT_BITS) - 1)) - 1;
	int fd = -1;
	int r;

	if (holder == mine || LEDGER_LOAD(&h->fd) < 0)
		return false;
	if (slot > UNATTACHED)		/* no word of ours */
		return true;
	if (slot < UNATTACHED && holder != lock_word(slot, LEDGER_LOAD(&h->ledger->slots[slot].generation)))
		return true;
	/* Where the program closed our descriptor, another file may have its number: that file would say "dead". Closing
	 * the new one drops no lock of ours, the program's close() did that. */
	if (!file_is_ours(h))
		fd = file_reopen(h);
	r = byte_is_locked(fd >= 0 ? fd : LEDGER_LOAD(&h->fd), F_GETLK, LEDGER_PID_BYTE + (int64_t)slot, NULL);
	if (fd >= 0)
		sys_close(fd);
	return r == 0 && (fd >= 0 || file_is_ours(h));
}

static bool swap(uint32_t *lock, uint32_t expected, uint32_t word)
{
	return __atomic_compare_exchange_n(lock, &expected, word, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

/* Take the lock over from a dead holder. */
static bool steal(struct ledger_handle *h, uint32_t seen, uint32_t word)
{
	if (!swap(&h->ledger->lock, seen, word | LEDGER_WAITERS))
		return false;
	account_repair(&h->ledger->account);
	ledger_count(h, LEDGER_REPAIR);
	return true;
}

void lock_take(struct ledger_handle *h, uint32_t word)
{
	uint32_t *lock = &h->ledger->lock;
	bool waited = false;

	for (int i = 0; i < SPINS; i++) {
		if (LEDGER_LOAD(lock) == 0 && swap(lock, 0, word))
			return;
	}
	for (;;) {
		uint32_t seen = LEDGER_LOAD(lock);

		if (seen == 0) {
			/* Others may sleep still: whoever waited once leaves with a wake. */
			if (swap(lock, 0, waited ? word | LEDGER_WAITERS : word))
				return;
			continue;
		}
		if (!(seen & LEDGER_WAITERS)) {
			if (!swap(lock, seen, seen | LEDGER_WAITERS))
				continue;
			seen |= LEDGER_WAITERS;
		}
		word_wait(lock, seen);
		waited = true;
		if (LEDGER_LOAD(lock) == seen && is_holder_dead(h, seen, word) && steal(h, seen, word))
			return;
	}
}

void lock_leave(struct ledger_handle *h)
{
	uint32_t *lock = &h->ledger->lock;

	if (__atomic_exchange_n(lock, 0, __ATOMIC_RELEASE) & LEDGER_WAITERS)
		word_wake(lock);
}

void ledger_block_signals(const struct ledger_handle *h, sigset_t *saved)
{
	if (h->path[0])		/* a file: the program's signals */
		signals_block(saved);
}

void ledger_restore_signals(const struct ledger_handle *h, const sigset_t *saved)
{
	if (h->path[0])
		signals_restore(saved);
}

void ledger_take(struct ledger_handle *h)
{
	int slot = LEDGER_LOAD(&h->slot);

	if (slot >= 0) {
		lock_take(h, lock_word((uint32_t)slot, LEDGER_LOAD(&h->generation)));
		return;
	}
	if (LEDGER_LOAD(&h->fd) >= 0)	/* a byte for all that have no slot, so that their deaths are seen too */
		byte_lock(h->fd, F_SETLKW, F_WRLCK, LEDGER_PID_BYTE + UNATTACHED);
	lock_take(h, lock_word(UNATTACHED, (uint32_t)h->pid));
}

void ledger_leave(struct ledger_handle *h)
{
	lock_leave(h);
	if (LEDGER_LOAD(&h->slot) < 0 && LEDGER_LOAD(&h->fd) >= 0)
		byte_lock(h->fd, F_SETLK, F_UNLCK, LEDGER_PID_BYTE + UNATTACHED);
}

void ledger_lock(struct ledger_handle *h, sigset_t *saved)
{
	ledger_block_signals(h, saved);
	ledger_take(h);
}

void ledger_unlock(struct ledger_handle *h, const sigset_t *saved)
{
	ledger_leave(h);
	ledger_restore_signals(h, saved);
}
