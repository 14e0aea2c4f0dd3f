/* SPDX-License-Identifier: Apache-2.0 */
/* Calls on /dev/nvidia-uvm. Parameters are copies of a fixed size that only the driver's version tells; the status word
 * stands in them (kernel-open/nvidia-uvm/uvm_api.h). */
#include "engine/internal.h"

#include <errno.h>

enum { UVM_PARAMS_MAX = 9264 };

/* Migration of ordinary host memory by the GPU's faults (HMM) needs no call at all, so it cannot be charged: it is
 * switched off for the address space (uvm_ioctl.h, UVM_INIT_FLAGS_DISABLE_HMM; the same bit from 515 to 595). */
static struct answer uvm_initialize(struct op *op)
{
	struct ledger_slot *slot = &op->engine->ledger->ledger->slots[op->call->owner];
	uint64_t flags;
	uint64_t address = op->call->argument + UVM_INITIALIZE_FLAGS;

	if (!op_read(op, address, &flags, sizeof(flags)))
		return op_answer(-EFAULT);
	if (!(flags & UVM_INIT_FLAGS_DISABLE_HMM)) {
		flags |= UVM_INIT_FLAGS_DISABLE_HMM;
		if (op->port->write(op->port, address, &flags, sizeof(flags)) < 0)
			return op_answer(-EFAULT);
	}
	__atomic_add_fetch(&slot->uvm_files, 1, __ATOMIC_SEQ_CST);
	return op_original(op);
}

/* Ranges and mappings are booked to a process. One without a UVM file of its own would use somebody else's, which keeps
 * the memory when the process ends: refused. */
static uint32_t uvm_files(const struct op *op)
{
	return __atomic_load_n(&op->engine->ledger->ledger->slots[op->call->owner].uvm_files, __ATOMIC_SEQ_CST);
}

/* PyTorch starts two UVM address spaces and uses one (measured). A process that has ranges in several gets nothing back
 * by unmapping, and no pool passes: what is gone in one file may stand in another. */
enum { ONLY_FILE = 1 };
static const uint32_t several_files = UINT32_MAX;

static uint32_t file_of(const struct op *op)
{
	if (op->call->file)
		return op->call->file;
	return uvm_files(op) == 1 ? ONLY_FILE : several_files;
}

bool op_follows_uvm(const struct op *op)
{
	uint32_t known = __atomic_load_n(&op->engine->ledger->ledger->slots[op->call->owner].uvm_file, __ATOMIC_SEQ_CST);

	return known != several_files && known == file_of(op);
}

/* The call makes a range, or something in one. */
static void claim_file(struct op *op)
{
	uint32_t *known = &op->engine->ledger->ledger->slots[op->call->owner].uvm_file;
	uint32_t file = file_of(op), none = 0;

	if (!__atomic_compare_exchange_n(known, &none, file, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) && none != file)
		__atomic_store_n(known, several_files, __ATOMIC_SEQ_CST);
}

/* The status word is all that these calls give back (uvm_ioctl.h: the other members are IN); before is what it was. */
static struct answer uvm_reply(struct op *op, int value, const uint8_t *params, size_t status, uint32_t before)
{
	if (value >= 0 && get_u32(params, status) != before &&
	    op->port->write(op->port, op->call->argument + status, params + status, sizeof(before)) < 0)
		return op_answer(-EFAULT);
	return op_answer(value);
}

static struct answer refuse_no_file(struct op *op, uint8_t *params, size_t size, size_t status)
{
	return op_refuse(op, params, size, status, NV_ERR_INVALID_STATE, LEDGER_REFUSED_CALL);
}

static struct hold range_hold(enum hold_kind kind, const uint8_t *params)
{
	return (struct hold){
		.kind = kind,
		.address = get_u64(params, UVM_RANGE_BASE),
		.length = get_u64(params, UVM_RANGE_LENGTH),
	};
}

/* Mappings of one address on different GPUs come and go apart, so each GPU has addresses of its own in the account: its
 * number stands above those that a program can have. */
enum { KEY_SHIFT = 56, KEY_UNKNOWN = 31 };

static uint64_t mapping_key(uint32_t gpu, uint64_t address)
{
	return (uint64_t)gpu << KEY_SHIFT | (address & ((UINT64_C(1) << KEY_SHIFT) - 1));
}

