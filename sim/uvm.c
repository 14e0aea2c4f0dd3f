/* SPDX-License-Identifier: Apache-2.0 */
/* The ioctls of /dev/nvidia-uvm. Facts: open-gpu-kernel-modules 580.142, kernel-open/nvidia-uvm/uvm.c (uvm_ioctl),
 * uvm_map_external.c, uvm_ioctl.h. The whole request is compared, and the parameters are copied at a fixed size. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/bytes.h"
#include "base/sum.h"
#include "sim/rm.h"

enum {
	UVM_PARAMS_MAX = 16384,
	EXTERNAL_RANGE = 0x49, EXTERNAL_RANGE_STATUS = 16,
	UNMAP_STATUS = 32,
	REGISTER_GPU_STATUS = 36,
	PAGEABLE_STATUS = 4, PAGEABLE_ON_GPU = 0x46,
};

/* Where a call that only succeeds has its rmStatus. */
static const struct {
	uint32_t request;
	uint32_t status;
} plain[] = {
	{ 0x17, 8 }, { 0x18, 8 }, { 0x19, 28 }, { 0x1a, 16 }, { 0x1b, 48 }, { 0x1d, 32 }, { 0x1e, 32 }, { 0x1f, 24 },
	{ 0x26, 16 }, { 0x2b, 16 }, { 0x2c, 16 }, { 0x2d, 16 }, { 0x2e, 32 }, { 0x2f, 32 }, { 0x33, 72 },
	{ 0x35, 24 }, { 0x41, 32 }, { 0x47, 20 }, { 0x48, 16 }, { 0x4a, 32 }, { UVM_MM_INITIALIZE, 4 }, { 0x50, 24 },
};

struct uvm_call {
	struct sim_caller *caller;
	struct sim_file *file;
	uint8_t *params;
};

static struct sim_range *range_add(struct sim_range **list, uint64_t base, uint64_t length, struct sim_memory *memory)
{
	struct sim_range *range = calloc(1, sizeof(*range));

	if (!range)
		return NULL;
	range->base = base;
	range->length = length;
	range->memory = memory;
	DL_APPEND(*list, range);
	return range;
}

/* Forget the ranges that lie inside base, length. */
static void ranges_drop(struct sim_range **list, uint64_t base, uint64_t length)
{
	struct sim_range *range, *next;

	for (range = *list; range; range = next) {
		next = range->next;
		if (range->base < base || range->length > length || range->base - base > length - range->length)
			continue;
		DL_DELETE(*list, range);
		sim_memory_unref(range->memory);
		free(range);
	}
}

void sim_uvm_drop(struct sim_file *file)
{
	ranges_drop(&file->mappings, 0, UINT64_MAX);
	ranges_drop(&file->ranges, 0, UINT64_MAX);
	ranges_drop(&file->pools, 0, UINT64_MAX);
}

static struct sim_range *range_around(struct sim_range *list, uint64_t base, uint64_t length)
{
	struct sim_range *range;

	for (range = list; range; range = range->next) {
		if (base >= range->base && length <= range->length && base - range->base <= range->length - length)
			return range;
	}
	return NULL;
}

/* Binds the file to the caller's address space. */
static uint32_t uvm_initialize(struct uvm_call *c)
{
	pid_t pid = sim_tgid(c->caller->tid);

	if (c->file->initialized)
		return c->file->pid == pid ? NV_OK : NV_ERR_INVALID_STATE;
	c->file->initialized = true;
	c->file->uvm_flags = get_u64(c->params, UVM_INITIALIZE_FLAGS);
	c->file->pid = pid;
	c->file->pid_start = sim_start_time(pid);
	return NV_OK;
}

static uint32_t uvm_register_gpu(struct uvm_call *c)
{
	struct sim *sim = c->caller->sim;

	for (uint32_t i = 0; i < sim->gpu_count; i++) {
		uint8_t bytes[16] = { 0 };

		sim_uuid_bytes(sim->gpus[i].uuid, bytes);
		if (memcmp(bytes, c->params, sizeof(bytes)) != 0)
			continue;
		if (!c->file->gpu)
			c->file->gpu = &sim->gpus[i];
		return NV_OK;
	}
	return NV_ERR_INVALID_DEVICE;
}

static uint32_t uvm_create_range(struct uvm_call *c)
{
	uint64_t base = get_u64(c->params, UVM_RANGE_BASE);
	uint64_t length = get_u64(c->params, UVM_RANGE_LENGTH);
	struct sim_range *range;

	if (!length || base % 4096 || length % 4096 || base + length < base)
		return NV_ERR_INVALID_ADDRESS;
	for (range = c->file->ranges; range; range = range->next) {
		if (base < range->base + range->length && range->base < base + length)
			return NV_ERR_INVALID_ADDRESS;
	}
	return range_add(&c->file->ranges, base, length, NULL) ? NV_OK : NV_ERR_NO_MEMORY;
}

