/* SPDX-License-Identifier: Apache-2.0 */
/* Controls that tell which GPUs there are and what driver this is. Facts: open-gpu-kernel-modules 580.142,
 * sdk/nvidia/inc/ctrl/ctrl0000/ctrl0000gpu.h and ctrl0000system.h, ctrl2080/ctrl2080gpu.h. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "sim/rm.h"

enum {
	IDS_MAX = 32,
	NO_GPU = -1,		/* NV0000_CTRL_GPU_INVALID_ID */
	VERSION_TEXT = 256,
	ID_INFO_V2 = 0x205,	/* as ID_INFO without the pointer to a name */
};

static const char title[] = "NVIDIA UNIX Open Kernel Module (simulated)";

/* Strings by pointers; without pointers, how long they are. */
static uint32_t build_version(struct sim_control_call *call, void *params, uint32_t size)
{
	const char *text[] = { call->sim->version_text, call->sim->version_text, title };
	uint32_t room = get_u32(params, 0);

	for (int i = 0; i < 3; i++) {
		uint64_t address = get_u64(params, 8 + 8 * (size_t)i);
		size_t length = strlen(text[i]) + 1;

		if (address && length > room)
			return NV_ERR_INVALID_ARGUMENT;
		if (address && call->write(call, address, text[i], length) < 0)
			return NV_ERR_INVALID_ADDRESS;
	}
	put_u32(params, 0, sizeof(title));
	put_u32(params, 32, 0);
	put_u32(params, 36, 0);
	return NV_OK;
}

/* Three strings, four from 560 on, then two numbers. */
static uint32_t build_version_v2(struct sim_control_call *call, void *params, uint32_t size)
{
	uint32_t strings = (size - 8) / VERSION_TEXT;
	char *at = params;

	if (strings < 3 || strings > 4)
		return NV_ERR_INVALID_PARAM_STRUCT;
	memset(params, 0, size);
	snprintf(at, VERSION_TEXT, "%s", call->sim->version_text);
	snprintf(at + VERSION_TEXT, VERSION_TEXT, "%s", call->sim->version_text);
	if (strings == 4)
		snprintf(at + 2 * VERSION_TEXT, VERSION_TEXT, "r%u_00", call->sim->version.major);
	snprintf(at + (strings - 1) * VERSION_TEXT, VERSION_TEXT, "%s", title);
	return NV_OK;
}

/* All GPUs are attached from the start. */
static uint32_t gpu_ids(struct sim_control_call *call, void *params, uint32_t size)
{
	if (size < IDS_MAX * 4)
		return NV_ERR_INVALID_PARAM_STRUCT;
	for (uint32_t i = 0; i < size / 4; i++)
		put_u32(params, 4 * (size_t)i, i < call->sim->gpu_count ? call->sim->gpus[i].gpu_id : (uint32_t)NO_GPU);
	return NV_OK;
}

/* gpuIds, excludedGpuIds, and flags from 575 on. */
static uint32_t probed_ids(struct sim_control_call *call, void *params, uint32_t size)
{
	uint32_t status = gpu_ids(call, params, size);

	if (status == NV_OK && size >= 3 * IDS_MAX * 4)
		memset((uint8_t *)params + 2 * IDS_MAX * 4, 0, IDS_MAX * 4);
	return status;
}

/* A list that ends with an invalid id, or one word for all. */
static uint32_t attach_ids(struct sim_control_call *call, void *params, uint32_t size)
{
	if (size < IDS_MAX * 4)
		return NV_ERR_INVALID_PARAM_STRUCT;
	for (uint32_t i = 0; i < IDS_MAX; i++) {
		uint32_t id = get_u32(params, 4 * (size_t)i);

		if (id == (uint32_t)NO_GPU || (i == 0 && id == 0xffff))	/* NV0000_CTRL_GPU_ATTACH_ALL_PROBED_IDS */
			break;
		if (!sim_gpu_by_id(call->sim, id)) {
			if (size >= IDS_MAX * 4 + 4)
				put_u32(params, IDS_MAX * 4, id);
			return NV_ERR_INVALID_ARGUMENT;
		}
	}
	return NV_OK;
}

static uint32_t detach_ids(struct sim_control_call *call, void *params, uint32_t size)
{
	return NV_OK;
}

static uint32_t id_info(struct sim_control_call *call, void *params, uint32_t size)
{
	const struct sim_gpu *gpu = sim_gpu_by_id(call->sim, get_u32(params, 0));
	size_t at = call->command == ID_INFO_V2 ? 16 : 24;	/* behind the name's pointer */

	if (!gpu)
		return NV_ERR_INVALID_ARGUMENT;
	put_u32(params, 4, 1);			/* gpuFlags: in use */
	put_u32(params, 8, gpu->index);		/* deviceInstance */
	put_u32(params, 12, 0);			/* subDeviceInstance */
	put_u32(params, at, 0);			/* sliStatus */
	put_u32(params, at + 4, gpu->gpu_id);	/* boardId */
	put_u32(params, at + 8, gpu->index);	/* gpuInstance */
	put_u32(params, at + 12, (uint32_t)-1);	/* numaId: none */
	return NV_OK;
}

/* gpuId, domain, then bus and slot of two bytes each. */
static uint32_t pci_info(struct sim_control_call *call, void *params, uint32_t size)
{
	const struct sim_gpu *gpu = sim_gpu_by_id(call->sim, get_u32(params, 0));

	if (!gpu)
		return NV_ERR_INVALID_ARGUMENT;
	put_u32(params, 4, gpu->pci_domain);
	put_u32(params, 8, gpu->pci_slot << 16 | gpu->pci_bus);
	return NV_OK;
}

/* The UUID, as text or as its 16 bytes. */
static uint32_t gid_info(struct sim_control_call *call, void *params, uint32_t size)
{
	uint8_t *data = (uint8_t *)params + 12;

	if (!call->gpu)
		return NV_ERR_INVALID_OBJECT_HANDLE;
	if (get_u32(params, 0) != 0)
		return NV_ERR_INVALID_ARGUMENT;
	if (get_u32(params, 4) & 2) {	/* NV2080_GPU_CMD_GPU_GET_GID_FLAGS_FORMAT_BINARY */
		sim_uuid_bytes(call->gpu->uuid, data);
		put_u32(params, 8, 16);
	} else {
		snprintf((char *)data, 256, "%s", call->gpu->uuid);
		put_u32(params, 8, (uint32_t)strlen(call->gpu->uuid) + 1);
	}
	return NV_OK;
}

const struct sim_control sim_system_controls[] = {
	{ 0x101, 40, build_version, "SYSTEM_GET_BUILD_VERSION" },
	{ 0x13e, 0, build_version_v2, "SYSTEM_GET_BUILD_VERSION_V2" },
	{ 0x201, 0, gpu_ids, "GPU_GET_ATTACHED_IDS" },
	{ NV0000_CTRL_CMD_GPU_GET_ID_INFO, 40, id_info, "GPU_GET_ID_INFO" },
	{ ID_INFO_V2, 32, id_info, "GPU_GET_ID_INFO_V2" },
	{ 0x214, 0, probed_ids, "GPU_GET_PROBED_IDS" },
	{ 0x215, 0, attach_ids, "GPU_ATTACH_IDS" },
	{ 0x216, 0, detach_ids, "GPU_DETACH_IDS" },
	{ 0x21b, 12, pci_info, "GPU_GET_PCI_INFO" },
	{ 0x2080014a, 268, gid_info, "GPU_GET_GID_INFO" },
	{ 0, 0, NULL, NULL },
};
