/* SPDX-License-Identifier: Apache-2.0 */
/* What a tenant is shown. Pure. */
#ifndef FG_POLICY_VIEW_H
#define FG_POLICY_VIEW_H

#include <stdint.h>

/* What a memory figure means. */
enum view_figure {
	VIEW_OTHER,	/* not about how much memory there is: shown as it is */
	VIEW_TOTAL,	/* all of it: the limit */
	VIEW_FREE,	/* what is left */
	VIEW_NOTHING,	/* what the driver keeps for itself: 0 in a slice */
};

/* The figure to show for one the driver gave. All in bytes. total: never more than the card's. free: the smaller of
 * what the card has left and what the slice has left. */
uint64_t view_memory(enum view_figure figure, uint64_t driver_bytes, uint64_t limit_bytes, uint64_t used_bytes);

#endif
