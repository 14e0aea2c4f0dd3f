/* SPDX-License-Identifier: Apache-2.0 */
/* The account: free entries chained, holds found by hash, every step ordered so that a death between any two stores
 * leaves something that account_repair() can mend. */
#include "policy/account.h"

#include <errno.h>
#include <stddef.h>

#include "base/sum.h"
#include "policy/range_index.h"

enum {
	HASH_BUCKETS = sizeof(((struct account *)0)->hash) / sizeof(uint32_t),
	DOOMED = 0x100,		/* in hold.kind while a subtree is dropped; no kind that a repair knows */
	CLIMB = 32,		/* parents looked at in one go; the driver's tree has four levels */
};

_Static_assert(HASH_BUCKETS == 65536, "bucket_of() keeps the top 16 bits");
_Static_assert(sizeof(struct hold) == 48 && sizeof(struct charge) == 16, "shared between builds");

static bool is_rm_kind(uint32_t kind)
{
	return kind >= HOLD_CLIENT && kind <= HOLD_CHANNEL;
}

static bool is_range_kind(uint32_t kind)
{
	return kind >= HOLD_MAPPING && kind <= HOLD_RANGE;
}

/* Whether other objects can hang below it. */
static bool is_parent_kind(uint32_t kind)
{
	return kind == HOLD_CLIENT || kind == HOLD_DEVICE || kind == HOLD_SUBDEVICE || kind == HOLD_GROUP;
}

/* The kind is stored last when a hold is made, and first when it is dropped. A process dies between two instructions,
 * never across them, so only the compiler must be kept from moving stores. */
static void store_kind(struct hold *h, uint32_t kind)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&h->kind, kind, __ATOMIC_RELEASE);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* Programs count handles and addresses up: mix well (the finaliser of splitmix64), keep the top bits. */
static uint32_t bucket_of(uint64_t key)
{
	key ^= key >> 30;
	key *= UINT64_C(0xbf58476d1ce4e5b9);
	key ^= key >> 27;
	key *= UINT64_C(0x94d049bb133111eb);
	return (uint32_t)(key >> 48);
}

static uint32_t rm_bucket(uint32_t client, uint32_t handle)
{
	return bucket_of((uint64_t)client << 32 | handle);
}

/* Not by owner: an export's changes. */
static uint32_t range_bucket(uint64_t address)
{
	return bucket_of(~address);
}

static uint32_t *bucket_of_hold(struct account *a, const struct hold *h, uint32_t kind)
{
	return &a->hash[is_rm_kind(kind) ? rm_bucket(h->client, h->handle) : range_bucket(h->address)];
}

static void chain(struct account *a, struct hold *h, uint32_t kind)
{
	uint32_t *bucket = bucket_of_hold(a, h, kind);

	h->next = *bucket;
	*bucket = (uint32_t)(h - a->holds) + 1;
	range_index_add(a, h, kind);
}

static void unchain(struct account *a, struct hold *h, uint32_t kind)
{
	uint32_t wanted = (uint32_t)(h - a->holds) + 1;

	range_index_remove(a, h, kind);
	for (uint32_t *link = bucket_of_hold(a, h, kind); *link; link = &a->holds[*link - 1].next) {
		if (*link == wanted) {
			*link = h->next;
			return;
		}
	}
}

static struct charge *charge_at(struct account *a, uint32_t charge)
{
	return charge && charge <= ACCOUNT_CHARGES ? &a->charges[charge - 1] : NULL;
}

/* Book or give back bytes on the GPUs of a mask. Sums stop at the ends instead of wrapping. */
static void add_used(struct account *a, uint32_t gpu_mask, uint64_t bytes)
{
	for (uint32_t gpu = 0; gpu < ACCOUNT_GPUS; gpu++) {
		if (!(gpu_mask & 1u << gpu))
			continue;
		if (!sum_u64(a->used_bytes[gpu], bytes, &a->used_bytes[gpu]))
			a->used_bytes[gpu] = UINT64_MAX;
		if (a->peak_bytes[gpu] < a->used_bytes[gpu])
			a->peak_bytes[gpu] = a->used_bytes[gpu];
	}
}

