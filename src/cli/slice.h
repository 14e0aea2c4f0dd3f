/* SPDX-License-Identifier: Apache-2.0 */
/* A slice as it is now, for those who show it. */
#ifndef FG_CLI_SLICE_H
#define FG_CLI_SLICE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/runtime.h"
#include "ledger/ledger.h"

enum { SLICE_PATH = RUNTIME_PATH + SLICE_NAME + 1 };

/* What the ledger's events are called, where they are shown. */
extern const char *const slice_event_names[LEDGER_EVENTS];

/* A copy of its ledger without the dead. */
struct slice {
	struct ledger *ledger;
	int32_t pids[LEDGER_SLOTS]; /* 0: nobody, or in another PID namespace */
	bool live[LEDGER_SLOTS];
};

/* Read the slice in a directory into zeroed memory. Returns 0, -ENOENT when it is being made or went away, -EPROTO when
 * its ledger is of another version, or negative errno. */
int slice_read(struct slice *slice, const char *path);
void slice_done(struct slice *slice);

/* The directory of the slice of this name. Returns 0, -ENOENT when none runs, or negative errno. */
int slice_find(const char *name, char ret_path[SLICE_PATH], struct error *err);

/* Say on stderr that slice_read() failed. Returns EXIT_FAILED. */
int slice_complain(const char *name, int code);

/* Entries of the account's tables that are in use. */
uint32_t slice_gpu_count(const struct slice *slice);

/* [{pid, name, calls}], to be released. */
json_t *slice_processes_json(const struct slice *slice);

#endif
