/* SPDX-License-Identifier: Apache-2.0 */
/* The driver of the gates: reads what slices are to get from their ledgers, asks the arbiter of each GPU, and moves the
 * gates. `fracgpu run` runs it for its one slice (next to the program behind the preload door, in a thread of the
 * supervisor else). Where several of a user have compute settings, one of the drivers decides for all and moves all gates
 * (gate/share.h): the others are its members, which tell it what there is. */
#ifndef FG_GATE_DRIVER_H
#define FG_GATE_DRIVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "gate/gate.h"
#include "ledger/ledger.h"
#include "meter/reader.h"

struct gate_driver;

/* A slice whose gates somebody else moves. */
struct gate_member {
	uint32_t max_permille, weight, priority, frozen, latency_us;	/* as in its ledger */
	uint32_t gpu_count;
	struct {
		uint32_t gpu_id, channels;
	} gpus[ACCOUNT_GPUS];
	uint32_t pid_count;
	int32_t pids[LEDGER_SLOTS];
};

struct gate_figures {
	uint64_t busy_ns, throttled_ns, switches;
	uint32_t source;	/* as in struct ledger_compute */
	uint32_t timeslice_us;	/* that the member's groups shall have */
};

struct gate_options {
	uint64_t latency_ns;	/* longest wait for a turn; 0: the arbiter's default */
	uint32_t phase_permille;	/* of the caps' periods */
	uint32_t stall_ms;	/* the guard opens everything when the driver hangs that long; 0: 5 s */
	bool no_meter;		/* guess from the gates alone */
	void (*refresh)(struct meter_reader *reader);	/* of the meters' readers: for tests on the simulator */
	/* Where drivers find each other: a directory of ours alone. NULL: this one is for itself. */
	const char *share_dir;
	bool (*may_join)(int peer);	/* whether the process behind a connected socket may be a member, or lead us */
	/* What members are told, ten times a second. */
	void (*report)(void *arg, int member, uint32_t gpu_id, const struct gate_figures *figures);
	void *arg;
};

/* Whether a slice has any compute setting, so that it needs a driver at all. */
bool gate_is_needed(const struct ledger *ledger);

/* Make a driver with a way to the GPUs and a guard of its own. Returns 0 or negative errno with a sentence in err. */
int gate_driver_new(struct gate_driver **ret_driver, const struct gate_options *options, struct error *err);

/* Drive a slice: the ledger (owned by the caller, mapped for writing) stays open until gate_driver_remove().
 * Returns its number, or -ENOSPC with 64 slices. */
int gate_driver_add(struct gate_driver *driver, struct ledger_handle *ledger);

/* Decide for a member, too: its number, or -ENOSPC. And what has changed of it, and of its channels on a GPU (a part of them, as
 * gate_take() wants it). What it says is checked. */
int gate_driver_join(struct gate_driver *driver, const struct gate_member *member);
void gate_driver_update(struct gate_driver *driver, int member, const struct gate_member *about);
void gate_driver_channels(struct gate_driver *driver, int member, uint32_t gpu_id, const struct gate_about *list, uint32_t count,
			  bool is_first, bool is_last);

/* Whether this driver decides for a member on a GPU: it may not see all that the member sees. */
bool gate_driver_decides(const struct gate_driver *driver, int member, uint32_t gpu_id);

/* The other side. What to say of a slice of ours, and the set its channels are in (NULL: no such GPU); that somebody else moves
 * our gates on a GPU from now on (but for a pause, which is ours always); what it told of us; and to decide for ourselves again.
 * All slices of this driver, which is one. */
void gate_driver_describe(struct gate_driver *driver, int slice, struct gate_member *ret_member);
const struct gate_set *gate_driver_set(const struct gate_driver *driver, uint32_t gpu_id);
void gate_driver_follow(struct gate_driver *driver, uint32_t gpu_id);
bool gate_driver_is_followed(const struct gate_driver *driver);
void gate_driver_figures(struct gate_driver *driver, uint32_t gpu_id, const struct gate_figures *figures);
void gate_driver_lead(struct gate_driver *driver);

/* Open the slice's gates and forget it; or the member. */
void gate_driver_remove(struct gate_driver *driver, int slice);

/* Do what is due. *ret_next_ns: CLOCK_MONOTONIC of the next thing to do, 100 ms away at the most: settings may change.
 * Returns 0, or the negative errno of a failed call to the driver; go on all the same, it is tried again later. */
int gate_driver_step(struct gate_driver *driver, uint64_t now_ns, uint64_t *ret_next_ns);

/* What the GPU time of a GPU (as in the slice's ledger) is measured by now. */
enum meter_source gate_driver_source(const struct gate_driver *driver, int slice, uint32_t gpu);

/* Open all gates, end the guard. NULL is fine. */
void gate_driver_free(struct gate_driver *driver);

/* To be called after a change of the compute settings in a ledger: counts up the generation and wakes who waits for it,
 * in any process that maps it. */
void gate_settings_changed(struct ledger *ledger);

/* All of it for one slice, in the calling thread, until *stop is not 0 (then call gate_settings_changed() to wake it).
 * With options->share_dir it leads, or follows whoever does.
 * While the slice has no compute setting it sleeps: no driver, no guard, no timer. Returns 0 or negative errno with a
 * sentence in err: no way to the driver. */
int gate_run(struct ledger_handle *ledger, const struct gate_options *options, const uint32_t *stop, struct error *err);

/* The same in a thread of its own, with all signals blocked. */
struct gate_thread {
	pthread_t thread;
	bool is_running;
	struct ledger_handle *ledger;
	struct gate_options options;
	uint32_t stop;
	int result;		/* of gate_run(), after gate_thread_stop() */
	struct error err;
};

/* Returns 0 or negative errno. t and ledger stay where they are until gate_thread_stop(). */
int gate_thread_start(struct gate_thread *t, struct ledger_handle *ledger, const struct gate_options *options);

/* Open all gates, end the thread and the guard. Fine when it was never started (zeroed memory). */
void gate_thread_stop(struct gate_thread *t);

#endif
