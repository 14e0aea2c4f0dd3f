/* SPDX-License-Identifier: Apache-2.0 */
/* The controls that mean something to us. All others pass, unless they have bit 15 set: no control gives memory. */
#include "abi/tables.h"

#define CTRL "sdk/nvidia/inc/ctrl"

/* Commands with this bit go to the GPU's firmware unseen, without a check whose object it is. */
#define SIDE_DOOR 0x8000u

static const struct abi_row controls[] = {
	{ 0x00000b01, ABI_REFUSE, 0, "NV0000_CTRL_CMD_GPUACCT_SET_ACCOUNTING_STATE",
	  CTRL "0000: accounting of the whole GPU" },
	{ 0x00000b05, ABI_REFUSE, 0, "NV0000_CTRL_CMD_GPUACCT_CLEAR_ACCOUNTING_DATA",
	  CTRL "0000: accounting of the whole GPU" },
	{ 0x00003d05, ABI_EXPORT, 24, "NV0000_CTRL_CMD_OS_UNIX_EXPORT_OBJECT_TO_FD", CTRL "0000unix.h" },
	{ 0x00003d06, ABI_IMPORT, 20, "NV0000_CTRL_CMD_OS_UNIX_IMPORT_OBJECT_FROM_FD", CTRL "0000unix.h" },
	{ 0x00003d0b, ABI_EXPORT, 2128, "NV0000_CTRL_CMD_OS_UNIX_EXPORT_OBJECTS_TO_FD", CTRL "0000unix.h" },
	{ 0x00003d0c, ABI_IMPORT, 652, "NV0000_CTRL_CMD_OS_UNIX_IMPORT_OBJECTS_FROM_FD", CTRL "0000unix.h" },
	{ NV2080_CTRL_CMD_GPU_GET_PIDS, ABI_VIEW_PIDS, PIDS_SIZE, "NV2080_CTRL_CMD_GPU_GET_PIDS",
	  CTRL "2080gpu.h" },
	{ NV2080_CTRL_CMD_GPU_GET_PID_INFO, ABI_VIEW_PID_INFO, PID_INFO_SIZE, "NV2080_CTRL_CMD_GPU_GET_PID_INFO",
	  CTRL "2080gpu.h" },
	{ NV2080_CTRL_CMD_FIFO_DISABLE_CHANNELS, ABI_SCHED_DISABLE, DISABLE_SIZE,
	  "NV2080_CTRL_CMD_FIFO_DISABLE_CHANNELS", CTRL "2080fifo.h" },
	{ NV2080_CTRL_CMD_FB_GET_INFO, ABI_VIEW_FB_INFO_V1, FB_INFO_V1_SIZE, "NV2080_CTRL_CMD_FB_GET_INFO",
	  CTRL "2080fb.h" },
	{ NV2080_CTRL_CMD_FB_GET_INFO_V2, ABI_VIEW_FB_INFO_V2, 0, "NV2080_CTRL_CMD_FB_GET_INFO_V2",
	  CTRL "2080fb.h: size in the layout" },
	{ NV2080_CTRL_CMD_PERF_GET_GPUMON_PERFMON_UTIL_SAMPLES_V2, ABI_VIEW_UTIL_SAMPLES, 0,
	  "NV2080_CTRL_CMD_PERF_GET_GPUMON_PERFMON_UTIL_SAMPLES_V2", CTRL "2080perf.h: size in the layout" },
	{ NVA06C_CTRL_CMD_GPFIFO_SCHEDULE, ABI_SCHED_ENABLE, 0, "NVA06C_CTRL_CMD_GPFIFO_SCHEDULE",
	  CTRL "a06c.h: size in the layout" },
	{ NVA06C_CTRL_CMD_SET_TIMESLICE, ABI_SCHED_TIMESLICE, 8, "NVA06C_CTRL_CMD_SET_TIMESLICE", CTRL "a06c.h" },
};

const struct abi_row *abi_control_find(uint32_t command)
{
	return abi_row_find(controls, sizeof(controls) / sizeof(controls[0]), command);
}

const struct abi_row *abi_controls(size_t *ret_count)
{
	*ret_count = sizeof(controls) / sizeof(controls[0]);
	return controls;
}

bool abi_control_is_allowed(uint32_t command)
{
	const struct abi_row *row = abi_control_find(command);

	if (row)
		return row->effect != ABI_REFUSE;
	return !(command & SIDE_DOOR);
}