static void take_used(struct account *a, uint32_t gpu_mask, uint64_t bytes)
{
	for (uint32_t gpu = 0; gpu < ACCOUNT_GPUS; gpu++) {
		if (gpu_mask & 1u << gpu)
			a->used_bytes[gpu] = less_u64(a->used_bytes[gpu], bytes);
	}
}

static void free_charge(struct account *a, struct charge *c)
{
	take_used(a, c->gpu_mask, c->bytes);
	c->gpu_mask = 0;
	c->holds = 0;
	c->bytes = a->charge_free;
	a->charge_free = (uint32_t)(c - a->charges) + 1;
}

static struct charge *new_charge(struct account *a)
{
	struct charge *c = charge_at(a, a->charge_free);

	if (c) {
		a->charge_free = (uint32_t)c->bytes;
		return c;
	}
	return a->charge_high < ACCOUNT_CHARGES ? &a->charges[a->charge_high++] : NULL;
}

static struct hold *new_hold(struct account *a)
{
	struct hold *h;

	if (a->hold_free) {
		h = &a->holds[a->hold_free - 1];
		a->hold_free = h->next;
		return h;
	}
	return a->hold_high < ACCOUNT_HOLDS ? &a->holds[a->hold_high++] : NULL;
}

int account_init(struct account *a, uint32_t gpu_count, const uint64_t *limits)
{
	if (!gpu_count || gpu_count > ACCOUNT_GPUS)
		return -EINVAL;
	for (uint32_t gpu = 0; gpu < gpu_count; gpu++)
		a->limit_bytes[gpu] = limits[gpu];
	a->gpu_count = gpu_count;
	return 0;
}

/* Charges: forget who holds them, then count anew. What no hold keeps goes back to the free ones. */
static void repair_charges(struct account *a)
{
	for (uint32_t i = 0; i < a->charge_high; i++)
		a->charges[i].holds = 0;
	for (uint32_t i = 0; i < a->hold_high; i++) {
		struct hold *h = &a->holds[i];
		struct charge *c = charge_at(a, h->charge);

		if (h->kind == HOLD_NONE)
			continue;
		if (c && h->charge <= a->charge_high && c->gpu_mask)
			c->holds++;
		else
			h->charge = 0;
	}
	a->charge_free = 0;
	for (uint32_t gpu = 0; gpu < ACCOUNT_GPUS; gpu++)
		a->used_bytes[gpu] = 0;
	for (uint32_t i = a->charge_high; i-- > 0; ) {
		struct charge *c = &a->charges[i];

		if (c->holds) {
			add_used(a, c->gpu_mask, c->bytes);
			continue;
		}
		c->gpu_mask = 0;
		c->bytes = a->charge_free;
		a->charge_free = i + 1;
	}
}

void account_repair(struct account *a)
{
	if (a->hold_high > ACCOUNT_HOLDS)
		a->hold_high = ACCOUNT_HOLDS;
	if (a->charge_high > ACCOUNT_CHARGES)
		a->charge_high = ACCOUNT_CHARGES;
	for (uint32_t i = 0; i < HASH_BUCKETS; i++)
		a->hash[i] = 0;
	a->range_root = 0;
	a->hold_count = 0;
	a->managed_count = 0;
	a->hold_free = 0;
	for (uint32_t i = a->hold_high; i-- > 0; ) {
		struct hold *h = &a->holds[i];

		if (!is_rm_kind(h->kind) && !is_range_kind(h->kind)) {
			h->kind = HOLD_NONE;
			h->next = a->hold_free;
			a->hold_free = i + 1;
			continue;
		}
		chain(a, h, h->kind);
		a->hold_count++;
		a->managed_count += h->kind == HOLD_MANAGED;
	}
	repair_charges(a);
}

