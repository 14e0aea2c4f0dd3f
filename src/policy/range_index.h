/* SPDX-License-Identifier: Apache-2.0 */
/* An account's mappings and managed ranges in order of owner and address: which of them an address range meets is found
 * without looking at all.
 *
 * A treap over the holds themselves (struct hold: left, right), so it takes no room. Part of what account_repair() makes true
 * again; the account's callers serialise. Mappings with numbers of the engine's own (at or above RANGE_INDEX_END) are left out:
 * no program's range meets them. */
#ifndef FG_POLICY_RANGE_INDEX_H
#define FG_POLICY_RANGE_INDEX_H

#include "policy/account.h"

#define RANGE_INDEX_END (UINT64_C(1) << 62)

/* Put a hold in, take it out. Its kind, owner and address must be the same at both times. Of other kinds: nothing. */
void range_index_add(struct account *a, struct hold *h, uint32_t kind);
void range_index_remove(struct account *a, struct hold *h, uint32_t kind);

/* The first hold of a kind and owner that ends above address, where ranges of an owner do not overlap. NULL: none. */
struct hold *range_index_from(struct account *a, uint32_t kind, uint16_t owner, uint64_t address);

/* Whether the index leads to a hold, or need not. */
bool range_index_has(const struct account *a, const struct hold *h);

#endif
