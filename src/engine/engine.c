/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a call, and the booking of memory around it. */
#include "engine/engine.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/sum.h"
#include "engine/internal.h"

int engine_init(struct engine *e, const char *driver_version, struct ledger_handle *ledger)
{
	struct abi_version version;
	int r;

	r = abi_version_parse(driver_version, &version);
	if (r < 0)
		return r;
	e->ledger = ledger;
	e->show_host = false;
	return abi_layout_find(version, &e->layout);
}

struct answer op_original(struct op *op)
{
	if (!op->port->original)
		return (struct answer){ ENGINE_CONTINUE, 0 };
	return op_answer(op->port->original(op->port));
}

bool op_read(struct op *op, uint64_t address, void *buffer, size_t size)
{
	if (op->port->read(op->port, address, buffer, size) >= 0)
		return true;
	ledger_count(op->engine->ledger, LEDGER_BAD_ARGUMENT);
	return false;
}

int op_run_params(struct op *op, void *argument, size_t pointer_offset, void *params)
{
	uint64_t theirs = get_u64(argument, pointer_offset);
	int value;

	put_u64(argument, pointer_offset, (uint64_t)(uintptr_t)params);
	value = op->port->real(op->port, op->call->request, argument);
	put_u64(argument, pointer_offset, theirs);
	return value;
}

struct answer op_reply(struct op *op, int value, const void *argument, size_t size, uint64_t params_address,
		       const void *params, size_t params_size)
{
	if (value < 0)
		return op_answer(value);
	if (params && op->port->write(op->port, params_address, params, params_size) < 0)
		return op_answer(-EFAULT);
	if (op->port->write(op->port, op->call->argument, argument, size) < 0)
		return op_answer(-EFAULT);
	return op_answer(value);
}

struct answer op_refuse(struct op *op, void *argument, size_t size, size_t status_offset, uint32_t status,
			enum ledger_event event)
{
	ledger_count(op->engine->ledger, event);
	put_u32(argument, status_offset, status);
	return op_reply(op, 0, argument, size, 0, NULL, 0);
}

struct answer op_refuse_call(struct op *op, int error, enum ledger_event event)
{
	ledger_count(op->engine->ledger, event);
	return op_answer(error);
}

void op_lock(struct op *op)
{
	if (!op->is_quiet) {
		ledger_block_signals(op->engine->ledger, &op->signals);
		op->is_quiet = true;
	}
	ledger_take(op->engine->ledger);
}

void op_unlock(struct op *op)
{
	ledger_leave(op->engine->ledger);
}

/* The end of a call, or of an mmap(). */
static void op_done(struct op *op)
{
	if (op->is_quiet)
		ledger_restore_signals(op->engine->ledger, &op->signals);
}

/* Under the lock; read without it by op_now(). */
static uint64_t next_serial(struct op *op)
{
	uint64_t serial = op->account->serial + 1;

	__atomic_store_n(&op->account->serial, serial, __ATOMIC_RELEASE);
	return serial;
}

uint64_t op_now(const struct op *op)
{
	return __atomic_load_n(&op->account->serial, __ATOMIC_ACQUIRE);
}

/* Give a charge its pin. Under the lock. */
static int pin(struct op *op, uint32_t charge, struct booking *ret_booking)
{
	struct hold hold = { .kind = HOLD_MAPPING, .owner = op->call->owner, .charge = charge };
	int r;

	hold.address = PIN_BASE | next_serial(op);
	r = account_hold(op->account, &hold);
	if (r < 0)
		return r;
	*ret_booking = (struct booking){ charge, hold.address };
	return 0;
}

static int book_once(struct op *op, uint32_t gpu_mask, uint64_t bytes, struct booking *ret_booking)
{
	struct ledger_handle *ledger = op->engine->ledger;
	uint32_t charge;
	int r;

	op_lock(op);
	r = ledger->ledger->breached ? -EDQUOT : account_charge(op->account, gpu_mask, bytes, &charge);
	if (r == 0) {
		r = pin(op, charge, ret_booking);
		if (r < 0)
			account_uncharge(op->account, charge);
	}
	op_unlock(op);
	return r;
}

uint32_t op_book(struct op *op, uint32_t gpu_mask, uint64_t bytes, struct booking *ret_booking)
{
	int r = book_once(op, gpu_mask, bytes, ret_booking);

	if (r == -EDQUOT && op->port->reclaim && op->port->reclaim(op->port))
		r = book_once(op, gpu_mask, bytes, ret_booking);
	if (r == 0)
		return NV_OK;
	ledger_count(op->engine->ledger, r == -ENOSPC ? LEDGER_REFUSED_FULL : LEDGER_REFUSED_LIMIT);
	return r == -ENOSPC ? NV_ERR_INSUFFICIENT_RESOURCES : NV_ERR_NO_MEMORY;
}

