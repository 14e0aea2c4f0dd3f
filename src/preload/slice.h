/* SPDX-License-Identifier: Apache-2.0 */
/* The slice this process belongs to: the ledger that lies beside our own file. */
#ifndef FG_PRELOAD_SLICE_H
#define FG_PRELOAD_SLICE_H

#include <stdint.h>

#include "engine/engine.h"

struct slice {
	struct ledger_handle ledger;
	struct engine engine;
	bool is_ready;		/* opened, and the engine knows its driver */
};

extern struct slice slice;	/* one a process */

/* Attach this process, if it is not attached. Returns its slot, or negative errno: then the caller's call is to be
 * refused (the reason is in the debug file). No system call for most calls: whether it is attached still, with the descriptor
 * and the byte lock that a program may take away by closing what is not its own, is looked at every 64th time. */
int slice_attach(void);

/* The same, and look now: before the descriptor is used to ask who else is alive. */
int slice_attach_now(void);

/* The slot without attaching: -1 when this process' memory is not attached. No lock, few system calls. */
int slice_owner(void);

#endif
