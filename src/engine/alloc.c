/* SPDX-License-Identifier: Apache-2.0 */
/* RM objects: allocation in its forms, free, dup. */
#include "engine/internal.h"

#include <errno.h>

/* Bits of the attributes of video memory (nvos.h, NVOS32_ATTR_LOCATION 26:25; NVOS32_ALLOC_FLAGS_VIRTUAL). */
enum {
	ATTR_LOCATION_SHIFT = 25,
	ATTR_LOCATION_MASK = 3,
	ALLOC_FLAGS_VIRTUAL = 0x80000,
	PARAMS_MAX = 512,
};

/* An RM_ALLOC in progress, in either form. */
struct alloc {
	uint8_t argument[ALLOC_LONG_MAX];
	size_t size;
	size_t status;			/* offset */
	uint64_t params_address;
	uint8_t params[PARAMS_MAX];
	size_t params_size;
};

static uint32_t alloc_field(const struct alloc *alloc, size_t offset)
{
	return get_u32(alloc->argument, offset);
}

static struct answer alloc_refuse(struct op *op, struct alloc *alloc, uint32_t status, enum ledger_event event)
{
	return op_refuse(op, alloc->argument, alloc->size, alloc->status, status, event);
}

/* Run it on our copy. *ret_ok: the driver made the object. */
static int alloc_run(struct op *op, struct alloc *alloc, bool *ret_ok)
{
	int value = op_run_params(op, alloc->argument, ALLOC_PARAMS, alloc->params_address ? alloc->params : NULL);

	*ret_ok = value >= 0 && alloc_field(alloc, alloc->status) == NV_OK;
	return value;
}

static struct answer alloc_reply(struct op *op, struct alloc *alloc, int value)
{
	return op_reply(op, value, alloc->argument, alloc->size, alloc->params_address,
			alloc->params_address ? alloc->params : NULL, alloc->params_size);
}

/* Which of the slice's GPUs a device instance is. The driver numbers instances as GPUs are attached; the ledger holds
 * the numbers of the moment the slice was made, when all GPUs were attached. */
static bool device_gpu(struct op *op, uint32_t device_id, uint16_t *ret_gpu)
{
	const struct ledger *ledger = op->engine->ledger->ledger;
	uint16_t i;

	for (i = 0; i < op->account->gpu_count; i++) {
		if (ledger->gpus[i].device == device_id) {
			*ret_gpu = i;
			return op->account->limit_bytes[i] > 0;
		}
	}
	return false;
}

static void alloc_keys(const struct alloc *alloc, struct hold *hold)
{
	hold->client = alloc_field(alloc, ALLOC_ROOT);
	hold->handle = alloc_field(alloc, ALLOC_OBJECT);
	hold->parent = alloc_field(alloc, ALLOC_PARENT);
}

/* An object of the tree that takes no bytes of ours. */
static struct answer alloc_node(struct op *op, struct alloc *alloc, struct hold *hold)
{
	bool ok;
	int value = alloc_run(op, alloc, &ok);

	if (ok) {
		alloc_keys(alloc, hold);
		op_note(op, hold);
	}
	return alloc_reply(op, alloc, value);
}

static struct answer alloc_device(struct op *op, struct alloc *alloc)
{
	struct hold hold = { .kind = HOLD_DEVICE };
	uint32_t device_id = alloc->params_address ? get_u32(alloc->params, DEVICE_ALLOC_DEVICE_ID) : 0;

	if (!device_gpu(op, device_id, &hold.gpu))
		return alloc_refuse(op, alloc, NV_ERR_INSUFFICIENT_PERMISSIONS, LEDGER_REFUSED_CALL);
	return alloc_node(op, alloc, &hold);
}

/* Channel groups already made on a GPU, by the process that made a client. */
struct groups {
	uint16_t owner;
	uint16_t gpu;
	uint32_t count;
};

static int count_group(struct hold *hold, void *arg)
{
	struct groups *groups = arg;

	groups->count += hold->owner == groups->owner && hold->gpu == groups->gpu;
	return 0;
}

/* A group takes memory that the driver charges to nobody: 8 MiB for a context of four [H200, gpu-baselines]. Two contexts
 * of a process on a GPU go free; a process that makes more groups pays for each, or they would have no bound. */
