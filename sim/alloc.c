/* SPDX-License-Identifier: Apache-2.0 */
/* Making objects: RM_ALLOC by class, DUP_OBJECT, RM_SHARE, VID_HEAP_CONTROL. Facts: open-gpu-kernel-modules 580.142,
 * src/nvidia/src/kernel/mem_mgr/video_mem.c, rmapi/sharing.c, interface/deprecated/rmapi_deprecated_vidheapctrl.c. */
#include "base/bytes.h"
#include "sim/rm.h"

enum {
	CLIENT_HANDLES = 0xc1d00000,	/* resserv.h, RS_CLIENT_HANDLE_BASE */
	CLIENT_HANDLE_COUNT = 0x100000,
	ATTR_LOCATION = 3 << 25,	/* NVOS32_ATTR_LOCATION; 0: video memory */
	ATTR2_EGM = 1 << 24,
	FLAG_HANDLE_PROVIDED = 0x00004000,
	FLAG_VIRTUAL = 0x00080000,	/* NVOS32_ALLOC_FLAGS_VIRTUAL */
	MEMORY_OFFSET = 80, MEMORY_LIMIT = 88,	/* NV_MEMORY_ALLOCATION_PARAMS, outputs */
	SHARE_CLIENT = 0, SHARE_OBJECT = 4, SHARE_TARGET = 8, SHARE_MASK = 12, SHARE_TYPE = 16, SHARE_ACTION = 18,
	SHARE_TYPE_ALL = 1, SHARE_TYPE_USER = 2, SHARE_TYPE_CLIENT = 3, SHARE_REVOKE = 1, SHARE_RIGHT_DUP = 1,
	CLASS_MEMORY_SYSTEM = 0x3e, CLASS_VIDMEM = 0x40, CLASS_VIRTUAL = 0x50a0,
	CLASS_EXTENDED = 0x42, CLASS_SEMAPHORE_SURFACE = 0xda, CLASS_FABRIC = 0xf8,
};

static uint32_t client_new(struct sim_caller *caller, uint32_t *handle)
{
	struct sim *sim = caller->sim;
	struct sim_client *client;

	while (!*handle) {
		uint32_t chosen = CLIENT_HANDLES + sim->next_client++ % CLIENT_HANDLE_COUNT;

		if (!sim_client_any(sim, chosen))
			*handle = chosen;
	}
	if (sim_client_any(sim, *handle))
		return NV_ERR_INSERT_DUPLICATE_NAME;
	client = calloc(1, sizeof(*client));
	if (!client)
		return NV_ERR_NO_MEMORY;
	client->handle = *handle;
	client->pid = sim_tgid(caller->tid);
	client->file = sim_file_ctl(caller->file);
	HASH_ADD(hh, sim->clients, handle, sizeof(client->handle), client);
	return NV_OK;
}

/* Below which class an object may stand; 0: below any. */
static bool is_parent(enum abi_effect effect, const struct sim_object *parent)
{
	enum abi_effect above = ABI_CLASS_CLIENT;

	if (parent)
		above = abi_class_find(parent->class_id)->effect;
	if (effect == ABI_CLASS_DEVICE)
		return !parent;
	if (effect == ABI_CLASS_SUBDEVICE)
		return above == ABI_CLASS_DEVICE;
	if (effect == ABI_CLASS_GROUP)
		return above == ABI_CLASS_DEVICE;
	if (effect == ABI_CLASS_CHANNEL)
		return above == ABI_CLASS_DEVICE || above == ABI_CLASS_GROUP;
	if (effect == ABI_CLASS_VIDMEM)
		return above == ABI_CLASS_DEVICE || above == ABI_CLASS_SUBDEVICE;
	return true;
}

static uint32_t device_init(struct sim *sim, struct sim_object *object, const uint8_t *params, size_t size)
{
	uint32_t instance = size >= DEVICE_ALLOC_SIZE ? get_u32(params, DEVICE_ALLOC_DEVICE_ID) : 0;

	if (instance >= sim->gpu_count)
		return NV_ERR_INVALID_ARGUMENT;
	object->gpu = &sim->gpus[instance];
	return NV_OK;
}

