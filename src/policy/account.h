/* SPDX-License-Identifier: Apache-2.0 */
/* Who holds what: the objects of one slice, the memory they keep, and the sums per GPU.
 *
 * A charge is physical memory. A hold is anything that keeps a charge: an RM object, a dup of it, a UVM mapping, an
 * exported descriptor, a managed mapping. Bytes are given back when the last hold of a charge goes. Holds with
 * parents mirror the driver's object tree: dropping one drops what hangs below it.
 *
 * Pure: fixed tables, no files, no clock, no locks, no allocation, no pointers inside (it lives in shared memory at
 * different addresses). Callers serialise. A process may die between any two stores: account_repair() makes the
 * derived parts (sums, counts, hash chains, index) true again from the holds and charges alone. */
#ifndef FG_POLICY_ACCOUNT_H
#define FG_POLICY_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

enum {
	ACCOUNT_GPUS = 16,
	ACCOUNT_HOLDS = 131072,		/* a slice's objects at most; the next one is refused */
	ACCOUNT_CHARGES = 131072,
	ACCOUNT_NO_OWNER = 0xffff,	/* a hold of nobody in particular: stays until dropped by name */
};

enum hold_kind {
	HOLD_NONE,
	HOLD_CLIENT,	/* RM client: (client, client) */
	HOLD_DEVICE,	/* (client, handle) below the client, on one GPU */
	HOLD_SUBDEVICE,
	HOLD_MEMORY,	/* video memory: has a charge */
	HOLD_GROUP,	/* channel group */
	HOLD_CHANNEL,
	HOLD_MAPPING,	/* UVM external mapping: (owner, address), has a charge */
	HOLD_EXPORT,	/* a descriptor that keeps memory, has a charge */
	HOLD_MANAGED,	/* managed memory: (owner, address), has a charge on every GPU */
	HOLD_RANGE,	/* a UVM external range that mappings lie in: (owner, address), no charge */
};

struct hold {
	uint32_t kind;		/* enum hold_kind; stored last when made, first when dropped */
	uint16_t owner;		/* slot of the process that answers for it */
	uint16_t gpu;
	union {
		uint32_t client;	/* RM: client and handle */
		uint32_t left;		/* others: of the index of ranges, index + 1 (derived) */
	};
	uint32_t handle;	/* HOLD_RANGE: enum hold_range */
	union {
		uint32_t parent;	/* RM: handle of the parent in the same client; 0 for a client */
		uint32_t right;		/* others: as left */
	};
	uint32_t charge;	/* index + 1; 0: keeps no memory */
	uint32_t next;		/* hash chain, index + 1 (derived) */
	union {
		uint32_t engine;	/* HOLD_CHANNEL, HOLD_GROUP: the driver's engine type */
		uint32_t born;		/* HOLD_MAPPING, HOLD_RANGE: low half of the serial when it was booked */
	};
	uint64_t address;	/* HOLD_MAPPING, HOLD_MANAGED: start; HOLD_EXPORT: serial */
	uint64_t length;	/* HOLD_GROUP, HOLD_CHANNEL: enum hold_schedule */
};

/* Whether a group or channel was put on the GPU's list of what may run, in the lowest byte; above, how often: each time opens
 * what was held back. 0: never. */
enum hold_schedule {
	SCHEDULING = 1,
	SCHEDULED = 2,
	SCHEDULE_STATE = 0xff,
	SCHEDULE_ONCE = 0x100,
};

/* What a HOLD_RANGE is, in its handle. */
enum hold_range {
	RANGE_EXTERNAL,
	RANGE_POOL,		/* of semaphores, in host memory */
	RANGE_POOL_MAPPED,
};

struct charge {
	uint64_t bytes;		/* free: index + 1 of the next free charge (derived) */
	uint32_t gpu_mask;	/* GPUs whose sums hold these bytes; 0: free */
	uint32_t holds;		/* (derived) 0: no hold yet */
};

struct account {
	uint64_t limit_bytes[ACCOUNT_GPUS];	/* memory.max; 0: this GPU is not the slice's */
	uint64_t used_bytes[ACCOUNT_GPUS];	/* memory.current (derived) */
	uint64_t peak_bytes[ACCOUNT_GPUS];
	uint64_t refusals[ACCOUNT_GPUS];	/* memory.events */
	uint32_t gpu_count;
	uint32_t hold_count;			/* (derived) */
	uint32_t hold_free;			/* index + 1 of the first free hold, chained by next (derived) */
	uint32_t charge_free;			/* the same for charges, chained by bytes (derived) */
	uint32_t hold_high;			/* holds from here on were never used: scans end here */
	uint32_t charge_high;
	uint32_t managed_count;			/* HOLD_MANAGED holds (derived) */
	uint32_t range_root;			/* index + 1 of the top of the index of ranges (derived) */
	uint64_t serial;			/* last serial given to an export */
	uint32_t hash[65536];			/* index + 1 of the first hold (derived) */
	struct charge charges[ACCOUNT_CHARGES];
	struct hold holds[ACCOUNT_HOLDS];
};

