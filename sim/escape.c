/* SPDX-License-Identifier: Apache-2.0 */
/* The ioctls of /dev/nvidiactl and /dev/nvidiaN. Facts: open-gpu-kernel-modules 580.142, kernel-open/nvidia/nv.c
 * (nvidia_ioctl) and src/nvidia/arch/nvalloc/unix/src/escape.c (RmIoctl).
 *
 * Everything that could wait (the caller's memory, descriptors) is done before and after the lock. */
#include "sim/rm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

enum {
	ARGS_MAX = 16384,
	PARAMS_MAX = 1 << 20,	/* of a control: larger than any */
	CARD_INFO_ENTRY = 72,
	VERSION_COMMAND_QUERY = '2',
	/* NVOS33 with fd, NV_ESC_RM_MAP_MEMORY */
	MAP_CLIENT = 0, MAP_MEMORY = 8, MAP_ADDRESS = 32, MAP_STATUS = 40,
	/* NVOS02 with fd, NV_ESC_RM_ALLOC_MEMORY */
	OS02_ROOT = 0, OS02_PARENT = 4, OS02_NEW = 8, OS02_CLASS = 12, OS02_STATUS = 40,
	SHARE_STATUS = 20, UNMAP_STATUS = 24, IDLE_STATUS = 28,
	XFER_COMMAND = 0, XFER_SIZE = 4, XFER_POINTER = 8,
};

/* An ioctl whose argument has been copied. */
struct escape {
	struct sim_caller *caller;
	uint32_t nr, size;
	uint8_t *args;
	uint8_t *params;	/* what args points to, copied; NULL: nothing */
	uint32_t params_size;
	uint64_t params_address;
	bool params_changed;	/* to be written back */
};

/* ---- controls ---- */

static int control_read(struct sim_control_call *call, uint64_t address, void *buffer, size_t size)
{
	return sim_read(call->pid, address, buffer, size);
}

static int control_write(struct sim_control_call *call, uint64_t address, const void *buffer, size_t size)
{
	return sim_write(call->pid, address, buffer, size);
}

static const struct sim_control *control_find(uint32_t command)
{
	const struct sim_control *tables[] = { sim_memory_controls, sim_sched_controls, sim_system_controls,
					       sim_nvml_controls };

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		for (const struct sim_control *c = tables[i]; c->command; c++) {
			if (c->command == command)
				return c;
		}
	}
	return NULL;
}

/* Sizes that the driver version decides. */
static uint32_t control_size(const struct abi_layout *layout, const struct sim_control *control)
{
	switch (control->command) {
	case NV2080_CTRL_CMD_FB_GET_INFO_V2:
		return layout->fb_info_v2_size;
	case NV2080_CTRL_CMD_PERF_GET_GPUMON_PERFMON_UTIL_SAMPLES_V2:
		return layout->util_samples_size;
	case NVA06C_CTRL_CMD_GPFIFO_SCHEDULE:
	case 0xa06f0103:
		return layout->gpfifo_schedule_size;
	default:
		return control->size;
	}
}

static bool is_export(uint32_t command)
{
	const struct abi_row *row = abi_control_find(command);

	return row && (row->effect == ABI_EXPORT || row->effect == ABI_IMPORT);
}

static uint32_t rm_control(struct escape *e)
{
	struct sim *sim = e->caller->sim;
	uint32_t command = get_u32(e->args, CONTROL_COMMAND);
	uint32_t object_handle = get_u32(e->args, CONTROL_OBJECT);
	struct sim_client *client = sim_client_find(e->caller, get_u32(e->args, CONTROL_CLIENT));
	const struct sim_control *control = control_find(command);
	struct sim_object *object = NULL;
	struct sim_control_call call;
	uint32_t size;
	uint32_t status;

	if (!client)
		return NV_ERR_INVALID_CLIENT;
	if (object_handle != client->handle) {
		object = sim_object_find(client, object_handle);
		if (!object)
			return NV_ERR_INVALID_OBJECT_HANDLE;
	}
	if (is_export(command)) {
		if (e->params_size != abi_control_find(command)->size)
			return NV_ERR_INVALID_PARAM_STRUCT;
		e->params_changed = true;
		return sim_export_control(e->caller, client, command, e->params);
	}
	if (!control)
		return NV_ERR_NOT_SUPPORTED;
	size = control_size(&sim->layout, control);
	if (size && e->params_size != size)
		return NV_ERR_INVALID_PARAM_STRUCT;
	call = (struct sim_control_call){ .sim = sim, .client = client, .gpu = object ? object->gpu : NULL,
					  .object = object_handle, .object_class = object ? object->class_id : 0x41,
					  .command = command, .pid = e->caller->tid, .read = control_read,
					  .write = control_write };
	status = control->answer(&call, e->params, e->params_size);
	e->params_changed = status == NV_OK;
	return status;
}