/* params: NV_MEMORY_ALLOCATION_PARAMS. */
static uint32_t vidmem_init(struct sim_object *object, uint8_t *params, size_t size)
{
	uint64_t bytes;

	if (size < MEMORY_BYTES + 8)
		return NV_ERR_INVALID_ARGUMENT;
	bytes = get_u64(params, MEMORY_BYTES);
	if (get_u32(params, MEMORY_ATTR) & ATTR_LOCATION || get_u32(params, MEMORY_FLAGS) & FLAG_VIRTUAL || !bytes)
		return NV_ERR_INVALID_ARGUMENT;
	if (bytes > object->gpu->model.total_bytes)
		return NV_ERR_NO_MEMORY;
	bytes = sim_memory_round(bytes);
	object->memory = sim_memory_new(object->gpu, bytes);
	if (!object->memory)
		return NV_ERR_NO_MEMORY;
	object->owns_memory = true;
	put_u64(params, MEMORY_BYTES, bytes);
	if (size >= MEMORY_LIMIT + 8)
		put_u64(params, MEMORY_LIMIT, get_u64(params, MEMORY_OFFSET) + bytes - 1);
	return NV_OK;
}

/* The hidden part of a channel group: context buffers out of the heap (kernel_channel_group_api.c, ctx_buf_pool.c). */
static uint32_t group_init(struct sim_object *object)
{
	struct sim_gpu *gpu = object->gpu;

	if (gpu->model.context_bytes > sim_gpu_heap(gpu) - gpu->used_bytes)
		return NV_ERR_NO_MEMORY;
	object->is_group = true;
	object->context_bytes = gpu->model.context_bytes;
	gpu->used_bytes += object->context_bytes;
	object->timeslice_us = 2000;
	return NV_OK;
}

static uint32_t channel_init(struct sim *sim, struct sim_object *object, const uint8_t *params, size_t size)
{
	const struct abi_layout *layout = &sim->layout;

	object->is_channel = true;
	object->enabled = true;
	if (size >= layout->channel_alloc_size) {
		object->depends[0] = get_u32(params, layout->channel_userd_memory);
		object->depends[1] = get_u32(params, 28);	/* hVASpace */
	}
	return NV_OK;
}

/* Classes that keep memory of others: a semaphore surface its semaphores (class/cl00da.h), fabric memory what it maps
 * (class/cl00f8.h, where a field grew at 535). */
static uint32_t reference_init(struct sim *sim, struct sim_object *object, const uint8_t *params, size_t size)
{
	bool grown = abi_version_compare(sim->version, (struct abi_version){ 535, 0, 0 }) >= 0;
	size_t at = object->class_id == CLASS_FABRIC ? (grown ? 40 : 32) : 0;
	struct sim_object *kept;

	if (object->class_id != CLASS_FABRIC && object->class_id != CLASS_SEMAPHORE_SURFACE)
		return NV_ERR_NOT_SUPPORTED;	/* imports: of what another host or process exported */
	if (size < at + 4)
		return NV_ERR_INVALID_ARGUMENT;
	kept = sim_object_find(object->client, get_u32(params, at));
	if (!kept || !kept->memory)
		return NV_ERR_OBJECT_NOT_FOUND;
	object->memory = kept->memory;
	object->memory->refs++;
	return NV_OK;
}

static uint32_t object_init(struct sim_caller *caller, struct sim_object *object, enum abi_effect effect,
			    uint8_t *params, size_t size)
{
	switch ((int)effect) {
	case ABI_CLASS_DEVICE:
		return device_init(caller->sim, object, params, size);
	case ABI_CLASS_VIDMEM:
		return vidmem_init(object, params, size);
	case ABI_CLASS_GROUP:
		return group_init(object);
	case ABI_CLASS_REFERENCE:
		return reference_init(caller->sim, object, params, size);
	case ABI_CLASS_CHANNEL:
		return channel_init(caller->sim, object, params, size);
	default:
		return NV_OK;
	}
}

/* Classes that map pages by their address: RS_FLAGS_ALLOC_PRIVILEGED in rmapi/resource_list.h. */
static bool is_privileged(uint32_t class_id)
{
	return class_id == 0x81 || class_id == 0x82 || class_id == 0x83 || class_id == 0xc2;
}

