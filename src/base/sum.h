/* SPDX-License-Identifier: Apache-2.0 */
/* Sums on sizes that say when they do not fit. */
#ifndef FG_BASE_SUM_H
#define FG_BASE_SUM_H

#include <stdbool.h>
#include <stdint.h>

/* a + b into *ret_sum. False when the sum does not fit; *ret_sum is then untouched. */
static inline bool sum_u64(uint64_t a, uint64_t b, uint64_t *ret_sum)
{
	uint64_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return false;
	*ret_sum = sum;
	return true;
}

/* a - b, or 0 where b is larger. */
static inline uint64_t less_u64(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

#endif