/* ---- RM calls ---- */

/* How many bytes of parameters the class has; the caller's own figure is ignored (rmapi/alloc_free.c). */
static uint32_t class_params_size(const struct abi_layout *layout, uint32_t class_id)
{
	const struct abi_row *row = abi_class_find(class_id);

	if (!row)
		return 0;
	if (row->effect == ABI_CLASS_VIDMEM || class_id == 0x3e || class_id == 0x50a0)
		return layout->memory_alloc_size;
	if (row->effect == ABI_CLASS_CHANNEL)
		return layout->channel_alloc_size;
	if (row->effect == ABI_CLASS_CLIENT)
		return 0;
	return row->size;
}

static uint32_t rm_alloc(struct escape *e)
{
	uint32_t object = get_u32(e->args, ALLOC_OBJECT);
	uint32_t status;

	status = sim_rm_alloc(e->caller, get_u32(e->args, ALLOC_ROOT), get_u32(e->args, ALLOC_PARENT), &object,
			      get_u32(e->args, ALLOC_CLASS), e->params, e->params_size);
	if (status == NV_OK) {
		put_u32(e->args, ALLOC_OBJECT, object);
		e->params_changed = true;
	}
	return status;
}

static uint32_t rm_dup(struct escape *e)
{
	uint32_t object = get_u32(e->args, DUP_OBJECT);
	uint32_t status;

	status = sim_rm_dup(e->caller, get_u32(e->args, DUP_CLIENT), get_u32(e->args, DUP_PARENT), &object,
			    get_u32(e->args, DUP_CLIENT_SRC), get_u32(e->args, DUP_OBJECT_SRC));
	if (status == NV_OK)
		put_u32(e->args, DUP_OBJECT, object);
	return status;
}

/* Only the process that made the client may map through it (osapi.c, rm_create_mmap_context). */
static uint32_t rm_map(struct escape *e)
{
	struct sim *sim = e->caller->sim;
	struct sim_client *client = sim_client_find(e->caller, get_u32(e->args, MAP_CLIENT));

	if (!client || client->pid != sim_tgid(e->caller->tid))
		return NV_ERR_INVALID_CLIENT;
	if (!sim_object_find(client, get_u32(e->args, MAP_MEMORY)))
		return NV_ERR_OBJECT_NOT_FOUND;
	/* an own place in the file for each mapping, so that two never share pages */
	put_u64(e->args, MAP_ADDRESS, sim->next_map_offset);
	sim->next_map_offset += 1u << 30;
	return NV_OK;
}

/* rmapi_deprecated_allocmemory.c: class 0x40 becomes a virtual range here; never new video memory. */
static uint32_t rm_alloc_memory(struct escape *e)
{
	uint32_t object = get_u32(e->args, OS02_NEW);
	uint32_t class_id = get_u32(e->args, OS02_CLASS);
	uint32_t status;

	if (class_id == 0x40)
		class_id = 0x50a0;
	if (class_id != 0x3e && class_id != 0x71 && class_id != 0x50a0 && class_id != 0x81 && class_id != 0x82 &&
	    class_id != 0x83)
		return NV_ERR_INVALID_CLASS;
	status = sim_rm_alloc(e->caller, get_u32(e->args, OS02_ROOT), get_u32(e->args, OS02_PARENT), &object, class_id,
			      NULL, 0);
	if (status == NV_OK)
		put_u32(e->args, OS02_NEW, object);
	return status;
}

/* ---- calls of the kernel module itself: 0 or negative errno ---- */

static int card_info(struct escape *e)
{
	struct sim *sim = e->caller->sim;

	if (e->size < sim->gpu_count * CARD_INFO_ENTRY)
		return -EINVAL;
	memset(e->args, 0, e->size);
	for (uint32_t i = 0; i < sim->gpu_count; i++) {
		const struct sim_gpu *gpu = &sim->gpus[i];
		uint8_t *entry = e->args + i * CARD_INFO_ENTRY;

		entry[0] = 1;
		put_u32(entry, 4, gpu->pci_domain);
		entry[8] = (uint8_t)gpu->pci_bus;
		entry[9] = (uint8_t)gpu->pci_slot;
		put_u32(entry, 12, gpu->model.pci_device_id);	/* vendor, then device */
		put_u32(entry, 16, gpu->gpu_id);
		put_u64(entry, 24, 0xf0000000u + ((uint64_t)i << 24));	/* registers */
		put_u64(entry, 32, 16u << 20);
		put_u64(entry, 40, 0x100000000000u + ((uint64_t)i << 40));	/* frame buffer */
		put_u64(entry, 48, gpu->model.total_bytes);
		put_u32(entry, 56, gpu->index);
	}
	return 0;
}