uint32_t sim_rm_alloc(struct sim_caller *caller, uint32_t client_handle, uint32_t parent_handle, uint32_t *handle,
		      uint32_t class_id, uint8_t *params, size_t size)
{
	const struct abi_row *row = abi_class_find(class_id);
	struct sim_client *client;
	struct sim_object *parent = NULL;
	struct sim_object *object;
	uint32_t status;

	if (row && row->effect == ABI_CLASS_CLIENT)
		return client_new(caller, handle);
	client = sim_client_find(caller, client_handle);
	if (!client)
		return NV_ERR_INVALID_CLIENT;
	if (!row || class_id == CLASS_EXTENDED)
		return NV_ERR_INVALID_CLASS;
	if (parent_handle != client_handle) {
		parent = sim_object_find(client, parent_handle);
		if (!parent)
			return NV_ERR_INVALID_OBJECT_PARENT;
	}
	if (!is_parent(row->effect, parent))
		return NV_ERR_INVALID_OBJECT_PARENT;
	if (is_privileged(class_id) && !sim_is_admin(caller->tid))
		return NV_ERR_INSUFFICIENT_PERMISSIONS;
	object = sim_object_new(client, parent, handle, class_id, &status);
	if (!object)
		return status;
	status = object_init(caller, object, row->effect, params, size);
	if (status != NV_OK)
		sim_rm_free(caller, client_handle, *handle);
	return status;
}

/* ---- dup ---- */

/* Without RM_SHARE, only a client of the same process may take (rmapi/sharing.c, RS_SHARE_TYPE_PID). */
static bool is_shared(const struct sim_object *object, pid_t with)
{
	const struct sim_client *from = object->client;

	return from->pid == with || from->shared_with_all || object->shared_with_all ||
	       ((from->shared_with_user || object->shared_with_user) && sim_uid_of(from->pid) == sim_uid_of(with));
}

static bool may_dup(const struct sim_object *object, const struct sim_client *to)
{
	return object->client == to || is_shared(object, to->pid) || object->shared_with_client == to->handle;
}

/* rmapi/client_resource.c, cliresShareCallback: of a kernel client the current process counts. Measured on an H200: refused
 * with 0x1b when another process maps on a copy of the file. */
bool sim_may_take(const struct sim_object *object, const struct sim_caller *caller)
{
	return is_shared(object, sim_tgid(caller->tid));
}

uint32_t sim_rm_dup(struct sim_caller *caller, uint32_t client_handle, uint32_t parent_handle, uint32_t *handle,
		    uint32_t client_from, uint32_t object_from)
{
	struct sim_client *client = sim_client_find(caller, client_handle);
	struct sim_client *from_client = sim_client_any(caller->sim, client_from);
	struct sim_object *parent = NULL;
	struct sim_object *from;
	struct sim_object *object;
	uint32_t status;

	if (!client || !from_client)
		return NV_ERR_INVALID_CLIENT;
	from = sim_object_find(from_client, object_from);
	if (!from)
		return NV_ERR_OBJECT_NOT_FOUND;
	if (parent_handle != client_handle) {
		parent = sim_object_find(client, parent_handle);
		if (!parent)
			return NV_ERR_INVALID_OBJECT_PARENT;
	}
	if (!is_parent(abi_class_find(from->class_id)->effect, parent) || (from->memory && (!parent || parent->gpu != from->gpu)))
		return NV_ERR_INVALID_OBJECT_PARENT;
	if (!may_dup(from, client))
		return NV_ERR_INSUFFICIENT_PERMISSIONS;
	if (from->is_channel || from->is_group)
		return NV_ERR_NOT_SUPPORTED;
	object = sim_object_new(client, parent, handle, from->class_id, &status);
	if (!object)
		return status;
	if (from->class_id == 0x80)
		object->gpu = from->gpu;
	object->memory = from->memory;
	if (object->memory)
		object->memory->refs++;
	return NV_OK;
}

/* NVOS57. A share of the client goes for all its objects. */
uint32_t sim_rm_share(struct sim_caller *caller, const uint8_t *args)
{
	uint32_t client_handle = get_u32(args, SHARE_CLIENT);
	struct sim_client *client = sim_client_find(caller, client_handle);
	uint32_t type = get_u16(args, SHARE_TYPE);
	bool give = !(args[SHARE_ACTION] & SHARE_REVOKE) && get_u32(args, SHARE_MASK) & SHARE_RIGHT_DUP;
	struct sim_object *object;

	if (!client)
		return NV_ERR_INVALID_CLIENT;
	if (get_u32(args, SHARE_OBJECT) == client_handle) {
		if (type == SHARE_TYPE_ALL)
			client->shared_with_all = give;
		else if (type == SHARE_TYPE_USER)
			client->shared_with_user = give;
		return NV_OK;
	}
	object = sim_object_find(client, get_u32(args, SHARE_OBJECT));
	if (!object)
		return NV_ERR_OBJECT_NOT_FOUND;
	if (type == SHARE_TYPE_ALL)
		object->shared_with_all = give;
	else if (type == SHARE_TYPE_USER)
		object->shared_with_user = give;
	else if (type == SHARE_TYPE_CLIENT)
		object->shared_with_client = give ? get_u32(args, SHARE_TARGET) : 0;
	return NV_OK;
}

