/* SPDX-License-Identifier: Apache-2.0 */
/* Objects given from process to process through a file: EXPORT_OBJECT(S)_TO_FD and IMPORT_OBJECT(S)_FROM_FD. The named
 * file keeps the memory until it is closed. Facts: open-gpu-kernel-modules 580.142, sdk/nvidia/inc/ctrl/ctrl0000/
 * ctrl0000unix.h, arch/nvalloc/unix/src/rmobjexportimport.c. */
#include "base/bytes.h"
#include "sim/rm.h"

enum {
	EXPORT_ONE = 0x3d05, IMPORT_ONE = 0x3d06, EXPORT_MANY = 0x3d0b, IMPORT_MANY = 0x3d0c,
	/* one: type, hDevice, hParent, hObject, fd (import: fd first) */
	EXPORT_ONE_OBJECT = 12, EXPORT_ONE_FD = 16,
	IMPORT_ONE_FD = 0, IMPORT_ONE_PARENT = 12, IMPORT_ONE_OBJECT = 16,
	/* many */
	MANY_FD = 0, EXPORT_MANY_DEVICE = 4, EXPORT_MANY_OBJECTS = 76, EXPORT_MANY_COUNT = 2124, EXPORT_MANY_INDEX = 2126,
	IMPORT_MANY_PARENT = 4, IMPORT_MANY_OBJECTS = 8, IMPORT_MANY_TYPES = 520, IMPORT_MANY_COUNT = 648,
	IMPORT_MANY_INDEX = 650, IMPORT_MAX = 128,
	TYPE_VIDMEM = 1,	/* NV0000_CTRL_CMD_OS_UNIX_IMPORT_OBJECT_TYPE_VIDMEM */
};

int sim_export_fd(uint32_t command, const uint8_t *params)
{
	switch (command) {
	case EXPORT_ONE:
		return (int)get_u32(params, EXPORT_ONE_FD);
	case IMPORT_ONE:
		return (int)get_u32(params, IMPORT_ONE_FD);
	case EXPORT_MANY:
	case IMPORT_MANY:
		return (int)get_u32(params, MANY_FD);
	default:
		return -1;
	}
}

void sim_exports_drop(struct sim_file *file)
{
	for (int i = 0; file->exports && i < SIM_FD_EXPORTS; i++)
		sim_memory_unref(file->exports[i].memory);
	free(file->exports);
	file->exports = NULL;
}

static uint32_t export_object(struct sim_file *file, struct sim_client *client, uint32_t handle, uint32_t index)
{
	struct sim_object *object = sim_object_find(client, handle);
	struct sim_export *slot;

	if (!object)
		return NV_ERR_OBJECT_NOT_FOUND;
	if (index >= SIM_FD_EXPORTS)
		return NV_ERR_INVALID_ARGUMENT;
	if (!file->exports)
		file->exports = calloc(SIM_FD_EXPORTS, sizeof(*file->exports));
	if (!file->exports)
		return NV_ERR_NO_MEMORY;
	slot = &file->exports[index];
	sim_memory_unref(slot->memory);
	*slot = (struct sim_export){ .memory = object->memory, .class_id = object->class_id, .gpu = object->gpu,
				     .used = true };
	if (slot->memory)
		slot->memory->refs++;
	return NV_OK;
}

static uint32_t import_object(struct sim_file *file, struct sim_client *client, uint32_t parent_handle,
			      uint32_t *handle, uint32_t index)
{
	struct sim_object *parent = NULL;
	struct sim_object *object;
	struct sim_export *slot;
	uint32_t status;

	if (!file->exports || index >= SIM_FD_EXPORTS || !file->exports[index].used)
		return NV_ERR_INVALID_ARGUMENT;
	slot = &file->exports[index];
	if (parent_handle != client->handle) {
		parent = sim_object_find(client, parent_handle);
		if (!parent)
			return NV_ERR_INVALID_OBJECT_PARENT;
	}
	if (slot->memory && (!parent || parent->gpu != slot->gpu))
		return NV_ERR_INVALID_OBJECT_PARENT;
	object = sim_object_new(client, parent, handle, slot->class_id, &status);
	if (!object)
		return status;
	object->memory = slot->memory;
	if (object->memory)
		object->memory->refs++;
	return NV_OK;
}

static uint32_t export_many(struct sim_file *file, struct sim_client *client, const uint8_t *params)
{
	uint32_t count = get_u16(params, EXPORT_MANY_COUNT);
	uint32_t index = get_u16(params, EXPORT_MANY_INDEX);
	uint32_t status = NV_OK;

	if (count > SIM_FD_EXPORTS || index + count > SIM_FD_EXPORTS)
		return NV_ERR_INVALID_ARGUMENT;
	for (uint32_t i = 0; i < count && status == NV_OK; i++) {
		uint32_t handle = get_u32(params, EXPORT_MANY_OBJECTS + 4 * i);

		if (handle)
			status = export_object(file, client, handle, index + i);
	}
	return status;
}

static uint32_t import_many(struct sim_file *file, struct sim_client *client, uint8_t *params)
{
	uint32_t count = get_u16(params, IMPORT_MANY_COUNT);
	uint32_t index = get_u16(params, IMPORT_MANY_INDEX);
	uint32_t status = NV_OK;

	if (count > IMPORT_MAX || index + count > SIM_FD_EXPORTS)
		return NV_ERR_INVALID_ARGUMENT;
	for (uint32_t i = 0; i < count && status == NV_OK; i++) {
		uint32_t handle = get_u32(params, IMPORT_MANY_OBJECTS + 4 * i);

		if (!handle || !file->exports || !file->exports[index + i].used)
			continue;
		status = import_object(file, client, get_u32(params, IMPORT_MANY_PARENT), &handle, index + i);
		params[IMPORT_MANY_TYPES + i] = TYPE_VIDMEM;
	}
	return status;
}

uint32_t sim_export_control(struct sim_caller *caller, struct sim_client *client, uint32_t command, uint8_t *params)
{
	struct sim_file *file = caller->named;
	uint32_t handle;
	uint32_t status;

	if (!file || file->device != ABI_DEV_CTL)
		return NV_ERR_INVALID_ARGUMENT;
	switch (command) {
	case EXPORT_ONE:
		return export_object(file, client, get_u32(params, EXPORT_ONE_OBJECT), 0);
	case IMPORT_ONE:
		handle = get_u32(params, IMPORT_ONE_OBJECT);
		status = import_object(file, client, get_u32(params, IMPORT_ONE_PARENT), &handle, 0);
		if (status == NV_OK)
			put_u32(params, IMPORT_ONE_OBJECT, handle);
		return status;
	case EXPORT_MANY:
		return export_many(file, client, params);
	default:
		return import_many(file, client, params);
	}
}
