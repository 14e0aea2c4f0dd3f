/* SPDX-License-Identifier: Apache-2.0 */
/* How long a slice's work stays on a GPU before the driver looks who is next. */
#ifndef FG_GATE_TIMESLICE_H
#define FG_GATE_TIMESLICE_H

#include <stdint.h>

#include "ledger/ledger.h"
#include "rm/rm.h"

/* Give the compute groups that a slice has on a GPU of its account this timeslice, through copies of its processes'
 * descriptors. What cannot be reached keeps the one it has.
 *
 * ret_groups  how many there are
 *
 * Returns how many of them have it now. Takes the ledger's lock. */
uint32_t gate_timeslice(struct rm *rm, struct ledger_handle *h, uint32_t account_gpu, uint64_t us, uint32_t *ret_groups);

#endif
