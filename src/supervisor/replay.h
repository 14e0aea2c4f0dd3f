/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that were made, but whose answer did not reach the caller.
 *
 * A listener without SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (of runc before 1.5) lets a signal end the wait for an answer: the
 * kernel makes the call again after the handler, or the program does after EINTR. The driver must not be asked twice. What was
 * read and written for a call is remembered by the thread that judges it; if nobody took the answer it is kept, and given to the
 * same thread when it makes the same call with the same bytes. */
#ifndef FG_SUPERVISOR_REPLAY_H
#define FG_SUPERVISOR_REPLAY_H

#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of the calling thread, about the call that it judges: a new one begins, once no other thread of ours has one of the same
 * caller (that one was interrupted), and it ends; bytes were read or are to be written at the caller's address; the driver was
 * asked; the engine's answer, a value or negative errno. No errors: what does not fit is not kept, and without replay_begin()
 * nothing is. */
void replay_begin(const struct seccomp_notif *n);
void replay_end(void);
void replay_read(uint64_t address, const void *bytes, size_t size);
void replay_written(uint64_t address, const void *bytes, size_t size);
void replay_asked(void);
void replay_valued(int value);

/* Keep the call that this thread judged, if the driver was asked: its answer was not taken. */
void replay_keep(const struct seccomp_notif *n);

/* The kernel said that the answer was taken, which it also says when a signal came in that moment. Kept for 10 ms, allocations
 * only: one that is made again with the bytes of its own answer, the object's handle among them, is no new one. */
void replay_sent(const struct seccomp_notif *n);

/* Whether a call is the repetition of one that was kept: then its bytes are written again and *r is the answer. A thread that makes
 * another call has given up the kept one. */
bool replay_answers(int listener, const struct seccomp_notif *n, struct seccomp_notif_resp *r);

#endif