/* ---- NVOS32 ---- */

/* Where the three allocating functions keep their fields. */
static const struct heap_fields {
	uint32_t function;
	uint16_t flags, attr, attr2, bytes;
} heap_fields[] = {
	{ HEAP_FUNCTION_ALLOC_SIZE, HEAP_FLAGS, HEAP_ATTR, 144, HEAP_BYTES },
	{ HEAP_FUNCTION_ALLOC_TILED, HEAP_FLAGS, 64, 144, HEAP_BYTES },
	{ HEAP_FUNCTION_ALLOC_RANGE, HEAP_FLAGS, HEAP_ATTR, 136, 80 },
};

static uint32_t heap_alloc(struct sim_caller *caller, const struct heap_fields *at, uint8_t *args)
{
	uint8_t params[128] = { 0 };
	uint32_t flags = get_u32(args, at->flags);
	uint32_t attr = get_u32(args, at->attr);
	uint32_t handle = flags & FLAG_HANDLE_PROVIDED ? get_u32(args, HEAP_MEMORY) : 0;
	uint32_t class_id = CLASS_MEMORY_SYSTEM;
	uint32_t status;

	/* height times pitch: the size field is an output there */
	if (at->function == HEAP_FUNCTION_ALLOC_TILED)
		put_u64(args, at->bytes, (uint64_t)get_u32(args, 56) * get_u32(args, 60));
	if (flags & FLAG_VIRTUAL)
		class_id = CLASS_VIRTUAL;
	else if (get_u32(args, at->attr2) & ATTR2_EGM)
		class_id = CLASS_EXTENDED;
	else if (!(attr & ATTR_LOCATION))
		class_id = CLASS_VIDMEM;
	put_u32(params, MEMORY_FLAGS, flags);
	put_u32(params, MEMORY_ATTR, attr);
	put_u64(params, MEMORY_BYTES, get_u64(args, at->bytes));
	status = sim_rm_alloc(caller, get_u32(args, HEAP_ROOT), get_u32(args, HEAP_PARENT), &handle, class_id, params,
			      sizeof(params));
	if (status != NV_OK)
		return status;
	put_u32(args, HEAP_MEMORY, handle);
	put_u64(args, at->bytes, get_u64(params, MEMORY_BYTES));
	return NV_OK;
}

/* The state of the heap, which function 5 gives and the others give too. */
static uint32_t heap_info(struct sim_caller *caller, uint8_t *args, bool with_regions)
{
	struct sim_client *client = sim_client_find(caller, get_u32(args, HEAP_ROOT));
	struct sim_object *device = client ? sim_object_find(client, get_u32(args, HEAP_PARENT)) : NULL;

	if (!client)
		return NV_ERR_INVALID_CLIENT;
	if (!device || !device->gpu)
		return NV_ERR_INVALID_OBJECT_PARENT;
	put_u64(args, HEAP_TOTAL, sim_gpu_heap(device->gpu));
	put_u64(args, HEAP_FREE, sim_gpu_free(caller->sim, device->gpu));
	if (with_regions) {
		put_u64(args, 48, 0);				/* data.Info.offset of the largest free region */
		put_u64(args, 56, get_u64(args, HEAP_FREE));	/* data.Info.size of it */
		put_u64(args, 64, 0);				/* data.Info.base of the heap */
	}
	return NV_OK;
}

uint32_t sim_vid_heap(struct sim_caller *caller, uint8_t *args)
{
	uint32_t function = get_u32(args, HEAP_FUNCTION);
	uint32_t status;

	for (size_t i = 0; i < sizeof(heap_fields) / sizeof(heap_fields[0]); i++) {
		if (heap_fields[i].function != function)
			continue;
		status = heap_alloc(caller, &heap_fields[i], args);
		return status == NV_OK ? heap_info(caller, args, false) : status;
	}
	switch (function) {
	case HEAP_FUNCTION_FREE:
		return sim_rm_free(caller, get_u32(args, HEAP_ROOT), get_u32(args, HEAP_MEMORY));
	case HEAP_FUNCTION_INFO:
		return heap_info(caller, args, true);
	case HEAP_FUNCTION_HW_FREE:
		return sim_rm_free(caller, get_u32(args, HEAP_ROOT), get_u32(args, 40));
	default:
		return NV_ERR_NOT_SUPPORTED;
	}
}