bool op_pin(struct op *op, uint32_t client, uint32_t handle, struct booking *ret_booking, struct hold *ret_source)
{
	struct ledger_handle *ledger = op->engine->ledger;
	struct hold *hold;
	int r = 0;

	*ret_booking = (struct booking){ 0 };
	*ret_source = (struct hold){ 0 };
	op_lock(op);
	hold = account_find(op->account, client, handle);
	if (hold) {
		*ret_source = *hold;
		if (hold->charge)
			r = pin(op, hold->charge, ret_booking);
	}
	op_unlock(op);
	if (r < 0)
		ledger_count(ledger, LEDGER_REFUSED_FULL);
	return r == 0;
}

void op_unpin(struct op *op, const struct booking *booking)
{
	struct hold *hold = account_find_range(op->account, HOLD_MAPPING, op->call->owner, booking->pin);

	if (hold)
		account_drop_hold(op->account, hold);
}

/* Who answers for an RM object: the process that made its client, which the driver frees it with. */
static void fill_owner(struct op *op, struct hold *hold)
{
	const struct hold *client = account_find(op->account, hold->client, hold->client);
	struct hold made;

	if (client) {
		hold->owner = client->owner;
		return;
	}
	hold->owner = op->call->owner;
	made = (struct hold){
		.kind = HOLD_CLIENT,
		.owner = op->call->owner,
		.client = hold->client,
		.handle = hold->client,
		.address = next_serial(op),
	};
	account_hold(op->account, &made);
}

int op_add(struct op *op, struct hold *hold)
{
	if (hold->kind <= HOLD_CHANNEL) {
		fill_owner(op, hold);
		hold->address = next_serial(op);
	} else {
		hold->owner = op->call->owner;
		hold->born = (uint32_t)next_serial(op);
	}
	return account_hold(op->account, hold);
}

/* Whether the handle was given to another object while the driver made ours: which of the two is there cannot be told. */
static bool is_overtaken(struct op *op, const struct hold *hold, uint64_t before)
{
	const struct hold *other = hold->kind <= HOLD_CHANNEL ? account_find(op->account, hold->client, hold->handle) : NULL;

	return other && other->address > before;
}

void op_settle(struct op *op, struct booking *booking, struct hold *hold, uint64_t bytes)
{
	op_lock(op);
	if (bytes)
		account_settle(op->account, booking->charge, bytes);
	hold->charge = booking->charge;
	/* Else the pin stays in its place: the bytes remain booked until the caller ends. */
	if (!is_overtaken(op, hold, booking_time(booking)) && op_add(op, hold) == 0)
		op_unpin(op, booking);
	op_unlock(op);
	booking->charge = 0;
}

void op_unbook(struct op *op, struct booking *booking)
{
	if (!booking->charge)
		return;
	op_lock(op);
	op_unpin(op, booking);
	op_unlock(op);
	booking->charge = 0;
}

void op_note(struct op *op, struct hold *hold)
{
	op_lock(op);
	op_add(op, hold);
	op_unlock(op);
}

bool op_lookup(struct op *op, uint32_t client, uint32_t handle, struct hold *ret_hold)
{
	const struct hold *hold;

	op_lock(op);
	hold = account_find(op->account, client, handle);
	if (hold)
		*ret_hold = *hold;
	op_unlock(op);
	return hold;
}

void op_drop(struct op *op, uint32_t client, uint32_t handle, uint64_t before)
{
	const struct hold *hold;

	op_lock(op);
	hold = account_find(op->account, client, handle);
	if (hold && hold->address <= before)
		account_drop(op->account, client, handle);
	op_unlock(op);
}

static struct answer rm_call(struct op *op)
{
	const struct abi_call *row = abi_call_find(&op->engine->layout, op->call->device, op->call->request);

	if (!row)
		return op_refuse_call(op, -EINVAL, LEDGER_REFUSED_CALL);
	switch ((int)row->effect) {
	case ABI_PASS:
		return op_original(op);
	case ABI_RM_ALLOC:
		return rm_call_alloc(op);
	case ABI_RM_FREE:
		return rm_call_free(op);
	case ABI_RM_CONTROL:
		return rm_call_control(op);
	case ABI_RM_DUP:
		return rm_call_dup(op);
	case ABI_VID_HEAP:
		return rm_call_vid_heap(op);
	case ABI_ALLOC_MEMORY:
		return rm_call_alloc_memory(op);
	default:
		return op_refuse_call(op, -EINVAL, LEDGER_REFUSED_CALL);
	}
}

enum engine_verdict engine_ioctl(struct engine *e, struct port *port, const struct call *call, int *ret_value)
{
	struct op op = { .engine = e, .port = port, .call = call, .account = &e->ledger->ledger->account };
	struct answer answer;