/* Make an account in zeroed memory. limits has gpu_count entries of bytes. Returns 0 or -EINVAL. */
int account_init(struct account *a, uint32_t gpu_count, const uint64_t *limits);

/* Make everything derived true again after a holder of the lock died. Entries half made vanish. */
void account_repair(struct account *a);

/* Book bytes on the GPUs of gpu_mask if every one's limit allows.
 *
 * ret_charge  index + 1, as in struct hold; the charge has no hold yet: give it one with account_hold(), settle it or
 *             drop it with account_uncharge(). All this before the lock is left: a charge without a hold belongs to
 *             nobody, so it would stay for ever if its maker died, and vanish in a repair.
 *
 * Returns 0, -EDQUOT when a limit would be passed (the refusal is counted), -ENOSPC when the table is full,
 * -EOVERFLOW when a sum does not fit. */
int account_charge(struct account *a, uint32_t gpu_mask, uint64_t bytes, uint32_t *ret_charge);

/* Change a charge to what the driver really gave. May pass the limit: the memory exists. */
void account_settle(struct account *a, uint32_t charge, uint64_t bytes);

/* Give back a charge that got no hold. */
void account_uncharge(struct account *a, uint32_t charge);

/* Add a hold (copied; kind, owner, gpu and keys filled by the caller; hold->charge may be 0). For HOLD_CLIENT to
 * HOLD_CHANNEL a hold with the same (client, handle) is dropped first: the driver gave the handle anew, so the old
 * object is gone. The same for HOLD_MAPPING with the same (owner, address).
 * Returns 0 or -ENOSPC. */
int account_hold(struct account *a, const struct hold *hold);

/* Find an RM object. NULL when it is not known. */
struct hold *account_find(struct account *a, uint32_t client, uint32_t handle);

/* Find a mapping or managed range of an owner that starts at address; an export by its serial. */
struct hold *account_find_range(struct account *a, enum hold_kind kind, uint16_t owner, uint64_t address);

/* Drop an RM object and all below it (the driver frees descendants first). Unknown: nothing happens.
 * Returns the number of holds dropped. */
uint32_t account_drop(struct account *a, uint32_t client, uint32_t handle);

/* Drop one hold. */
void account_drop_hold(struct account *a, struct hold *hold);

/* Drop the parts of an owner's HOLD_MAPPINGs or HOLD_MANAGEDs that lie inside [address, address + length). A range
 * that is cut keeps what is left of it, after a cut in the middle both ends: managed memory the bytes that are left, a
 * mapping all that it maps. */
void account_unmap(struct account *a, enum hold_kind kind, uint16_t owner, uint64_t address, uint64_t length);

/* The same, but only of those that were booked up to a serial: what was booked since is not what went. */
void account_unmap_before(struct account *a, enum hold_kind kind, uint16_t owner, uint64_t address, uint64_t length,
			  uint64_t before);

/* Whether a range meets one that was booked after a serial. */
bool account_has_newer(struct account *a, enum hold_kind kind, uint16_t owner, uint64_t address, uint64_t length,
		       uint64_t before);

/* Whether a HOLD_MAPPING or HOLD_RANGE was booked after a serial (of the last two thousand million). */
bool hold_is_newer(const struct hold *hold, uint64_t before);

/* Drop everything an owner answers for: it is dead. HOLD_EXPORTs go to ACCOUNT_NO_OWNER instead. */
void account_drop_owner(struct account *a, uint16_t owner);

/* Drop every HOLD_EXPORT of nobody: no process of the slice is left that could hold one. */
void account_drop_orphans(struct account *a);

/* Bytes an owner's holds keep on a GPU (a charge held twice by it counts once at most per hold kind HOLD_MEMORY;
 * exports count where they are held). For the process lists. O(table). */
uint64_t account_owner_bytes(const struct account *a, uint16_t owner, uint32_t gpu);

/* Call fn for each hold of a kind until it returns non-zero; returns that. */
int account_each(struct account *a, enum hold_kind kind, int (*fn)(struct hold *hold, void *arg), void *arg);

/* Whether sums, counts and chains agree with the holds; for tests. Returns 0 or -EUCLEAN. */
int account_check(const struct account *a);

#endif
