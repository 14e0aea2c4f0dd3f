/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the ledger share: file.c (file and mapping), lock.c (the lock word), slots.c (who is alive). */
#ifndef FG_LEDGER_INTERNAL_H
#define FG_LEDGER_INTERNAL_H

#include "base/syscall.h"
#include "ledger/ledger.h"

#define LEDGER_LOAD(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define LEDGER_STORE(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)

/* --- file.c --- */

/* Whether h->fd is still our file: the program may have closed it, and the number may be another file's now. */
bool file_is_ours(const struct ledger_handle *h);

/* Open the ledger's file once more: by its path, else by our descriptor's entry in /proc. High numbers, close-on-exec.
 * Returns the descriptor, -ESTALE when the path leads to another file, or negative errno. Nothing in h changes. */
int file_reopen(const struct ledger_handle *h);

/* Open it once more and map that open file at the same address, so that its locks live as long as the mapping.
 * Returns 0 with h->fd replaced (the old one stays open) or negative errno. */
int file_remap(struct ledger_handle *h);

/* --- lock.c --- */

/* One byte's lock: command is F_SETLK, F_SETLKW or F_OFD_SETLK, type F_WRLCK or F_UNLCK. Returns 0 or negative
 * errno. */
int byte_lock(int fd, int command, short type, int64_t byte);

/* Whether somebody else holds a byte's lock, asked by F_GETLK (by processes) or F_OFD_GETLK (by open files). ret_pid
 * may be NULL. Returns 0, 1 or negative errno. */
int byte_is_locked(int fd, int command, int64_t byte, int32_t *ret_pid);

/* Block every signal; the old mask goes to *saved. */
void signals_block(sigset_t *saved);
void signals_restore(const sigset_t *saved);

/* Sleep while *word is value, for at most 2 ms; wake one sleeper. */
void word_wait(uint32_t *word, uint32_t value);
void word_wake(uint32_t *word);

/* The word of a slot's holder without LEDGER_WAITERS. */
uint32_t lock_word(uint32_t slot, uint32_t generation);

/* Take and leave the lock under that word; signals are blocked. */
void lock_take(struct ledger_handle *h, uint32_t word);
void lock_leave(struct ledger_handle *h);

/* --- slots.c --- */

/* Make a slot live. Under the lock. */
void slot_fill(struct ledger_slot *slot, int32_t pid, uint64_t start_time, const char *name);

/* ledger_reap() with a descriptor that is known to be ours. */
uint32_t slots_reap(struct ledger_handle *h);

#endif