int account_charge(struct account *a, uint32_t gpu_mask, uint64_t bytes, uint32_t *ret_charge)
{
	struct charge *c;

	if (!gpu_mask || gpu_mask >> ACCOUNT_GPUS)
		return -EDQUOT;
	for (uint32_t gpu = 0; gpu < ACCOUNT_GPUS; gpu++) {
		uint64_t sum;

		if (!(gpu_mask & 1u << gpu))
			continue;
		if (!sum_u64(a->used_bytes[gpu], bytes, &sum))
			return -EOVERFLOW;
		if (!a->limit_bytes[gpu] || sum > a->limit_bytes[gpu]) {
			a->refusals[gpu]++;
			return -EDQUOT;
		}
	}
	c = new_charge(a);
	if (!c)
		return -ENOSPC;
	c->bytes = bytes;
	c->holds = 0;
	c->gpu_mask = gpu_mask;
	add_used(a, gpu_mask, bytes);
	*ret_charge = (uint32_t)(c - a->charges) + 1;
	return 0;
}

void account_settle(struct account *a, uint32_t charge, uint64_t bytes)
{
	struct charge *c = charge_at(a, charge);

	if (!c || !c->gpu_mask || c->bytes == bytes)
		return;
	take_used(a, c->gpu_mask, c->bytes);
	c->bytes = bytes;
	add_used(a, c->gpu_mask, bytes);
}

void account_uncharge(struct account *a, uint32_t charge)
{
	struct charge *c = charge_at(a, charge);

	if (c && c->gpu_mask && !c->holds)
		free_charge(a, c);
}

/* Drop a hold whose kind was kind before it may have been doomed. */
static void drop_one(struct account *a, struct hold *h)
{
	uint32_t kind = h->kind & ~(uint32_t)DOOMED;
	struct charge *c = charge_at(a, h->charge);

	if (kind == HOLD_NONE)
		return;
	store_kind(h, HOLD_NONE);
	unchain(a, h, kind);
	h->next = a->hold_free;
	a->hold_free = (uint32_t)(h - a->holds) + 1;
	a->hold_count--;
	a->managed_count -= kind == HOLD_MANAGED;
	if (c && c->gpu_mask && (c->holds <= 1 || !--c->holds))
		free_charge(a, c);
}

void account_drop_hold(struct account *a, struct hold *hold)
{
	drop_one(a, hold);
}

/* As account_find(), and sees doomed ones too. */
static struct hold *find_rm(struct account *a, uint32_t client, uint32_t handle)
{
	for (uint32_t i = a->hash[rm_bucket(client, handle)]; i; i = a->holds[i - 1].next) {
		struct hold *h = &a->holds[i - 1];

		if (h->client == client && h->handle == handle && is_rm_kind(h->kind & ~(uint32_t)DOOMED))
			return h;
	}
	return NULL;
}

struct hold *account_find(struct account *a, uint32_t client, uint32_t handle)
{
	return find_rm(a, client, handle);
}

struct hold *account_find_range(struct account *a, enum hold_kind kind, uint16_t owner, uint64_t address)
{
	for (uint32_t i = a->hash[range_bucket(address)]; i; i = a->holds[i - 1].next) {
		struct hold *h = &a->holds[i - 1];

		if (h->kind == kind && h->address == address && h->owner == owner)
			return h;
	}
	return NULL;
}

/* Whether a hold hangs below a doomed one. *deep is set when its line of parents was too long to tell. */
static bool hangs_below_doomed(struct account *a, const struct hold *h, bool *deep)
{
	uint32_t parent = h->parent;

	for (uint32_t level = 0; level < CLIMB; level++) {
		struct hold *above = find_rm(a, h->client, parent);

		if (!above)
			return false;
		if (above->kind & DOOMED)
			return true;
		if (above->kind == HOLD_CLIENT)
			return false;
		parent = above->parent;
	}
	*deep = true;
	return false;
}

