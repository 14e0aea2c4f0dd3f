/* SPDX-License-Identifier: Apache-2.0 */
/* Asks the driver for context-switch records of one GPU and feeds them to a meter. Where there are none to be had it
 * takes the driver's utilisation samples, which are good for displays only, and says so.
 *
 * Measured on an H200: a poll costs 30 us; of 5145 records in 3 s none were lost with a buffer of this size. Root sees all
 * tenants, others their own user's (fecs_event_list.c). */
#ifndef FG_METER_READER_H
#define FG_METER_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "meter/meter.h"
#include "rm/rm.h"

enum meter_source {
	METER_NOTHING,
	METER_RECORDS,		/* of all users */
	METER_RECORDS_OWN,	/* of our user */
	METER_SAMPLES,
};

enum {
	METER_HEADER_BYTES = 4096,
	METER_RECORDS_MAX = 16384,
	METER_RECORDS_BYTES = METER_RECORDS_MAX * METER_RECORD_SIZE,
};

struct meter_reader {
	struct rm *rm;			/* not owned */
	uint32_t gpu;
	enum meter_source source;
	uint32_t buffer;		/* handle of the event buffer, for METER_RECORDS* */
	struct rm_map maps[2];		/* header and records */
	uint8_t *header, *records;
	uint32_t get;
	uint64_t dropped;
	uint64_t clock_at_ns;		/* when the GPU's clock is to be read again */
	uint8_t *samples;		/* parameters of the control; NULL: not asked for yet */
	uint64_t sample_ns;		/* newest taken in */
	uint64_t load_at_ns;		/* when the load is to be looked at again, METER_RECORDS* */
	/* Called after the driver was asked to flush, before header and records are looked at. NULL with a real driver;
	 * tests on the simulator, whose files cannot share memory, fill them here. */
	void (*refresh)(struct meter_reader *reader);
};

/* Returns 0 (reader->source says what it will be), or negative errno with a sentence in err: no source at all. */
int meter_reader_open(struct meter_reader *reader, struct rm *rm, uint32_t gpu, struct error *err);

/* Take in what is new. Returns the number of records or samples, or negative errno. */
int meter_reader_poll(struct meter_reader *reader, struct meter *meter, uint64_t now_ns);

void meter_reader_close(struct meter_reader *reader);

/* "context-switch records", ... */
const char *meter_source_text(enum meter_source source);

#endif