/* The memory is found by client and handle alone, through whatever file it was made; the mapping keeps it
 * (uvm_map_external.c, nvUvmInterfaceDupMemory). */
static uint32_t uvm_map_external(struct uvm_call *c)
{
	const struct abi_layout *layout = &c->caller->sim->layout;
	uint64_t base = get_u64(c->params, UVM_RANGE_BASE);
	uint64_t length = get_u64(c->params, UVM_RANGE_LENGTH);
	uint64_t count = get_u64(c->params, layout->uvm_map_external_client - 12);
	struct sim_client *client = sim_client_any(c->caller->sim,
						   get_u32(c->params, layout->uvm_map_external_client));
	struct sim_object *object;

	if (!count || count > 256)
		return NV_ERR_INVALID_ARGUMENT;
	if (!length || !range_around(c->file->ranges, base, length))
		return NV_ERR_INVALID_ADDRESS;
	object = client ? sim_object_find(client, get_u32(c->params, layout->uvm_map_external_memory)) : NULL;
	if (!client)
		return NV_ERR_INVALID_CLIENT;
	if (!object)
		return NV_ERR_OBJECT_NOT_FOUND;
	if (!sim_may_take(object, c->caller))
		return NV_ERR_INSUFFICIENT_PERMISSIONS;
	/* to map again is to map instead */
	ranges_drop(&c->file->mappings, base, length);
	if (!range_add(&c->file->mappings, base, length, object->memory))
		return NV_ERR_NO_MEMORY;
	if (object->memory)
		object->memory->refs++;
	return NV_OK;
}

static uint32_t uvm_unmap_external(struct uvm_call *c)
{
	uint64_t base = get_u64(c->params, UVM_RANGE_BASE);
	uint64_t length = get_u64(c->params, UVM_RANGE_LENGTH);

	if (!length || !range_around(c->file->ranges, base, length))
		return NV_ERR_INVALID_ADDRESS;
	ranges_drop(&c->file->mappings, base, length);
	return NV_OK;
}

/* A whole range, by its start, and until 590 by its length, too (uvm_va_range.c, uvm_free()). */
static uint32_t uvm_free(struct uvm_call *c)
{
	bool by_length = c->caller->sim->layout.uvm_free_size == 24;
	uint64_t base = get_u64(c->params, UVM_RANGE_BASE);
	uint64_t length = by_length ? get_u64(c->params, UVM_RANGE_LENGTH) : 0;
	struct sim_range *range;

	for (range = c->file->ranges; range; range = range->next) {
		if (range->base != base || (by_length && range->length != length))
			continue;
		ranges_drop(&c->file->mappings, base, range->length);
		ranges_drop(&c->file->ranges, base, range->length);
		return NV_OK;
	}
	for (range = c->file->pools; range; range = range->next) {
		if (range->base != base || (by_length && range->length != length))
			continue;
		ranges_drop(&c->file->pools, base, range->length);
		return NV_OK;
	}
	return NV_ERR_INVALID_ADDRESS;
}

/* No memory of the system's own is shown to the GPU here: HMM is a kernel's matter. The flag is kept for the state. */
static uint32_t uvm_pageable(struct uvm_call *c, uint32_t offset)
{
	c->params[offset] = 0;
	return NV_OK;
}

/* How long the parameters are, and where their status is. False: a call that answers nothing. */
static bool call_shape(const struct abi_layout *layout, const struct abi_row *row, uint32_t *ret_size,
		       uint32_t *ret_status)
{
	*ret_size = row->size;
	switch (row->number) {
	case UVM_INITIALIZE:
		*ret_status = UVM_INITIALIZE_STATUS;
		return true;
	case UVM_REGISTER_GPU:
		*ret_status = REGISTER_GPU_STATUS;
		return true;
	case EXTERNAL_RANGE:
		*ret_status = EXTERNAL_RANGE_STATUS;
		return true;
	case UVM_MAP_EXTERNAL_ALLOCATION:
		*ret_size = layout->uvm_map_external_size;
		*ret_status = layout->uvm_map_external_status;
		return true;
	case UVM_UNMAP_EXTERNAL:
		*ret_status = UNMAP_STATUS;
		return true;
	case UVM_FREE:
		*ret_size = layout->uvm_free_size;
		*ret_status = layout->uvm_free_status;
		return true;
	case UVM_PAGEABLE_MEM_ACCESS:
		*ret_status = PAGEABLE_STATUS;
		return true;
	case PAGEABLE_ON_GPU:
		*ret_status = 20;
		return true;
	case UVM_ALLOC_SEMAPHORE_POOL:
		*ret_size = layout->uvm_semaphore_pool_size;
		*ret_status = *ret_size - 8;
		return true;
	case 0x2a:	/* UVM_SET_PREFERRED_LOCATION: a field was put in at 550.40.07, with the map's larger array */
		*ret_status = layout->uvm_map_external_size > 2000 ? 36 : 32;
		return true;
	default:
		break;
	}
	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		*ret_status = plain[i].status;
		if (plain[i].request == row->number)
			return true;
	}
	return false;
}