static bool pays_for_group(struct op *op, uint32_t client, uint16_t gpu)
{
	enum { GROUPS_FREE = 8 };
	struct groups groups = { .owner = op->call->owner, .gpu = gpu };
	struct hold hold;

	if (op_lookup(op, client, client, &hold))
		groups.owner = hold.owner;
	op_lock(op);
	account_each(op->account, HOLD_GROUP, count_group, &groups);
	op_unlock(op);
	return groups.count >= GROUPS_FREE;
}

static struct answer alloc_group(struct op *op, struct alloc *alloc)
{
	enum { GROUP_BYTES = 2 << 20 };
	struct hold hold = { .kind = HOLD_GROUP };
	struct booking booking = { 0 };
	uint32_t client = alloc_field(alloc, ALLOC_ROOT), status = NV_OK;
	bool ok;
	int value;

	if (!op_object_gpu(op, client, alloc_field(alloc, ALLOC_PARENT), &hold.gpu))
		return alloc_refuse(op, alloc, NV_ERR_INVALID_OBJECT_PARENT, LEDGER_REFUSED_CALL);
	if (alloc->params_address)
		hold.engine = get_u32(alloc->params, GROUP_ALLOC_ENGINE);
	if (pays_for_group(op, client, hold.gpu))
		status = op_book(op, 1u << hold.gpu, GROUP_BYTES, &booking);
	if (status != NV_OK) {
		put_u32(alloc->argument, alloc->status, status);
		return op_reply(op, 0, alloc->argument, alloc->size, 0, NULL, 0);
	}
	value = alloc_run(op, alloc, &ok);
	if (ok) {
		alloc_keys(alloc, &hold);
		if (booking.charge)
			op_settle(op, &booking, &hold, 0);
		else
			op_note(op, &hold);
	}
	op_unbook(op, &booking);
	return alloc_reply(op, alloc, value);
}

static struct answer alloc_child(struct op *op, struct alloc *alloc, enum hold_kind kind, size_t engine_offset)
{
	struct hold hold = { .kind = kind };

	if (!op_object_gpu(op, alloc_field(alloc, ALLOC_ROOT), alloc_field(alloc, ALLOC_PARENT), &hold.gpu))
		return alloc_refuse(op, alloc, NV_ERR_INVALID_OBJECT_PARENT, LEDGER_REFUSED_CALL);
	if (engine_offset && alloc->params_address)
		hold.engine = get_u32(alloc->params, engine_offset);
	return alloc_node(op, alloc, &hold);
}

static struct answer alloc_vidmem(struct op *op, struct alloc *alloc)
{
	struct hold hold = { .kind = HOLD_MEMORY };
	struct booking booking;
	uint32_t status;
	uint64_t bytes;
	bool ok;
	int value;

	if (!alloc->params_address)
		return alloc_refuse(op, alloc, NV_ERR_INVALID_ARGUMENT, LEDGER_BAD_ARGUMENT);
	if (!op_object_gpu(op, alloc_field(alloc, ALLOC_ROOT), alloc_field(alloc, ALLOC_PARENT), &hold.gpu))
		return alloc_refuse(op, alloc, NV_ERR_INVALID_OBJECT_PARENT, LEDGER_REFUSED_CALL);
	bytes = get_u64(alloc->params, MEMORY_BYTES);
	status = op_book(op, 1u << hold.gpu, bytes, &booking);
	if (status != NV_OK) {
		put_u32(alloc->argument, alloc->status, status);
		return op_reply(op, 0, alloc->argument, alloc->size, 0, NULL, 0);
	}
	value = alloc_run(op, alloc, &ok);
	if (ok) {
		alloc_keys(alloc, &hold);
		op_settle(op, &booking, &hold, get_u64(alloc->params, MEMORY_BYTES));
	} else {
		op_unbook(op, &booking);
	}
	return alloc_reply(op, alloc, value);
}

/* Two classes keep the memory that their parameters name. NV_SEMAPHORE_SURFACE: hSemaphoreMem@0, hMaxSubmittedMem@4
 * (cl00da.h, 535 on; kernel/mem_mgr/sem_surf.c dups both). NV_MEMORY_MAPPER: hSemaphoreSurface@0 (cl00fe.h, 525 on;
 * mem_mapper.c dups it). The others are refused: docs/design.md says why. */
