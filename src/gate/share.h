/* SPDX-License-Identifier: Apache-2.0 */
/* How the drivers of a user's slices find each other: one leads, the others follow.
 *
 * In a directory of the user's alone, who has the lock of ".gates0.lock" leads and listens on ".gates0". The others connect
 * and say what their slices are to get, which channels they have and which processes; the leader decides for all, measures
 * all and moves all gates: two calls hand the GPU over, the second when the first has had its effect. A pause is each one's
 * own. When the leader ends, its guard opens what it closed, each drives its slice as if alone, and one takes the lock.
 * Messages are of one machine and one version: a peer that speaks another is left alone. */
#ifndef FG_GATE_SHARE_H
#define FG_GATE_SHARE_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "gate/driver.h"

enum { SHARE_MEMBERS = 63 };	/* and the leader's own slice */

struct share {
	struct gate_driver *driver;	/* not owned */
	int slice;
	const struct gate_options *options;	/* not owned */
	int lock, listener;	/* the leader's; else -1 */
	int leader;		/* the follower's way to it; else -1 */
	bool is_alone;		/* has more channels than a leader takes: neither leads nor follows any more */
	uint64_t retry_ns;	/* when to look for a leader again */
	uint64_t heard_ns;	/* when it last spoke */
	uint64_t look_ns;	/* when to look what has changed of ours */
	uint32_t count;
	struct {
		int fd, slice;
	} members[SHARE_MEMBERS];
	struct gate_member sent;	/* what the leader knows of us */
	struct {
		uint64_t changes;	/* of the set whose channels it knows, up to number next */
		uint32_t next;
		bool is_sent;
	} lists[ACCOUNT_GPUS];
};

void share_init(struct share *s, const struct gate_options *options);

/* The driver that is to lead or follow, and its one slice. */
void share_attach(struct share *s, struct gate_driver *driver, int slice);

/* Find a leader or become it, hear what there is: before the driver's step. Never blocks. */
void share_tend(struct share *s, uint64_t now_ns);

/* Tell the leader what has changed of ours: after the step, which sees it. Never blocks. */
void share_speak(struct share *s, uint64_t now_ns);

/* Look at ours soon: something has changed. */
void share_changed(struct share *s);

/* Whether somebody else's gates hang on us. */
bool share_is_needed(const struct share *s);

/* Descriptors to wait on, SHARE_MEMBERS + 1 at the most. Returns their number. */
uint32_t share_polls(const struct share *s, struct pollfd *ret_polls);

/* For struct gate_options: arg is the struct share. */
void share_report(void *arg, int member, uint32_t gpu_id, const struct gate_figures *figures);

void share_done(struct share *s);

#endif
