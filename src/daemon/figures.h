/* SPDX-License-Identifier: Apache-2.0 */
/* What all slices of this host hold, in one snapshot: read from their ledgers, without asking anybody. */
#ifndef FG_DAEMON_FIGURES_H
#define FG_DAEMON_FIGURES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/runtime.h"
#include "ledger/ledger.h"

enum {
	FIGURES_SLICES = 512, /* more are counted, and left out */
	FIGURES_NAME = 256,
	FIGURES_UNKNOWN = -1, /* of a share of time */
};

struct figures_card {
	uint32_t index; /* as nvidia-smi numbers them */
	char uuid[48], model[64];
	uint64_t total_bytes;
	uint64_t given_bytes; /* the sum of the slices' limits */
	uint64_t used_bytes; /* the sum of what they hold */
	uint32_t slices;
	int32_t busy_permille; /* of the slices that are measured, in the last step; FIGURES_UNKNOWN */
};

/* A GPU of a slice. */
struct figures_gpu {
	uint32_t index;
	char uuid[48];
	uint64_t limit_bytes, used_bytes, peak_bytes, refusals;
	bool is_measured; /* busy_ns says something */
	uint64_t busy_ns, throttled_ns, switches;
	int32_t busy_permille, throttled_permille; /* in the last step; FIGURES_UNKNOWN */
};

/* Text is UTF-8 without control characters; it comes from whoever starts containers. */
struct figures_slice {
	char name[SLICE_NAME], door[16], driver[32];
	char container[FIGURES_NAME]; /* its name, else its id; "": no container */
	char pod[FIGURES_NAME], pod_namespace[FIGURES_NAME]; /* "": not known */
	uint64_t serial; /* another slice of the same name has another */
	bool is_paused, is_breached;
	bool is_twin; /* an earlier slice says to be the same container of the same pod */
	uint32_t cap_permille; /* 0: none */
	uint32_t weight, priority, processes;
	uint64_t events[LEDGER_EVENTS];
	uint32_t gpu_count; /* those that are the slice's */
	struct figures_gpu gpus[ACCOUNT_GPUS];
};

struct figures {
	uint32_t card_count;
	struct figures_card cards[ACCOUNT_GPUS];
	uint32_t slice_count;
	struct figures_slice slices[FIGURES_SLICES];
	uint32_t left_out; /* slices past FIGURES_SLICES */
	uint32_t unreadable; /* of another version, or broken */
	uint64_t served, refused; /* hand-offs so far; the daemon's to fill */
};

/* Ask the driver what GPUs there are. Returns 0 or negative errno; the cards are then as they were. */
int figures_find_cards(struct figures *f, struct error *err);

/* Read the slices below a runtime directory, by name, and what that makes of the cards. Returns 0, or -EAGAIN
 * when a slice is being made this moment: all is then as it was. */
int figures_read(struct figures *f, const char *runtime);

/* Fill a slice from a ledger, which a tenant of the preload door may have written to. */
void figures_take_ledger(struct figures_slice *s, const struct ledger *l);

/* Names from SLICE/container (identity.c). What users other than root call their things is not
 * taken: they could call them like somebody else's. */
void figures_take_identity(struct figures_slice *s, const json_t *identity);

/* Sums over the slices, and which of them say to be the same container. */
void figures_add_up(struct figures *f);

#endif