/* osapi.c, RmPerformVersionCheck: command 0 compares; '2' only asks, from 530.30.02 on. */
static int check_version(struct escape *e)
{
	const struct sim *sim = e->caller->sim;
	uint32_t command = get_u32(e->args, 0);
	bool same = strncmp((char *)e->args + 8, sim->version_text, 64) == 0;
	bool asks = command == VERSION_COMMAND_QUERY &&
		    abi_version_compare(sim->version, (struct abi_version){ 530, 30, 2 }) >= 0;

	put_u32(e->args, 4, same || asks ? 1 : 0);	/* recognized */
	if (same || command == VERSION_COMMAND_QUERY) {
		if (asks)
			snprintf((char *)e->args + 8, 64, "%s", sim->version_text);
		return 0;
	}
	snprintf((char *)e->args + 8, 64, "%s", sim->version_text);
	return -EINVAL;
}

static int register_fd(struct escape *e)
{
	struct sim_file *file = e->caller->file;
	struct sim_file *ctl = e->caller->named;

	if (file->ctl || !ctl || ctl->device != ABI_DEV_CTL || ctl == file || ctl->ctl)
		return -EINVAL;
	file->ctl = ctl;
	ctl->refs++;
	return 0;
}

static int attach_gpus(struct escape *e)
{
	if (!e->size || e->size % 4)
		return -EINVAL;
	for (uint32_t i = 0; i < e->size; i += 4) {
		uint32_t id = get_u32(e->args, i);

		if (id && !sim_gpu_by_id(e->caller->sim, id))
			return -EINVAL;
	}
	return 0;
}

/* ---- dispatch ---- */

static void set_status(struct escape *e, uint32_t offset, uint32_t status)
{
	put_u32(e->args, offset, status);
}

static bool is_event_class(uint32_t class_id)
{
	return class_id == 0x5 || class_id == 0x78 || class_id == 0x79 || class_id == 0x7e;
}

static uint32_t alloc_status_offset(const struct escape *e)
{
	const struct abi_layout *layout = &e->caller->sim->layout;

	return e->size == ALLOC_SHORT_SIZE ? layout->alloc_short_status : layout->alloc_long_status;
}

/* Under the lock. */
static int dispatch(struct escape *e)
{
	struct sim_caller *caller = e->caller;

	switch (e->nr) {
	case NV_ESC_RM_ALLOC:
		if (caller->file->device != ABI_DEV_CTL && !is_event_class(get_u32(e->args, ALLOC_CLASS)))
			return -EINVAL;
		set_status(e, alloc_status_offset(e), rm_alloc(e));
		return 0;
	case NV_ESC_RM_FREE:
		set_status(e, FREE_STATUS, sim_rm_free(caller, get_u32(e->args, FREE_ROOT),
						       get_u32(e->args, FREE_OBJECT)));
		return 0;
	case NV_ESC_RM_CONTROL:
		set_status(e, CONTROL_STATUS, rm_control(e));
		return 0;
	case NV_ESC_RM_DUP_OBJECT:
		set_status(e, DUP_STATUS, rm_dup(e));
		return 0;
	case NV_ESC_RM_SHARE:
		set_status(e, SHARE_STATUS, sim_rm_share(caller, e->args));
		return 0;
	case NV_ESC_RM_VID_HEAP_CONTROL:
		set_status(e, HEAP_STATUS, sim_vid_heap(caller, e->args));
		return 0;
	case NV_ESC_RM_MAP_MEMORY:
		set_status(e, MAP_STATUS, rm_map(e));
		return 0;
	case NV_ESC_RM_UNMAP_MEMORY:
		set_status(e, UNMAP_STATUS, NV_OK);
		return 0;
	case NV_ESC_RM_IDLE_CHANNELS:
		set_status(e, IDLE_STATUS, NV_OK);
		return 0;
	case NV_ESC_RM_ALLOC_MEMORY:
		set_status(e, OS02_STATUS, rm_alloc_memory(e));
		return 0;
	case NV_ESC_RM_ALLOC_OBJECT:	/* NVOS05: no parameters, which every class of ours needs */
		set_status(e, 16, NV_ERR_INVALID_ARGUMENT);
		return 0;
	case NV_ESC_CARD_INFO:
		return card_info(e);
	case NV_ESC_REGISTER_FD:
		return register_fd(e);
	case NV_ESC_CHECK_VERSION_STR:
		return check_version(e);
	case NV_ESC_ATTACH_GPUS_TO_FD:
		return attach_gpus(e);
	case NV_ESC_EXPORT_TO_DMABUF_FD:
		return -EINVAL;	/* no dma-buf can be made here */
	default:
		return 0;	/* has no effect that we keep: all was well */
	}
}

