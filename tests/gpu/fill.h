/* SPDX-License-Identifier: Apache-2.0 */
/* Ways to take memory of a GPU, one a row, so that each can be filled until it is refused. */
#ifndef FG_GPU_FILL_H
#define FG_GPU_FILL_H

#include <stdbool.h>

#include "gpu/cuda.h"
#include "lib/test_rm.h"

struct block {
	uint64_t address;
	uint64_t handle;	/* of cuMemCreate, or an RM object */
	void *object;		/* array, graph */
	void *exec;		/* of the graph */
	bool is_linear;		/* can be written at address */
	bool is_plain;		/* by cuMemAlloc, whatever the row says */
};

struct fill {
	const struct fill_api *api;
	struct cuda cu;
	struct test_rm rm;
	void *stream, *pool;
	uint64_t step_bytes, cap_bytes;
	struct block *blocks;
	size_t count;
	int ready, begin;	/* with --processes: a byte says that the context is there, one that all are; 0: alone */
	int exporter;		/* socket of the process that exports to us; -1 */
	int exporter_pid;
};

struct fill_api {
	const char *name;
	bool is_raw;				/* talks to the driver itself: no CUDA */
	int (*before)(struct fill *f);		/* before CUDA is started: forks the exporter */
	int (*prepare)(struct fill *f);
	int (*take)(struct fill *f, struct block *b);	/* a CUresult; raw: 2 when refused for memory */
	void (*give)(struct fill *f, struct block *b);
	void (*settle)(struct fill *f);		/* after many gives: what the API caches goes back */
};

extern const struct fill_api fill_apis[];	/* ends with name NULL */

/* The rows that import from a second process (fill_import.c). */
int import_before_ipc(struct fill *f);
int import_before_fd(struct fill *f);
int import_take_ipc(struct fill *f, struct block *b);
int import_take_fd(struct fill *f, struct block *b);
void import_give(struct fill *f, struct block *b);
/* Kill the exporter and wait for its end: what we imported stays ours. From then on cuMemAlloc takes. */
void import_orphan(struct fill *f);

/* Room of addresses for a handle of cuMemCreate, mapped and writable. Returns a CUresult. */
int vmm_map_handle(struct fill *f, uint64_t handle, uint64_t *ret_address);
int plain_take(struct fill *f, struct block *b);

#endif
