/* SPDX-License-Identifier: Apache-2.0 */
/* Exact GPU time, from the driver's context-switch records: who was on the compute engine of one GPU, for how many ns.
 *
 * A record says that a context came (or went) at a time of the GPU's clock, and whose process it is. A context without
 * work stays until another wants in, so the last one is "on the GPU" even while it idles: what stays long is charged the part
 * of the time that the driver saw the GPU busy (meter_load()). Records can get lost, be of
 * other users (then without a pid: they count as others') or come from a GPU that was reset.
 * Pure; fixed tables; the reader that asks the driver is meter/reader.h.
 * Sources: cl90cdfecs.h, fecs_event_list.c (580.142); layout the same since 515. */
#ifndef FG_METER_METER_H
#define FG_METER_METER_H

#include <stdbool.h>
#include <stdint.h>

/* Until its state is saved a context that is stopped midway is there and does nothing (H200: of 10 ms by the records 9.87 ms
 * were work, of 2 ms 1.87). */
#define METER_SAVING_NS UINT64_C(125000)

#define METER_CREDIT_NS UINT64_C(100000000)	/* a stay so long is taken for work */
#define METER_PATIENCE_NS UINT64_C(1000000000)	/* for the first sample of a stay */
#define METER_STAY_NS UINT64_C(250000000)	/* the driver samples five times a second (H200) */

enum {
	METER_FULL_LOAD = 10000,
	METER_PIDS = 512,
	METER_SLICES = 64,
	METER_ENGINES = 8,	/* MIG: one compute engine an instance */
	METER_RECORD_SIZE = 32,
};

/* Tags of records (NV_EVENT_BUFFER_FECS_CTXSWTAG_*) */
enum meter_tag {
	METER_SAVE_END = 0x03,
	METER_CONTEXT_START = 0x05,
	METER_SIMPLE_START = 0x06,
	METER_SIMPLE_END = 0x07,
	METER_ENGINE_RESET = 0xfe,
	METER_INVALID_TIMESTAMP = 0xff,
};

struct meter_record {
	uint8_t tag;
	uint16_t sequence;	/* of this buffer: a gap means that records were lost */
	uint32_t context;
	uint32_t pid;		/* as the driver knows it: of the initial PID namespace. 0, 0xffffffff: hidden, kernel */
	uint16_t instance;	/* MIG GPU and compute instance */
	uint64_t time_ns;	/* clock of the GPU */
};

struct meter_pid {
	uint32_t pid;
	int16_t slice;		/* -1: nobody's */
	bool is_doubted;
	uint64_t busy_ns;
	uint64_t there_ns;
	uint64_t last_ns;
};

struct meter_engine {
	uint16_t instance;
	bool used, running;
	uint32_t context;
	uint32_t who;		/* index in pids, or METER_PIDS: others */
	uint64_t came_ns;
	uint64_t since_ns;	/* charged up to then */
	uint64_t left_ns;	/* when the one before left */
	uint32_t load;		/* permyriad of the time since then that counts */
};

struct meter {
	struct meter_pid pids[METER_PIDS];
	uint32_t pid_count;
	struct meter_engine engines[METER_ENGINES];
	uint64_t slice_ns[METER_SLICES];	/* ended intervals: work */
	uint64_t there_ns[METER_SLICES];	/* and presence */
	uint64_t others_ns;
	bool expects_loads;	/* meter_load() will tell of long stays */
	uint64_t saving_ns;	/* METER_SAVING_NS, or 0: count it as if it were work */
	uint64_t lost;		/* records */
	uint64_t odd;		/* records that made no sense: clock ran back, end without start */
	bool started;
	uint16_t sequence;
	uint64_t last_ns;
	/* clock of the GPU = ours - offset; told by meter_clock(), or the smallest difference seen in the last two spans of
	 * 10 s */
	bool has_offset, has_clock;
	int64_t offset_ns, offset_next_ns;
	uint64_t offset_span_ns;
};

void meter_init(struct meter *m);

/* Read a record of the event buffer, METER_RECORD_SIZE bytes. */
struct meter_record meter_record_read(const void *bytes);

/* Take one record in. now_ns: CLOCK_MONOTONIC when it was found in the buffer. */
void meter_record(struct meter *m, const struct meter_record *record, uint64_t now_ns);

/* The GPU's clock showed gpu_ns at now_ns. Without this a record's delay is taken for the clocks' difference, which errs by
 * milliseconds where records are looked at seldom. Where records come from the future the clocks are not the same one, and
 * what was told is not believed any more. */
void meter_clock(struct meter *m, uint64_t gpu_ns, uint64_t now_ns);

/* The driver said that it dropped records (the buffer's dropcount went up). */
void meter_dropped(struct meter *m, uint64_t count);

/* A process belongs to a slice from now on (-1: to none); what it used as nobody's becomes the slice's.
 * Returns 0, or -ENOSPC with more than METER_PIDS processes at a time. */
int meter_assign(struct meter *m, uint32_t pid, int slice);

/* Look through all processes: between the two, those that still are somebody's are assigned again; the others are nobody's
 * afterwards, and their places can be taken. */
void meter_doubt(struct meter *m);
void meter_forget(struct meter *m);

/* ns that a slice (a process) has been at work on the GPU up to now_ns (CLOCK_MONOTONIC), the interval under way included. It
 * may step back by the error of the clocks' comparison, some 10 us, and by what meter_load() takes back. */
uint64_t meter_slice_ns(const struct meter *m, uint32_t slice, uint64_t now_ns);
uint64_t meter_pid_ns(const struct meter *m, uint32_t pid, uint64_t now_ns);

/* ns that a slice has been there, at work or not: known at once. */
uint64_t meter_there_ns(const struct meter *m, uint32_t slice, uint64_t now_ns);

/* Whether it is there without work, by the last sample. */
bool meter_is_idle(const struct meter *m, uint32_t slice);

/* ns that the slice's context has been on the GPU without a switch; 0 when it is not there. */
uint64_t meter_stay_ns(const struct meter *m, uint32_t slice, uint64_t now_ns);

/* Of meter_slice_ns(), what nobody knows yet to be work: the first meter_load() of a stay may take it back. */
uint64_t meter_unproved_ns(const struct meter *m, uint32_t slice, uint64_t now_ns);

/* ns that any context has been on its engine without a switch, counted from the last meter_load() of it. */
uint64_t meter_longest_stay_ns(const struct meter *m, uint64_t now_ns);

/* The driver's sample: the GPU was busy for so much (1/10000) of a time, of its own clock. A context that is there since is
 * charged what others have not had of that, and of what follows this part of the time until the next sample. */
void meter_load(struct meter *m, uint32_t permyriad, uint64_t from_ns, uint64_t to_ns);

/* Samples are not to be had: contexts are taken to work from now on. */
void meter_no_load(struct meter *m, uint64_t now_ns);

/* The GPU's clock at now_ns, as far as it is known. */
uint64_t meter_gpu_ns(const struct meter *m, uint64_t now_ns);

/* Whether any record was about this slice: else the pids are of another namespace, or the records of another user. */
bool meter_has_seen(const struct meter *m, uint32_t slice);

/* One utilisation sample (the fallback): a process used permyriad (1/10000) of the GPU from the last sample to this.
 * Only good for displays: the driver takes one in a sixth of a second or so. */
void meter_sample(struct meter *m, uint32_t pid, uint32_t permyriad, uint64_t span_ns);

#endif