	switch (call->device) {
	case ABI_DEV_NONE:
		answer = op_original(&op);
		break;
	case ABI_DEV_CTL:
	case ABI_DEV_GPU:
		answer = rm_call(&op);
		break;
	case ABI_DEV_UVM:
	case ABI_DEV_UVM_TOOLS:
		answer = uvm_call(&op);
		break;
	case ABI_DEV_MODESET:
	default:
		/* Its buffers are made by a kernel client that no limit sees. */
		answer = op_refuse_call(&op, -EACCES, LEDGER_REFUSED_CALL);
		break;
	}
	op_done(&op);
	*ret_value = answer.value;
	return answer.verdict;
}

bool engine_passes(const struct engine *e, uint32_t request)
{
	const struct abi_call *ctl = abi_call_find(&e->layout, ABI_DEV_CTL, request);
	const struct abi_call *gpu = abi_call_find(&e->layout, ABI_DEV_GPU, request);
	const struct abi_row *uvm = abi_uvm_find(request);

	if (uvm && (uvm->effect != ABI_PASS || uvm_is_followed(&e->layout, uvm->number)))
		return false;
	if ((ctl && ctl->effect != ABI_PASS) || (gpu && gpu->effect != ABI_PASS))
		return false;
	return uvm || ctl || gpu;
}

/* Managed memory may come to lie on any GPU of the slice. */
static uint32_t all_gpus(const struct account *account)
{
	uint32_t i, mask = 0;

	for (i = 0; i < account->gpu_count; i++)
		mask |= account->limit_bytes[i] ? 1u << i : 0;
	return mask;
}

/* A semaphore pool is made by a call and then mapped as managed memory is, but lives in host memory (uvm_va_range.c). Each
 * pool passes once, whole, and the pools of a process and of the slice together up to a bound: a second UVM file could map
 * managed memory where the first has a pool, and this tells the two apart for no more than that. */
enum { POOLS_MAX_BYTES = 32 << 20, SLICE_POOLS_MAX_BYTES = 256 << 20 };

/* What the living processes mapped as pools. Under the lock. */
static uint64_t slice_pool_bytes(const struct ledger *ledger)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < LEDGER_SLOTS; i++)
		sum += ledger->slots[i].state == SLOT_LIVE ? ledger->slots[i].pool_bytes : 0;
	return sum;
}

static bool is_pool(struct op *op, uint64_t address, uint64_t length)
{
	struct ledger_handle *ledger = op->engine->ledger;
	struct ledger_slot *slot = &ledger->ledger->slots[op->call->owner];
	struct hold *range;
	bool passes;

	op_lock(op);
	range = account_find_range(op->account, HOLD_RANGE, op->call->owner, address);
	passes = range && range->handle == RANGE_POOL && op_follows_uvm(op) && range->length == length &&
		 length <= POOLS_MAX_BYTES - slot->pool_bytes &&
		 length <= less_u64(SLICE_POOLS_MAX_BYTES, slice_pool_bytes(ledger->ledger));
	if (passes) {
		range->handle = RANGE_POOL_MAPPED;
		slot->pool_bytes += (uint32_t)length;
	}
	op_unlock(op);
	return passes;
}

/* Managed memory, and no semaphore pool. */
static int book_managed(struct op *op, uint64_t address, uint64_t length)
{
	struct hold hold = { .kind = HOLD_MANAGED, .address = address, .length = length };
	struct booking booking;

	if (op_book(op, all_gpus(op->account), length, &booking) != NV_OK)
		return -ENOMEM;
	/* What is mapped over goes, but not before the new range is granted: a refusal leaves it in its place. */
	op_lock(op);
	account_unmap(op->account, HOLD_MANAGED, op->call->owner, address, length);
	op->engine->ledger->ledger->slots[op->call->owner].managed = 1;
	op_unlock(op);
	op_settle(op, &booking, &hold, 0);
	return 0;
}

int engine_mmap(struct engine *e, struct port *port, const struct call *call, uint64_t address, uint64_t length,
		int flags, uint64_t offset)
{
	struct op op = { .engine = e, .port = port, .call = call, .account = &e->ledger->ledger->account };
	int r = 0;

	if (call->device != ABI_DEV_UVM || (flags & MAP_TYPE) == MAP_PRIVATE || offset != address || !length)
		return 0;
	if (!is_pool(&op, address, length))
		r = book_managed(&op, address, length);
	op_done(&op);
	return r;
}

void engine_unmapped(struct engine *e, uint16_t owner, uint64_t address, uint64_t length)
{
	sigset_t saved;

	ledger_lock(e->ledger, &saved);
	account_unmap(&e->ledger->ledger->account, HOLD_MANAGED, owner, address, length);
	ledger_unlock(e->ledger, &saved);
}

bool engine_has_managed(struct engine *e, uint16_t owner)
{
	return __atomic_load_n(&e->ledger->ledger->slots[owner].managed, __ATOMIC_RELAXED);
}
