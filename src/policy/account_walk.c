/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at all of an account. */
#include "policy/account.h"

uint64_t account_owner_bytes(const struct account *a, uint16_t owner, uint32_t gpu)
{
	uint64_t seen[ACCOUNT_CHARGES / 64] = { 0 };
	uint64_t bytes = 0;

	if (gpu >= ACCOUNT_GPUS)
		return 0;
	for (uint32_t i = 0; i < a->hold_high; i++) {
		const struct hold *h = &a->holds[i];
		uint32_t entry = h->charge - 1;

		if (h->kind == HOLD_NONE || h->owner != owner || !h->charge || h->charge > ACCOUNT_CHARGES)
			continue;
		if (!(a->charges[entry].gpu_mask & 1u << gpu) || seen[entry / 64] & UINT64_C(1) << entry % 64)
			continue;
		seen[entry / 64] |= UINT64_C(1) << entry % 64;
		bytes += a->charges[entry].bytes;
	}
	return bytes;
}

int account_each(struct account *a, enum hold_kind kind, int (*fn)(struct hold *hold, void *arg), void *arg)
{
	for (uint32_t i = 0; i < a->hold_high; i++) {
		if (a->holds[i].kind == kind) {
			int r = fn(&a->holds[i], arg);

			if (r)
				return r;
		}
	}
	return 0;
}