static uint32_t uvm_make_pool(struct uvm_call *c)
{
	uint64_t base = get_u64(c->params, UVM_RANGE_BASE);
	uint64_t length = get_u64(c->params, UVM_RANGE_LENGTH);

	if (!length || base % 4096 || length % 4096 || base + length < base)
		return NV_ERR_INVALID_ADDRESS;
	return range_add(&c->file->pools, base, length, NULL) ? NV_OK : NV_ERR_NO_MEMORY;
}

static uint32_t uvm_dispatch(struct uvm_call *c, uint32_t request)
{
	if (request == UVM_INITIALIZE)
		return uvm_initialize(c);
	if (request == UVM_MM_INITIALIZE)
		return NV_OK;
	if (!c->file->initialized)
		return NV_ERR_ILLEGAL_ACTION;
	switch (request) {
	case UVM_REGISTER_GPU:
		return uvm_register_gpu(c);
	case EXTERNAL_RANGE:
		return uvm_create_range(c);
	case UVM_MAP_EXTERNAL_ALLOCATION:
		return uvm_map_external(c);
	case UVM_UNMAP_EXTERNAL:
		return uvm_unmap_external(c);
	case UVM_FREE:
		return uvm_free(c);
	case UVM_ALLOC_SEMAPHORE_POOL:
		return uvm_make_pool(c);
	case UVM_PAGEABLE_MEM_ACCESS:
		return uvm_pageable(c, 0);
	case PAGEABLE_ON_GPU:
		return uvm_pageable(c, 16);
	default:
		return NV_OK;
	}
}

int sim_uvm_ioctl(struct sim_caller *caller, uint32_t request, uint64_t argument)
{
	uint8_t params[UVM_PARAMS_MAX];
	struct uvm_call c = { .caller = caller, .file = caller->file, .params = params };
	const struct abi_row *row = abi_uvm_find(request);
	uint32_t size, status_offset, status;

	if (!row)
		return -EINVAL;
	if (request == UVM_DEINITIALIZE || !call_shape(&caller->sim->layout, row, &size, &status_offset))
		return 0;
	if (sim_read(caller->tid, argument, params, size) < 0)
		return -EFAULT;
	sim_lock(caller->sim);
	status = uvm_dispatch(&c, request);
	sim_unlock(caller->sim);
	put_u32(params, status_offset, status);
	return sim_write(caller->tid, argument, params, size);
}

static struct sim_file *file_after(struct sim *sim, struct sim_file *file)
{
	struct sim_file *next;

	/* files are only taken out under the big lock, which we hold; they come in at any time */
	pthread_mutex_lock(&sim->files_lock);
	next = file ? file->next : sim->files;
	pthread_mutex_unlock(&sim->files_lock);
	return next;
}

/* The first file of a process stands for all: the process' mappings do not say which file they are of. */
static bool is_first_of_process(struct sim *sim, const struct sim_file *file)
{
	struct sim_file *other = file_after(sim, NULL);

	while (other != file && !(other->initialized && other->pid == file->pid && other->pid_start == file->pid_start))
		other = file_after(sim, other);
	return other == file;
}

/* Pools are mapped as managed memory is, and lie in host memory. */
static uint64_t pool_bytes(const struct sim_file *file)
{
	uint64_t sum = 0;

	for (const struct sim_range *pool = file->pools; pool; pool = pool->next)
		sum += pool->length;
	return sum;
}

/* Nobody tells us of an mmap: what is mapped is looked up when somebody asks. */
uint64_t sim_managed(struct sim *sim, struct sim_gpu *gpu)
{
	uint64_t bytes = 0;

	for (struct sim_file *file = file_after(sim, NULL); file; file = file_after(sim, file)) {
		if (!file->initialized || (file->gpu ? file->gpu : &sim->gpus[0]) != gpu)
			continue;
		file->managed_bytes = 0;
		if (is_first_of_process(sim, file) && sim_start_time(file->pid) == file->pid_start)
			file->managed_bytes = less_u64(sim_mapped_bytes(file->pid, sim->uvm_inode), pool_bytes(file));
		bytes += file->managed_bytes;
	}
	return bytes;
}