/* The GPU of the slice that UVM's 16-byte UUID names, KEY_UNKNOWN when none. */
static uint32_t uuid_gpu(const struct op *op, const uint8_t *uuid)
{
	static const char digits[] = "0123456789abcdef";
	const struct ledger *ledger = op->engine->ledger->ledger;
	uint32_t i;

	if (op->account->gpu_count == 1)
		return 0;
	for (i = 0; i < op->account->gpu_count; i++) {
		const char *text = ledger->gpus[i].uuid + 4;	/* after "GPU-" */
		size_t byte;

		for (byte = 0; byte < 16; byte++) {
			text += *text == '-';
			if (text[0] != digits[uuid[byte] >> 4] || text[1] != digits[uuid[byte] & 15])
				break;
			text += 2;
		}
		if (byte == 16)
			return i;
	}
	return KEY_UNKNOWN;
}

/* before: op_now() from before the driver was asked. What another thread mapped there since is not what went. */
static void drop_mappings(struct op *op, uint32_t gpu, uint64_t base, uint64_t length, uint64_t before)
{
	if (!op_follows_uvm(op))
		return;
	op_lock(op);
	account_unmap_before(op->account, HOLD_MAPPING, op->call->owner, mapping_key(gpu, base), length, before);
	op_unlock(op);
}

/* The driver mapped it: on each GPU named, one more hold; what was mapped there before is mapped over. Under the lock.
 * False when the table is full: then the pin must stay in their place. */
static bool hold_mappings(struct op *op, const uint8_t *params, const struct booking *booking, uint16_t memory_gpu)
{
	enum { ATTRIBUTES = 24, ATTRIBUTE_SIZE = 36 };
	const struct abi_layout *layout = &op->engine->layout;
	uint64_t count = get_u64(params, layout->uvm_map_external_client - 12u);
	uint64_t room = (layout->uvm_map_external_client - 12u - ATTRIBUTES) / ATTRIBUTE_SIZE;
	struct hold hold = range_hold(HOLD_MAPPING, params);
	bool follows = op_follows_uvm(op);
	uint64_t base = hold.address, i;
	bool all_held = true;
	uint32_t seen = 0, gpu;

	hold.gpu = memory_gpu;
	hold.charge = booking->charge;
	/* A call that names no GPU maps nothing; one hold then costs nothing but safety. */
	for (i = 0; i < (count ? count : 1) && i < room; i++) {
		gpu = count ? uuid_gpu(op, params + ATTRIBUTES + i * ATTRIBUTE_SIZE) : KEY_UNKNOWN;
		if (seen & 1u << gpu)
			continue;
		seen |= 1u << gpu;
		hold.address = mapping_key(gpu, base);
		/* beside what another file has there, or another thread mapped meanwhile: the pin's address is nobody's,
		 * and this one neither */
		if (follows && !account_has_newer(op->account, HOLD_MAPPING, op->call->owner, hold.address, hold.length,
						  booking_time(booking)))
			account_unmap(op->account, HOLD_MAPPING, op->call->owner, hold.address, hold.length);
		else
			hold.address = mapping_key(gpu, booking->pin) | UINT64_C(3) << 62;
		all_held &= op_add(op, &hold) == 0;
	}
	return all_held;
}

/* UVM takes the memory with a client of the kernel's, which may what the process that calls may: by default take from
 * clients of that process alone (rmapi/client_resource.c; measured: 0x1b from a supervisor). Where we call from another
 * process, the object is shared with our user for the time of the call. RM_SHARE is refused where the descriptor is not
 * the client's, so nothing is shared then. */
static void share(struct op *op, const uint8_t *params, int file, bool on)
{
	enum { SIZE = 24, CLIENT = 0, OBJECT = 4, MASK = 12, TYPE = 16, ACTION = 18, USER = 2, REVOKE = 1, COMPOSE = 4, DUP = 1 };
	const struct abi_layout *layout = &op->engine->layout;
	uint8_t args[SIZE] = { [TYPE] = USER, [ACTION] = on ? COMPOSE : COMPOSE | REVOKE };

	if (file < 0)
		return;
	put_u32(args, CLIENT, get_u32(params, layout->uvm_map_external_client));
	put_u32(args, OBJECT, get_u32(params, layout->uvm_map_external_memory));
	put_u32(args, MASK, DUP);
	op->port->real_on(op->port, file, abi_request(NV_ESC_RM_SHARE, SIZE), args);
}