static struct answer alloc_reference(struct op *op, struct alloc *alloc, const struct abi_row *row)
{
	enum { SEMAPHORE_SURFACE = 0xda, MEMORY_MAPPER = 0xfe };
	struct hold source, hold = { .kind = HOLD_MEMORY };
	bool surface = row->number == SEMAPHORE_SURFACE;
	struct booking booking;
	uint32_t kept, second;
	bool ok;
	int value;

	if ((!surface && row->number != MEMORY_MAPPER) || !alloc->params_address)
		return alloc_refuse(op, alloc, NV_ERR_NOT_SUPPORTED, LEDGER_REFUSED_CLASS);
	kept = get_u32(alloc->params, 0);
	second = surface ? get_u32(alloc->params, 4) : 0;
	if (second && second != kept)
		return alloc_refuse(op, alloc, NV_ERR_NOT_SUPPORTED, LEDGER_REFUSED_CLASS);
	if (!op_pin(op, alloc_field(alloc, ALLOC_ROOT), kept, &booking, &source))
		return alloc_refuse(op, alloc, NV_ERR_INSUFFICIENT_RESOURCES, LEDGER_REFUSED_FULL);
	value = alloc_run(op, alloc, &ok);
	if (ok && booking.charge) {
		alloc_keys(alloc, &hold);
		hold.gpu = source.gpu;
		op_settle(op, &booking, &hold, 0);
	}
	op_unbook(op, &booking);
	return alloc_reply(op, alloc, value);
}

/* Of what is looked at before it goes to the driver; 0: nothing is. */
static size_t params_size(const struct abi_layout *layout, const struct abi_row *row)
{
	switch ((int)row->effect) {
	case ABI_CLASS_DEVICE:
	case ABI_CLASS_SUBDEVICE:
	case ABI_CLASS_GROUP:
	case ABI_CLASS_CHANNEL:
	case ABI_CLASS_VIDMEM:
		return abi_class_params_size(row, layout);
	case ABI_CLASS_REFERENCE:
		return row->size <= PARAMS_MAX ? row->size : 0;
	default:
		return 0;
	}
}

/* Decode either form. False when the argument cannot be read. */
static bool alloc_read(struct op *op, struct alloc *alloc)
{
	const struct abi_layout *layout = &op->engine->layout;

	alloc->size = abi_request_size(op->call->request);
	alloc->status = alloc->size == ALLOC_SHORT_SIZE ? layout->alloc_short_status : layout->alloc_long_status;
	if (!op_read(op, op->call->argument, alloc->argument, alloc->size))
		return false;
	alloc->params_address = get_u64(alloc->argument, ALLOC_PARAMS);
	return true;
}

/* The bits of a finished message: flags of the long form, never set by real programs. */
static bool has_flags(const struct op *op, const struct alloc *alloc)
{
	const struct abi_layout *layout = &op->engine->layout;

	return alloc->size != ALLOC_SHORT_SIZE && layout->alloc_long_flags &&
	       alloc_field(alloc, layout->alloc_long_flags);
}

struct answer rm_call_alloc(struct op *op)
{
	struct alloc alloc;
	const struct abi_row *row;

