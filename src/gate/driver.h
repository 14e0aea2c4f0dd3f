/* SPDX-License-Identifier: Apache-2.0 */
/* The driver of the gates: reads what slices are to get from their ledgers, asks the arbiter of each GPU, and moves the
 * gates. `fracgpu run` runs it for its one slice (next to the program behind the preload door, in a thread of the
 * supervisor else); fracgpud for all slices.
 *
 * One driver with one slice keeps caps, which lie on the clock, and freezes. Weights and priorities are between the slices
 * of one driver: without fracgpud they have no effect. */
#ifndef FG_GATE_DRIVER_H
#define FG_GATE_DRIVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "ledger/ledger.h"
#include "meter/reader.h"

struct gate_driver;

struct gate_options {
	uint64_t latency_ns;	/* longest wait for a turn; 0: the arbiter's default */
	uint32_t phase_permille;	/* of the caps' periods */
	uint32_t stall_ms;	/* the guard opens everything when the driver hangs that long; 0: 5 s */
	bool no_meter;		/* guess from the gates alone */
	void (*refresh)(struct meter_reader *reader);	/* of the meters' readers: for tests on the simulator */
};

/* Whether a slice has any compute setting, so that it needs a driver at all. */
bool gate_is_needed(const struct ledger *ledger);

/* Make a driver with a way to the GPUs and a guard of its own. Returns 0 or negative errno with a sentence in err. */
int gate_driver_new(struct gate_driver **ret_driver, const struct gate_options *options, struct error *err);

/* Drive a slice: the ledger (owned by the caller, mapped for writing) stays open until gate_driver_remove().
 * Returns its number, or -ENOSPC with 64 slices. */
int gate_driver_add(struct gate_driver *driver, struct ledger_handle *ledger);

/* Open the slice's gates and forget it. */
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