/* Another thread that maps the same object may end its share under our call. */
static int run_map(struct op *op, uint8_t *params)
{
	enum { TRIES = 4 };
	const struct abi_layout *layout = &op->engine->layout;
	bool shares = op->port->real_on && op->port->borrow;
	int value = 0, file = -1;

	if (shares)
		file = op->port->borrow(op->port, (int)get_u32(params, layout->uvm_map_external_client - 4u));	/* rmCtrlFd */
	for (int i = 0; i < TRIES; i++) {
		share(op, params, file, true);
		value = op->port->real(op->port, op->call->request, params);
		share(op, params, file, false);
		if (!shares || value < 0 || get_u32(params, layout->uvm_map_external_status) != NV_ERR_INSUFFICIENT_PERMISSIONS)
			break;
	}
	if (file >= 0)
		op->port->give_back(op->port, file);
	return value;
}

/* A mapping keeps the memory when its object is freed: UVM dups it into a client of its own, named by the parameters
 * alone (nv_gpu_ops.c; the descriptor in them is not looked at). */
static struct answer uvm_map_external(struct op *op)
{
	const struct abi_layout *layout = &op->engine->layout;
	uint8_t params[UVM_PARAMS_MAX];
	size_t size = layout->uvm_map_external_size;
	size_t status = layout->uvm_map_external_status;
	struct booking booking;
	struct hold source;
	uint32_t before;
	int value;

	if (!op_read(op, op->call->argument, params, size))
		return op_answer(-EFAULT);
	before = get_u32(params, status);
	if (!uvm_files(op))
		return refuse_no_file(op, params, size, status);
	if (!op_pin(op, get_u32(params, layout->uvm_map_external_client),
		    get_u32(params, layout->uvm_map_external_memory), &booking, &source))
		return op_refuse(op, params, size, status, NV_ERR_INSUFFICIENT_RESOURCES, LEDGER_REFUSED_FULL);
	claim_file(op);
	value = run_map(op, params);
	if (booking.charge) {
		op_lock(op);
		if (value < 0 || get_u32(params, status) != NV_OK ||
		    hold_mappings(op, params, &booking, source.gpu))
			op_unpin(op, &booking);
		op_unlock(op);
	}
	return uvm_reply(op, value, params, status, before);
}

/* A range went as a whole: its mappings on one GPU. length 0: the range was not seen to be made, so only the mapping that
 * starts with it is known to have been in it. Under the lock. */
static void drop_range_on(struct op *op, uint32_t gpu, uint64_t base, uint64_t length, uint64_t before)
{
	uint64_t key = mapping_key(gpu, base);
	struct hold *hold;

	if (length) {
		account_unmap_before(op->account, HOLD_MAPPING, op->call->owner, key, length, before);
		return;
	}
	hold = account_find_range(op->account, HOLD_MAPPING, op->call->owner, key);
	if (hold && !hold_is_newer(hold, before))
		account_drop_hold(op->account, hold);
}

/* Whether UVM_FREE names the length, and the driver frees nothing but a range of exactly that (uvm_va_range.c, uvm_free(); until
 * 590.44.01). Then where a range lies need not be noted when it is made. */
static bool frees_by_length(const struct abi_layout *layout)
{
	return layout->uvm_free_size > UVM_RANGE_LENGTH + sizeof(uint64_t);
}

/* length 0: not known, unless the range was noted. */
static void drop_range(struct op *op, uint64_t base, uint64_t length, uint64_t before)
{
	struct hold *range;
	uint32_t gpu;

	if (!op_follows_uvm(op))
		return;
	op_lock(op);
	range = account_find_range(op->account, HOLD_RANGE, op->call->owner, base);
	if (range && !hold_is_newer(range, before)) {
		length = length ? length : range->length;
		account_drop_hold(op->account, range);
	}
	for (gpu = 0; gpu < op->account->gpu_count; gpu++)
		drop_range_on(op, gpu, base, length, before);
	drop_range_on(op, KEY_UNKNOWN, base, length, before);
	op_unlock(op);
}