/* The parameters that RM_ALLOC and RM_CONTROL point to. */
static int params_read(struct escape *e)
{
	const struct abi_layout *layout = &e->caller->sim->layout;

	if (e->nr == NV_ESC_RM_ALLOC) {
		e->params_address = get_u64(e->args, ALLOC_PARAMS);
		e->params_size = class_params_size(layout, get_u32(e->args, ALLOC_CLASS));
	} else if (e->nr == NV_ESC_RM_CONTROL) {
		e->params_address = get_u64(e->args, CONTROL_PARAMS);
		e->params_size = get_u32(e->args, CONTROL_PARAMS_SIZE);
	}
	if (!e->params_address)
		e->params_size = 0;
	if (!e->params_size)
		return NV_OK;
	if (e->params_size > PARAMS_MAX)
		return NV_ERR_INVALID_ARGUMENT;
	e->params = malloc(e->params_size);
	if (!e->params)
		return NV_ERR_NO_MEMORY;
	return sim_read(e->caller->tid, e->params_address, e->params, e->params_size) < 0 ? NV_ERR_INVALID_ADDRESS : NV_OK;
}

/* The descriptor that the arguments name, if any. */
static int named_fd(const struct escape *e)
{
	uint32_t command;

	if (e->nr == NV_ESC_REGISTER_FD)
		return (int)get_u32(e->args, 0);
	if (e->nr != NV_ESC_RM_CONTROL)
		return -1;
	command = get_u32(e->args, CONTROL_COMMAND);
	if (!is_export(command) || e->params_size != abi_control_find(command)->size)
		return -1;
	return sim_export_fd(command, e->params);
}

static struct sim_file *file_by_serial(struct sim *sim, uint32_t serial)
{
	struct sim_file *file;

	pthread_mutex_lock(&sim->files_lock);
	for (file = sim->files; file; file = file->next) {
		if (serial && file->serial == serial)
			break;
	}
	pthread_mutex_unlock(&sim->files_lock);
	return file;
}

static int escape_run(struct escape *e)
{
	struct sim_caller *caller = e->caller;
	uint32_t serial = 0;
	int status = params_read(e);
	int fd;
	int r;

	if (status != NV_OK) {
		set_status(e, e->nr == NV_ESC_RM_ALLOC ? alloc_status_offset(e) : CONTROL_STATUS, (uint32_t)status);
		return 0;
	}
	fd = named_fd(e);
	if (fd >= 0)
		serial = sim_file_serial(caller->sim, caller->tid, fd);
	sim_lock(caller->sim);
	caller->named = file_by_serial(caller->sim, serial);
	r = dispatch(e);
	sim_unlock(caller->sim);
	if (e->params_changed && sim_write(caller->tid, e->params_address, e->params, e->params_size) < 0)
		return -EFAULT;
	return r;
}

/* Type and direction of the request are never looked at. */
static int escape(struct sim_caller *caller, uint32_t nr, uint32_t size, uint64_t argument)
{
	uint8_t args[ARGS_MAX];
	struct escape e = { .caller = caller, .nr = nr, .size = size, .args = args };
	int r;

	if (!abi_call_find(&caller->sim->layout, caller->file->device, abi_request(nr, size)))
		return -EINVAL;
	if (sim_read(caller->tid, argument, args, size) < 0)
		return -EFAULT;
	r = escape_run(&e);
	free(e.params);
	/* the driver copies out whatever happened */
	if (sim_write(caller->tid, argument, args, size) < 0)
		return -EFAULT;
	return r;
}

int sim_ioctl(struct sim_caller *caller, uint32_t request, uint64_t argument)
{
	uint32_t nr = abi_request_nr(request);
	uint32_t size = abi_request_size(request);
	uint8_t xfer[16];

	if (nr != NV_ESC_IOCTL_XFER_CMD)
		return escape(caller, nr, size, argument);
	if (size != sizeof(xfer))
		return -EINVAL;
	if (sim_read(caller->tid, argument, xfer, sizeof(xfer)) < 0)
		return -EFAULT;
	nr = get_u32(xfer, XFER_COMMAND);
	size = get_u32(xfer, XFER_SIZE);
	if (size >= ARGS_MAX || nr == NV_ESC_IOCTL_XFER_CMD)
		return -EINVAL;
	return escape(caller, nr, size, get_u64(xfer, XFER_POINTER));
}
