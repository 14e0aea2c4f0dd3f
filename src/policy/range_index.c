/* SPDX-License-Identifier: Apache-2.0 */
/* Mappings and managed ranges in order. A treap: a tree by key, a heap by priority. The priority is made of the hold's place
 * in the table, so it is not stored, and programs that count addresses up do not make a list of it. */
#include "policy/range_index.h"

#include <stddef.h>

#include "base/sum.h"

static bool is_indexed(const struct hold *h, uint32_t kind)
{
	return kind == HOLD_MANAGED || (kind == HOLD_MAPPING && h->address < RANGE_INDEX_END);
}

static uint32_t link_of(const struct account *a, const struct hold *h)
{
	return (uint32_t)(h - a->holds) + 1;
}

static uint32_t priority_of(uint32_t link)
{
	return link * UINT32_C(0x9e3779b1) ^ link * UINT32_C(0x85ebca6b) >> 15;
}

/* Whether a hold of the index stands before a key; of two with the same key the one with the lower link. */
static bool is_before(const struct account *a, uint32_t at, uint32_t kind, uint16_t owner, uint64_t address, uint32_t link)
{
	const struct hold *h = &a->holds[at - 1];

	if (h->kind != kind)
		return h->kind < kind;
	if (h->owner != owner)
		return h->owner < owner;
	if (h->address != address)
		return h->address < address;
	return at < link;
}

void range_index_add(struct account *a, struct hold *h, uint32_t kind)
{
	uint32_t self = link_of(a, h), rest;
	uint32_t *link = &a->range_root, *left = &h->left, *right = &h->right;

	if (!is_indexed(h, kind))
		return;
	while (*link && priority_of(*link) > priority_of(self)) {
		struct hold *above = &a->holds[*link - 1];

		link = is_before(a, *link, kind, h->owner, h->address, self) ? &above->right : &above->left;
	}
	/* what was here goes below, to both sides */
	rest = *link;
	*link = self;
	while (rest) {
		struct hold *other = &a->holds[rest - 1];

		if (is_before(a, rest, kind, h->owner, h->address, self)) {
			*left = rest;
			left = &other->right;
			rest = other->right;
		} else {
			*right = rest;
			right = &other->left;
			rest = other->left;
		}
	}
	*left = *right = 0;
}

/* The link that leads to a hold; to 0 when it is not there. */
static uint32_t *find_link(struct account *a, const struct hold *h, uint32_t kind)
{
	uint32_t self = link_of(a, h);
	uint32_t *link = &a->range_root;

	while (*link && *link != self) {
		struct hold *above = &a->holds[*link - 1];

		link = is_before(a, *link, kind, h->owner, h->address, self) ? &above->right : &above->left;
	}
	return link;
}

void range_index_remove(struct account *a, struct hold *h, uint32_t kind)
{
	uint32_t *link, left = h->left, right = h->right;

	if (!is_indexed(h, kind))
		return;
	link = find_link(a, h, kind);
	if (!*link)
		return;
	while (left && right) {
		bool takes_left = priority_of(left) > priority_of(right);
		struct hold *up = &a->holds[(takes_left ? left : right) - 1];

		*link = takes_left ? left : right;
		link = takes_left ? &up->right : &up->left;
		*(takes_left ? &left : &right) = *link;
	}
	*link = left ? left : right;
	h->left = h->right = 0;
}

struct hold *range_index_from(struct account *a, uint32_t kind, uint16_t owner, uint64_t address)
{
	struct hold *below = NULL, *above = NULL;
	uint32_t at = a->range_root;

	while (at) {
		struct hold *h = &a->holds[at - 1];

		if (is_before(a, at, kind, owner, address, UINT32_MAX)) {
			below = h;
			at = h->right;
		} else {
			above = h;
			at = h->left;
		}
	}
	if (below && below->kind == kind && below->owner == owner) {
		uint64_t end;

		if (!sum_u64(below->address, below->length, &end) || end > address)
			return below;
	}
	return above && above->kind == kind && above->owner == owner ? above : NULL;
}

bool range_index_has(const struct account *a, const struct hold *h)
{
	uint32_t at = a->range_root, self = link_of(a, h), steps = 0;

	if (!is_indexed(h, h->kind))
		return true;
	while (at && at != self && at <= a->hold_high && steps++ <= a->hold_high)
		at = is_before(a, at, h->kind, h->owner, h->address, self) ? a->holds[at - 1].right : a->holds[at - 1].left;
	return at == self;
}