static struct answer uvm_unmap_external(struct op *op)
{
	enum { UUID = 16, STATUS = 32 };
	uint8_t params[UVM_UNMAP_EXTERNAL_SIZE];
	uint64_t now = op_now(op);
	uint32_t before;
	int value;

	if (!op_read(op, op->call->argument, params, sizeof(params)))
		return op_answer(-EFAULT);
	before = get_u32(params, STATUS);
	if (!uvm_files(op))
		return refuse_no_file(op, params, sizeof(params), STATUS);
	value = op->port->real(op->port, op->call->request, params);
	if (value >= 0 && get_u32(params, STATUS) == NV_OK)
		drop_mappings(op, uuid_gpu(op, params + UUID), get_u64(params, UVM_RANGE_BASE),
			      get_u64(params, UVM_RANGE_LENGTH), now);
	return uvm_reply(op, value, params, STATUS, before);
}

static struct answer uvm_free(struct op *op)
{
	const struct abi_layout *layout = &op->engine->layout;
	size_t status = layout->uvm_free_status;
	uint64_t now = op_now(op);
	uint8_t params[32];
	uint32_t before;
	int value;

	if (!op_read(op, op->call->argument, params, layout->uvm_free_size))
		return op_answer(-EFAULT);
	before = get_u32(params, status);
	if (!uvm_files(op))
		return refuse_no_file(op, params, layout->uvm_free_size, status);
	value = op->port->real(op->port, op->call->request, params);
	if (value >= 0 && get_u32(params, status) == NV_OK)
		drop_range(op, get_u64(params, UVM_RANGE_BASE),
			   frees_by_length(layout) ? get_u64(params, UVM_RANGE_LENGTH) : 0, now);
	return uvm_reply(op, value, params, status, before);
}

/* Semaphore pools, and external ranges where a free names the start alone: remembered by where they lie. */
static struct answer uvm_new_range(struct op *op, size_t size, size_t status, uint32_t what)
{
	uint8_t params[UVM_PARAMS_MAX];
	struct hold hold;
	uint32_t before;
	int value;

	if (!op_read(op, op->call->argument, params, size))
		return op_answer(-EFAULT);
	before = get_u32(params, status);
	if (!uvm_files(op))
		return refuse_no_file(op, params, size, status);
	claim_file(op);
	value = op->port->real(op->port, op->call->request, params);
	if (value >= 0 && get_u32(params, status) == NV_OK) {
		hold = range_hold(HOLD_RANGE, params);
		hold.handle = what;
		op_note(op, &hold);
	}
	return uvm_reply(op, value, params, status, before);
}

bool uvm_is_followed(const struct abi_layout *layout, uint32_t request)
{
	return request == UVM_ALLOC_SEMAPHORE_POOL || (request == UVM_CREATE_EXTERNAL_RANGE && !frees_by_length(layout));
}

struct answer uvm_call(struct op *op)
{
	const struct abi_layout *layout = &op->engine->layout;
	const struct abi_row *row = abi_uvm_find(op->call->request);

	if (!row)
		return op_refuse_call(op, -EINVAL, LEDGER_REFUSED_CALL);
	if (op->call->device != ABI_DEV_UVM)
		return row->effect == ABI_PASS ? op_original(op) : op_refuse_call(op, -EINVAL, LEDGER_REFUSED_CALL);
	if (row->number == UVM_ALLOC_SEMAPHORE_POOL)
		return uvm_new_range(op, layout->uvm_semaphore_pool_size, layout->uvm_semaphore_pool_size - 8u, RANGE_POOL);
	if (uvm_is_followed(layout, row->number))
		return uvm_new_range(op, 24, 16, RANGE_EXTERNAL);
	switch ((int)row->effect) {
	case ABI_PASS:
		return op_original(op);
	case ABI_UVM_INITIALIZE:
		return uvm_initialize(op);
	case ABI_UVM_MAP_EXTERNAL:
		return uvm_map_external(op);
	case ABI_UVM_UNMAP_EXTERNAL:
		return uvm_unmap_external(op);
	case ABI_UVM_FREE:
		return uvm_free(op);
	default:
		return op_refuse_call(op, -EINVAL, LEDGER_REFUSED_CALL);
	}
}