/* Mark what hangs below the doomed holds of a client. A line of parents may be longer than one climb (a tenant chooses
 * them): go on while that marks more. */
static void doom_subtree(struct account *a, uint32_t client)
{
	bool marked = true;
	bool deep = true;

	while (marked && deep) {
		marked = false;
		deep = false;
		for (uint32_t i = 0; i < a->hold_high; i++) {
			struct hold *h = &a->holds[i];

			if (h->client != client || !is_rm_kind(h->kind) || !hangs_below_doomed(a, h, &deep))
				continue;
			store_kind(h, h->kind | DOOMED);
			marked = true;
		}
	}
}

uint32_t account_drop(struct account *a, uint32_t client, uint32_t handle)
{
	struct hold *root = find_rm(a, client, handle);
	uint32_t before = a->hold_count;
	bool all;

	if (!root)
		return 0;
	if (!is_parent_kind(root->kind)) {
		drop_one(a, root);
		return 1;
	}
	/* Everything of a client hangs below it, whatever its parents are called. */
	all = root->kind == HOLD_CLIENT;
	store_kind(root, root->kind | DOOMED);
	if (!all)
		doom_subtree(a, client);
	for (uint32_t i = 0; i < a->hold_high; i++) {
		struct hold *h = &a->holds[i];

		if (h->client == client && (h->kind & DOOMED || (all && is_rm_kind(h->kind))))
			drop_one(a, h);
	}
	return before - a->hold_count;
}

int account_hold(struct account *a, const struct hold *hold)
{
	struct charge *c = charge_at(a, hold->charge);
	struct hold *old = NULL;
	struct hold *h;

	/* First of all: the old hold may be what keeps this very charge. */
	if (c)
		c->holds++;
	if (is_rm_kind(hold->kind))
		account_drop(a, hold->client, hold->handle);
	else if (hold->kind == HOLD_MAPPING)
		old = account_find_range(a, HOLD_MAPPING, hold->owner, hold->address);
	if (old)
		drop_one(a, old);
	h = new_hold(a);
	if (!h) {
		if (c)
			c->holds--;
		return -ENOSPC;
	}
	h->owner = hold->owner;
	h->gpu = hold->gpu;
	h->client = hold->client;
	h->handle = hold->handle;
	h->parent = hold->parent;
	h->charge = c ? hold->charge : 0;
	h->engine = hold->engine;
	h->address = hold->address;
	h->length = hold->length;
	store_kind(h, hold->kind);
	chain(a, h, hold->kind);
	a->hold_count++;
	a->managed_count += hold->kind == HOLD_MANAGED;
	return 0;
}

/* Give a range another start and length. Managed memory goes with its addresses: its charge loses the difference. A
 * mapping keeps the whole of what it maps. */
static void shrink_range(struct account *a, struct hold *h, uint64_t address, uint64_t length)
{
	struct charge *c = charge_at(a, h->charge);
	uint64_t lost = h->length - length;

	if (h->address != address) {
		unchain(a, h, h->kind);
		h->address = address;
		chain(a, h, h->kind);
	}
	h->length = length;
	if (c && h->kind == HOLD_MANAGED)
		account_settle(a, h->charge, less_u64(c->bytes, lost));
}

/* Cut [start, end), both inside the range, out of its middle: the upper end becomes a hold of its own. With the table
 * full the range stays whole, so that nothing is counted too low. */
static void split_range(struct account *a, struct hold *h, uint64_t start, uint64_t end)
{
	struct charge *c = charge_at(a, h->charge), *upper_charge = NULL;
	struct hold upper = *h;

	upper.address = end;
	upper.length = h->address + h->length - end;
	if (c && h->kind == HOLD_MANAGED) {
		upper_charge = new_charge(a);
		if (!upper_charge)
			return;
		upper_charge->bytes = 0;
		upper_charge->holds = 0;
		upper_charge->gpu_mask = c->gpu_mask;
		upper.charge = (uint32_t)(upper_charge - a->charges) + 1;
	}
	if (account_hold(a, &upper) < 0) {
		if (upper_charge)
			account_uncharge(a, upper.charge);
		return;
	}
	shrink_range(a, h, h->address, start - h->address);
	if (upper_charge)
		account_settle(a, upper.charge, upper.length);
}

