/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated GPU at work: channels with work on them, the run list, context switches and their records.
 *
 * Time is the real CLOCK_MONOTONIC, and work is done by computing, whenever somebody asks, what a GPU would have done since
 * the last time: nothing runs between calls, and the sums are exact to the nanosecond. A group has the engine for its
 * timeslice, a switch takes 84 us, a kernel can be stopped midway; a context without work stays until another comes.
 * (Measured on an H200: gpu-baselines, kernel_fifo_ctrl.c; docs/design.md.)
 *
 * A real program makes work through its mapped channels and doorbell, which no simulator can see. So there are controls
 * of the simulator alone: */
#ifndef FG_SIM_RUNLIST_H
#define FG_SIM_RUNLIST_H

#include "sim/rm.h"

enum {
	/* On any object of a GPU: give a channel of any client work for so many ns of the engine. */
	SIM_CTRL_SUBMIT = 0x0f5a0001, SUBMIT_SIZE = 16, SUBMIT_CLIENT = 0, SUBMIT_CHANNEL = 4, SUBMIT_NS = 8,
	/* On any object of a GPU: work left and time on the engine of a channel (0: of all the client's); the GPU's clock, time
	 * lost in switches, time of all channels. */
	SIM_CTRL_QUERY = 0x0f5a0002, QUERY_SIZE = 48, QUERY_CLIENT = 0, QUERY_CHANNEL = 4, QUERY_LEFT = 8,
	QUERY_BUSY = 16, QUERY_NOW = 24, QUERY_SWITCHING = 32, QUERY_TOTAL = 40,
	/* On an event buffer: copy its header (32 bytes) and records (in their places) to the caller, for simulated files
	 * cannot share memory. */
	SIM_CTRL_READ_EVENTS = 0x0f5a0003, EVENTS_SIZE = 24, EVENTS_HEADER = 0, EVENTS_RECORDS = 8, EVENTS_FROM = 16,
	/* GPU time is so far ahead of CLOCK_MONOTONIC. */
	SIM_GPU_CLOCK_AHEAD_S = 1000000,
};

#define SIM_ENDLESS UINT64_MAX		/* SUBMIT_NS: until the channel goes */

/* Let the GPU work up to now. Call before anything changes that decides who runs. */
void sim_sched_advance(struct sim *sim, const struct sim_gpu *gpu);

/* The time that the hardware takes to stop (0.5 ms) or let go (0.3 ms) channels: waits, then lets the GPU work up to now. */
void sim_sched_wait(struct sim *sim, const struct sim_gpu *gpu, bool disable);

/* Controls. */
sim_control_fn sim_sched_submit, sim_sched_query, sim_events_bind, sim_events_enable, sim_events_get, sim_events_flush,
	sim_events_read;

/* events.c: a context came or went. */
void sim_events_add(struct sim *sim, const struct sim_gpu *gpu, uint8_t tag, pid_t pid, uint32_t context, uint64_t now_ns);

#endif