	if (!alloc_read(op, &alloc))
		return op_answer(-EFAULT);
	if (has_flags(op, &alloc))
		return alloc_refuse(op, &alloc, NV_ERR_INVALID_FLAGS, LEDGER_REFUSED_CALL);
	row = abi_class_find(alloc_field(&alloc, ALLOC_CLASS));
	if (!row)
		return alloc_refuse(op, &alloc, NV_ERR_INVALID_CLASS, LEDGER_REFUSED_CLASS);
	if (row->effect == ABI_PASS || row->effect == ABI_CLASS_CLIENT)
		return op_original(op);
	/* Objects of the tree are made on the control device alone (escape.c); others would escape the ledger. */
	if (op->call->device != ABI_DEV_CTL)
		return alloc_refuse(op, &alloc, NV_ERR_INVALID_CLASS, LEDGER_REFUSED_CLASS);
	alloc.params_size = params_size(&op->engine->layout, row);
	if (!alloc.params_size)
		return alloc_refuse(op, &alloc, NV_ERR_INVALID_CLASS, LEDGER_REFUSED_CLASS);
	if (alloc.params_address && !op_read(op, alloc.params_address, alloc.params, alloc.params_size))
		return op_answer(-EFAULT);
	switch ((int)row->effect) {
	case ABI_CLASS_DEVICE:
		return alloc_device(op, &alloc);
	case ABI_CLASS_SUBDEVICE:
		return alloc_child(op, &alloc, HOLD_SUBDEVICE, 0);
	case ABI_CLASS_GROUP:
		return alloc_group(op, &alloc);
	case ABI_CLASS_CHANNEL:
		return alloc_child(op, &alloc, HOLD_CHANNEL, op->engine->layout.channel_engine);
	case ABI_CLASS_VIDMEM:
		return alloc_vidmem(op, &alloc);
	case ABI_CLASS_REFERENCE:
		return alloc_reference(op, &alloc, row);
	default:
		return alloc_refuse(op, &alloc, NV_ERR_INVALID_CLASS, LEDGER_REFUSED_CLASS);
	}
}

struct answer rm_call_free(struct op *op)
{
	uint8_t argument[FREE_SIZE];
	uint64_t before = op_now(op);
	uint32_t client, object;
	struct hold seen;
	int value;

	if (!op_read(op, op->call->argument, argument, sizeof(argument)))
		return op_answer(-EFAULT);
	client = get_u32(argument, FREE_ROOT);
	object = get_u32(argument, FREE_OBJECT);
	/* Freeing what we do not know gives nothing back: where we are not the caller, let it run as it is. */
	if (!op->port->original && !op_lookup(op, client, object, &seen))
		return op_original(op);
	value = op->port->real(op->port, op->call->request, argument);
	if (value >= 0 && get_u32(argument, FREE_STATUS) == NV_OK)
		op_drop(op, client, object, before);
	return op_reply(op, value, argument, sizeof(argument), 0, NULL, 0);
}

struct answer rm_call_dup(struct op *op)
{
	uint8_t argument[DUP_SIZE];
	struct booking booking;
	struct hold source, hold;
	int value;

	if (!op_read(op, op->call->argument, argument, sizeof(argument)))
		return op_answer(-EFAULT);
	if (!op_pin(op, get_u32(argument, DUP_CLIENT_SRC), get_u32(argument, DUP_OBJECT_SRC), &booking, &source))
		return op_refuse(op, argument, sizeof(argument), DUP_STATUS, NV_ERR_INSUFFICIENT_RESOURCES,
				 LEDGER_REFUSED_FULL);
	/* On our copy whether we know the source or not: a source swapped after the look would keep memory unseen. */
	value = op->port->real(op->port, op->call->request, argument);
	if (source.kind != HOLD_NONE && value >= 0 && get_u32(argument, DUP_STATUS) == NV_OK) {
		hold = (struct hold){
			.kind = source.kind,
			.gpu = source.gpu,
			.engine = source.engine,
			.client = get_u32(argument, DUP_CLIENT),
			.handle = get_u32(argument, DUP_OBJECT),
			.parent = get_u32(argument, DUP_PARENT),
		};
		if (booking.charge)
			op_settle(op, &booking, &hold, 0);
		else
			op_note(op, &hold);
	}
	op_unbook(op, &booking);
	return op_reply(op, value, argument, sizeof(argument), 0, NULL, 0);
}

/* NVOS32, the older way to memory (src/nvidia/interface/deprecated/rmapi_deprecated_vidheapctrl.c). */
static struct answer heap_alloc(struct op *op, uint8_t *argument)
{
	uint32_t location = get_u32(argument, HEAP_ATTR) >> ATTR_LOCATION_SHIFT & ATTR_LOCATION_MASK;
	struct hold hold = { .kind = HOLD_MEMORY };
	struct booking booking = { 0 };
	uint32_t status = NV_OK;
	int value;