/* Drop what [start, end) takes of one hold. */
static void unmap_hold(struct account *a, struct hold *h, uint64_t start, uint64_t end)
{
	uint64_t h_end = h->address + h->length;	/* checked by the caller: does not wrap */

	if (h_end <= start || h->address >= end)
		return;
	if (h->address >= start && h_end <= end)
		drop_one(a, h);
	else if (h->address >= start)
		shrink_range(a, h, end, h_end - end);
	else if (h_end <= end)
		shrink_range(a, h, h->address, start - h->address);
	else
		split_range(a, h, start, end);
}

bool hold_is_newer(const struct hold *hold, uint64_t before)
{
	return (int32_t)(hold->born - (uint32_t)before) > 0;
}

/* The next range from *at on that meets what ends at end, and *at moved behind it. NULL when there is none. */
static struct hold *next_range(struct account *a, enum hold_kind kind, uint16_t owner, uint64_t *at, uint64_t end)
{
	struct hold *h = *at < end ? range_index_from(a, kind, owner, *at) : NULL;
	uint64_t h_end;

	if (!h || h->address >= end)
		return NULL;
	if (!sum_u64(h->address, h->length, &h_end))
		h_end = UINT64_MAX;
	*at = h_end > *at ? h_end : *at + 1;
	return h;
}

static uint64_t end_of(uint64_t address, uint64_t length)
{
	uint64_t end;

	return sum_u64(address, length, &end) ? end : UINT64_MAX;
}

/* before NULL: whenever it was booked. */
static void unmap(struct account *a, enum hold_kind kind, uint16_t owner, uint64_t address, uint64_t length,
		  const uint64_t *before)
{
	uint64_t end = end_of(address, length), at = address, unused;
	struct hold *h;

	if (!a->range_root || (kind == HOLD_MANAGED && !a->managed_count))
		return;
	while ((h = next_range(a, kind, owner, &at, end))) {
		if (before && hold_is_newer(h, *before))
			continue;
		if (sum_u64(h->address, h->length, &unused))
			unmap_hold(a, h, address, end);
		else
			drop_one(a, h);
	}
}

void account_unmap(struct account *a, enum hold_kind kind, uint16_t owner, uint64_t address, uint64_t length)
{
	unmap(a, kind, owner, address, length, NULL);
}

void account_unmap_before(struct account *a, enum hold_kind kind, uint16_t owner, uint64_t address, uint64_t length,
			  uint64_t before)
{
	unmap(a, kind, owner, address, length, &before);
}

bool account_has_newer(struct account *a, enum hold_kind kind, uint16_t owner, uint64_t address, uint64_t length,
		       uint64_t before)
{
	uint64_t end = end_of(address, length), at = address;
	const struct hold *h;

	while ((h = next_range(a, kind, owner, &at, end))) {
		if (hold_is_newer(h, before))
			return true;
	}
	return false;
}

void account_drop_owner(struct account *a, uint16_t owner)
{
	for (uint32_t i = 0; i < a->hold_high; i++) {
		struct hold *h = &a->holds[i];

		if (h->kind == HOLD_NONE || h->owner != owner)
			continue;
		if (h->kind == HOLD_EXPORT)
			h->owner = ACCOUNT_NO_OWNER;
		else
			drop_one(a, h);
	}
}

void account_drop_orphans(struct account *a)
{
	for (uint32_t i = 0; i < a->hold_high; i++) {
		struct hold *h = &a->holds[i];

		if (h->kind == HOLD_EXPORT && h->owner == ACCOUNT_NO_OWNER)
			drop_one(a, h);
	}
}
