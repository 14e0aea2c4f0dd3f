/* SPDX-License-Identifier: Apache-2.0 */
/* Whether an account is whole: for tests. */
#include "policy/account.h"

#include <errno.h>

#include "base/sum.h"
#include "policy/range_index.h"

enum { CHECK_WINDOW = 4096 };	/* charges counted at a time, on the stack */

/* Every hold is in a chain once, every free one in the list of free ones once. */
static bool are_chains_whole(const struct account *a)
{
	const uint32_t buckets = sizeof(a->hash) / sizeof(a->hash[0]);
	uint32_t chained = 0;
	uint32_t unused = 0;
	uint32_t kept = 0;
	uint32_t managed = 0;

	for (uint32_t i = 0; i < a->hold_high; i++) {
		kept += a->holds[i].kind != HOLD_NONE;
		managed += a->holds[i].kind == HOLD_MANAGED;
		if (!range_index_has(a, &a->holds[i]))
			return false;
	}
	for (uint32_t b = 0; b < buckets; b++) {
		for (uint32_t i = a->hash[b]; i; i = a->holds[i - 1].next) {
			if (i > a->hold_high || a->holds[i - 1].kind == HOLD_NONE || ++chained > kept)
				return false;
		}
	}
	for (uint32_t i = a->hold_free; i; i = a->holds[i - 1].next) {
		if (i > a->hold_high || a->holds[i - 1].kind != HOLD_NONE || ++unused > a->hold_high)
			return false;
	}
	return chained == kept && kept == a->hold_count && managed == a->managed_count &&
	       kept + unused == a->hold_high;
}

/* Every charge has as many holds as point at it, and every free one is in the list of free ones once. */
static bool are_charges_whole(const struct account *a)
{
	uint32_t unused = 0;
	uint32_t kept = 0;

	for (uint32_t first = 0; first < a->charge_high; first += CHECK_WINDOW) {
		uint32_t holds[CHECK_WINDOW] = { 0 };

		for (uint32_t i = 0; i < a->hold_high; i++) {
			const struct hold *h = &a->holds[i];

			if (h->kind == HOLD_NONE || !h->charge)
				continue;
			if (h->charge > a->charge_high || !a->charges[h->charge - 1].gpu_mask)
				return false;
			if (h->charge - 1 >= first && h->charge - 1 < first + CHECK_WINDOW)
				holds[h->charge - 1 - first]++;
		}
		for (uint32_t i = first; i < a->charge_high && i < first + CHECK_WINDOW; i++) {
			kept += a->charges[i].gpu_mask != 0;
			if (a->charges[i].holds != holds[i - first])
				return false;
		}
	}
	for (uint32_t i = a->charge_free; i; i = (uint32_t)a->charges[i - 1].bytes) {
		if (i > a->charge_high || a->charges[i - 1].gpu_mask || ++unused > a->charge_high)
			return false;
	}
	return kept + unused == a->charge_high;
}

static bool are_sums_true(const struct account *a)
{
	for (uint32_t gpu = 0; gpu < ACCOUNT_GPUS; gpu++) {
		uint64_t sum = 0;

		for (uint32_t i = 0; i < a->charge_high; i++) {
			if (a->charges[i].gpu_mask & 1u << gpu && !sum_u64(sum, a->charges[i].bytes, &sum))
				return false;
		}
		if (sum != a->used_bytes[gpu])
			return false;
	}
	return true;
}

int account_check(const struct account *a)
{
	if (a->hold_high > ACCOUNT_HOLDS || a->charge_high > ACCOUNT_CHARGES)
		return -EUCLEAN;
	return are_chains_whole(a) && are_charges_whole(a) && are_sums_true(a) ? 0 : -EUCLEAN;
}