	if (!op_object_gpu(op, get_u32(argument, HEAP_ROOT), get_u32(argument, HEAP_PARENT), &hold.gpu))
		return op_refuse(op, argument, HEAP_SIZE, HEAP_STATUS, NV_ERR_INVALID_OBJECT_PARENT, LEDGER_REFUSED_CALL);
	/* Host memory and ranges of addresses take none of the card's. */
	if (!location && !(get_u32(argument, HEAP_FLAGS) & ALLOC_FLAGS_VIRTUAL))
		status = op_book(op, 1u << hold.gpu, get_u64(argument, HEAP_BYTES), &booking);
	if (status != NV_OK) {
		put_u32(argument, HEAP_STATUS, status);
		return op_reply(op, 0, argument, HEAP_SIZE, 0, NULL, 0);
	}
	value = op->port->real(op->port, op->call->request, argument);
	if (booking.charge && value >= 0 && get_u32(argument, HEAP_STATUS) == NV_OK) {
		hold.client = get_u32(argument, HEAP_ROOT);
		hold.handle = get_u32(argument, HEAP_MEMORY);
		hold.parent = get_u32(argument, HEAP_PARENT);
		op_settle(op, &booking, &hold, get_u64(argument, HEAP_BYTES));
	}
	op_unbook(op, &booking);
	return op_reply(op, value, argument, HEAP_SIZE, 0, NULL, 0);
}

static struct answer heap_free(struct op *op, uint8_t *argument)
{
	uint64_t before = op_now(op);
	uint32_t client = get_u32(argument, HEAP_ROOT), memory = get_u32(argument, HEAP_MEMORY);
	int value = op->port->real(op->port, op->call->request, argument);

	if (value >= 0 && get_u32(argument, HEAP_STATUS) == NV_OK)
		op_drop(op, client, memory, before);
	return op_reply(op, value, argument, HEAP_SIZE, 0, NULL, 0);
}

static struct answer heap_info(struct op *op, uint8_t *argument)
{
	uint16_t gpu;
	int value = op->port->real(op->port, op->call->request, argument);

	if (value >= 0 && !op->engine->show_host &&
	    op_object_gpu(op, get_u32(argument, HEAP_ROOT), get_u32(argument, HEAP_PARENT), &gpu)) {
		put_u64(argument, HEAP_TOTAL, op_view(op, gpu, VIEW_TOTAL, get_u64(argument, HEAP_TOTAL)));
		put_u64(argument, HEAP_FREE, op_view(op, gpu, VIEW_FREE, get_u64(argument, HEAP_FREE)));
	}
	return op_reply(op, value, argument, HEAP_SIZE, 0, NULL, 0);
}

struct answer rm_call_vid_heap(struct op *op)
{
	uint8_t argument[HEAP_SIZE];

	if (!op_read(op, op->call->argument, argument, sizeof(argument)))
		return op_answer(-EFAULT);
	switch (get_u32(argument, HEAP_FUNCTION)) {
	case HEAP_FUNCTION_ALLOC_SIZE:
		return heap_alloc(op, argument);
	case HEAP_FUNCTION_FREE:
		return heap_free(op, argument);
	case HEAP_FUNCTION_INFO:
		return heap_info(op, argument);
	default:
		/* Functions 6 and 14 change the size that was asked for; no program that we know needs them. */
		return op_refuse(op, argument, sizeof(argument), HEAP_STATUS, NV_ERR_NOT_SUPPORTED,
				 LEDGER_REFUSED_CALL);
	}
}

/* NVOS02 with a descriptor: host memory and its registration only (rmapi_deprecated_allocmemory.c). */
struct answer rm_call_alloc_memory(struct op *op)
{
	enum { SIZE = 56, CLASS = 12, STATUS = 40, SYSTEM = 0x3e, OS_DESCRIPTOR = 0x71 };
	uint8_t argument[SIZE];

	if (!op_read(op, op->call->argument, argument, sizeof(argument)))
		return op_answer(-EFAULT);
	switch (get_u32(argument, CLASS)) {
	case SYSTEM:
	case OS_DESCRIPTOR:
		return op_original(op);
	default:
		return op_refuse(op, argument, sizeof(argument), STATUS, NV_ERR_INVALID_CLASS, LEDGER_REFUSED_CLASS);
	}
}
