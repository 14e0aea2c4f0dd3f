/* SPDX-License-Identifier: Apache-2.0 */
/* The controls that mean something to us. All others pass, unless they have bit 15 set: no control gives
 * memory. Refused are those that keep memory out of the ledger's sight, that reach channels of other clients,
 * and that change the GPU for everybody. */
#include "abi/tables.h"

#define CTRL "sdk/nvidia/inc/ctrl/ctrl"
/* Commands that the headers do not name. */
#define GENERATED "generated/g_subdevice_nvoc.c"
/* Seen in recorded calls of driver 580.159.04. */
#define RECORDED "recorded from "

/* Commands with this bit go to the GPU's firmware unseen, without a check whose object it is. */
#define SIDE_DOOR 0x8000u

static const struct abi_row controls[] = {
	{ 0x00000278, ABI_REFUSE, 0, "NV0000_CTRL_CMD_GPU_MODIFY_DRAIN_STATE",
	  CTRL "0000gpu.h: takes a GPU out of service" },
	{ 0x00000281, ABI_REFUSE, 0, "NV0000_CTRL_CMD_GPU_DISABLE_NVLINK_INIT",
	  CTRL "0000gpu.h: the links of a GPU" },
	{ 0x00000a02, ABI_REFUSE, 0, "NV0000_CTRL_CMD_SYNC_GPU_BOOST_GROUP_CREATE",
	  CTRL "0000syncgpuboost.h: clocks of GPUs" },
	{ 0x00000a03, ABI_REFUSE, 0, "NV0000_CTRL_CMD_SYNC_GPU_BOOST_GROUP_DESTROY",
	  CTRL "0000syncgpuboost.h: clocks of GPUs" },
	{ 0x00000b01, ABI_REFUSE, 0, "NV0000_CTRL_CMD_GPUACCT_SET_ACCOUNTING_STATE",
	  CTRL "0000gpuacct.h: accounting of the whole GPU" },
	{ 0x00000b05, ABI_REFUSE, 0, "NV0000_CTRL_CMD_GPUACCT_CLEAR_ACCOUNTING_DATA",
	  CTRL "0000gpuacct.h: accounting of the whole GPU" },
	{ 0x00003d05, ABI_EXPORT, 24, "NV0000_CTRL_CMD_OS_UNIX_EXPORT_OBJECT_TO_FD", CTRL "0000unix.h" },
	{ 0x00003d06, ABI_IMPORT, 20, "NV0000_CTRL_CMD_OS_UNIX_IMPORT_OBJECT_FROM_FD", CTRL "0000unix.h" },
	{ 0x00003d0b, ABI_EXPORT, 2128, "NV0000_CTRL_CMD_OS_UNIX_EXPORT_OBJECTS_TO_FD", CTRL "0000unix.h" },
	{ 0x00003d0c, ABI_IMPORT, 652, "NV0000_CTRL_CMD_OS_UNIX_IMPORT_OBJECTS_FROM_FD", CTRL "0000unix.h" },
	{ 0x00801705, ABI_REFUSE, 0, "NV0080_CTRL_CMD_FIFO_START_SELECTED_CHANNELS",
	  CTRL "0080fifo.h: names any client; to 560" },
	{ 0x0080170f, ABI_REFUSE, 0, "NV0080_CTRL_CMD_FIFO_SET_CHANNEL_PROPERTIES",
	  CTRL "0080fifo.h: time slices, in the old way" },
	{ 0x00801711, ABI_REFUSE, 0, "NV0080_CTRL_CMD_FIFO_STOP_RUNLIST",
	  CTRL "0080fifo.h: stops every tenant" },
	{ 0x00801712, ABI_REFUSE, 0, "NV0080_CTRL_CMD_FIFO_START_RUNLIST",
	  CTRL "0080fifo.h: starts every tenant" },
	{ 0x00801714, ABI_PASS, 0, "NV0080_CTRL_CMD_FIFO_IDLE_CHANNELS",
	  CTRL "0080fifo.h: the caller's own client only" },
	{ 0x00da0001, ABI_REFUSE, 0, "NV_SEMAPHORE_SURFACE_CTRL_CMD_REF_MEMORY",
	  CTRL "00da.h: gives new handles to the memory (sem_surf.c)" },
	{ 0x00e00101, ABI_REFUSE, 0, "NV00E0_CTRL_CMD_EXPORT_MEM",
	  CTRL "00e0.h: the export keeps the memory, for other hosts too" },
	{ 0x00e00102, ABI_REFUSE, 0, "NV00E0_CTRL_CMD_IMPORT_MEM", CTRL "00e0.h: memory of other hosts" },
	{ 0x00f80103, ABI_REFUSE, 0, "NV00F8_CTRL_CMD_ATTACH_MEM",
	  CTRL "00f8.h: the fabric keeps a list of memories" },
	{ 0x00fd0102, ABI_REFUSE, 0, "NV00FD_CTRL_CMD_ATTACH_MEM",
	  CTRL "00fd.h: keeps a dup to 560 (mem_multicast_fabric.c)" },
	{ 0x20800112, ABI_REFUSE, 0, "NV2080_CTRL_CMD_GPU_SET_POWER",
	  CTRL "2080gpu.h: power of the whole GPU" },
	{ 0x20800122, ABI_REFUSE, 0, "NV2080_CTRL_CMD_GPU_EXEC_REG_OPS",
	  CTRL "2080gpu.h: registers that all tenants share" },
	{ 0x2080016f, ABI_REFUSE, 0, "NV2080_CTRL_CMD_GPU_SET_FABRIC_BASE_ADDR",
	  CTRL "2080gpu.h: the fabric manager's" },
	{ 0x20800174, ABI_REFUSE, 0, "NV2080_CTRL_CMD_GPU_SET_PARTITIONS",
	  CTRL "2080gpu.h: MIG of the whole GPU" },
	{ 0x20800176, ABI_REFUSE, 0, "NV2080_CTRL_CMD_GPU_CONFIGURE_PARTITION",
	  CTRL "2080gpu.h: MIG of the whole GPU" },
	{ 0x20800183, ABI_REFUSE, 0, "NV2080_CTRL_CMD_GPU_SET_PARTITIONING_MODE",
	  CTRL "2080gpu.h: MIG of the whole GPU" },
	{ NV2080_CTRL_CMD_GPU_GET_PIDS, ABI_VIEW_PIDS, PIDS_SIZE, "NV2080_CTRL_CMD_GPU_GET_PIDS",
	  CTRL "2080gpu.h" },
	{ NV2080_CTRL_CMD_GPU_GET_PID_INFO, ABI_VIEW_PID_INFO, PID_INFO_SIZE,
	  "NV2080_CTRL_CMD_GPU_GET_PID_INFO",
	  CTRL "2080gpu.h" },
	{ 0x20800194, ABI_REFUSE, 0, "NV2080_CTRL_CMD_GPU_SET_COMPUTE_POLICY_CONFIG",
	  GENERATED ": time slices of the whole GPU" },
	{ 0x208001a9, ABI_REFUSE, 0, "NV2080_CTRL_CMD_GPU_MARK_DEVICE_FOR_RESET",
	  CTRL "2080gpu.h: takes the GPU out of service" },
	{ 0x208001aa, ABI_REFUSE, 0, "NV2080_CTRL_CMD_GPU_UNMARK_DEVICE_FOR_RESET",
	  CTRL "2080gpu.h: takes the GPU out of service" },
	{ 0x208001ac, ABI_REFUSE, 0, "NV2080_CTRL_CMD_GPU_MARK_DEVICE_FOR_DRAIN_AND_RESET",
	  CTRL "2080gpu.h: takes the GPU out of service" },
	{ 0x208001ad, ABI_REFUSE, 0, "NV2080_CTRL_CMD_GPU_UNMARK_DEVICE_FOR_DRAIN_AND_RESET",
	  CTRL "2080gpu.h: takes the GPU out of service" },
	{ 0x20800602, ABI_REFUSE, 0, "NV2080_CTRL_CMD_I2C_WRITE_BUFFER",
	  CTRL "2080i2c.h: the board's buses" },
	{ 0x20800604, ABI_REFUSE, 0, "NV2080_CTRL_CMD_I2C_WRITE_REG", CTRL "2080i2c.h: the board's buses" },
	{ 0x20801102, ABI_REFUSE, 0, "NV2080_CTRL_CMD_SET_GPFIFO", CTRL "2080fifo.h: moves a ring" },
	{ 0x2080110a, ABI_REFUSE, 0, "NV2080_CTRL_CMD_FIFO_CHANNEL_PREEMPTIVE_REMOVAL",
	  CTRL "2080fifo.h: names any channel" },
	{ NV2080_CTRL_CMD_FIFO_DISABLE_CHANNELS, ABI_SCHED_DISABLE, DISABLE_SIZE,
	  "NV2080_CTRL_CMD_FIFO_DISABLE_CHANNELS",
	  CTRL "2080fifo.h" },
	{ 0x2080110c, ABI_REFUSE, 0, "NV2080_CTRL_CMD_FIFO_GET_CHANNEL_MEM_INFO",
	  CTRL "2080fifo.h: names any channel" },
	{ 0x20801115, ABI_REFUSE, 0, "NV2080_CTRL_CMD_FIFO_RUNLIST_SET_SCHED_POLICY",
	  CTRL "2080fifo.h: the order of all tenants" },
	{ 0x20801116, ABI_REFUSE, 0, "NV2080_CTRL_CMD_FIFO_UPDATE_CHANNEL_INFO",
	  CTRL "2080fifo.h: names any client" },
	{ 0x20801117, ABI_REFUSE, 0, "NV2080_CTRL_CMD_FIFO_DISABLE_USERMODE_CHANNELS",
	  CTRL "2080fifo.h: stops every tenant" },
	{ 0x20801118, ABI_REFUSE, 0, "NV2080_CTRL_CMD_FIFO_SETUP_VF_ZOMBIE_SUBCTX_PDB",
	  CTRL "2080fifo.h: vGPU hosts" },
	{ 0x20801119, ABI_REFUSE, 0, "NV2080_CTRL_CMD_FIFO_GET_ALLOCATED_CHANNELS",
	  CTRL "2080fifo.h: channels of all tenants" },
	{ 0x2080111a, ABI_REFUSE, 0, "NV2080_CTRL_CMD_FIFO_DISABLE_CHANNELS_FOR_KEY_ROTATION",
	  CTRL "2080fifo.h: names any client" },
	{ 0x2080111b, ABI_REFUSE, 0, "NV2080_CTRL_CMD_FIFO_DISABLE_CHANNELS_FOR_KEY_ROTATION_V2",
	  CTRL "2080fifo.h: names any client" },
	{ 0x20801121, ABI_REFUSE, 0, "NV2080_CTRL_CMD_FIFO_OBJSCHED_SET_STATE",
	  CTRL "2080fifo.h: the scheduler of vGPUs" },
	{ 0x20801123, ABI_REFUSE, 0, "NV2080_CTRL_CMD_FIFO_GET_CHANNEL_GROUP_UNIQUE_ID_INFO",
	  CTRL "2080fifo.h: hClient is not validated; only profilers ask" },
	{ 0x20801124, ABI_REFUSE, 0, "NV2080_CTRL_CMD_FIFO_QUERY_CHANNEL_UNIQUE_ID",
	  CTRL "2080fifo.h: channels of all tenants" },
	{ NV2080_CTRL_CMD_FB_GET_INFO, ABI_VIEW_FB_INFO_V1, FB_INFO_V1_SIZE, "NV2080_CTRL_CMD_FB_GET_INFO",
	  CTRL "2080fb.h: converted to V2 by the driver from 550 on" },
	{ NV2080_CTRL_CMD_FB_GET_INFO_V2, ABI_VIEW_FB_INFO_V2, 0, "NV2080_CTRL_CMD_FB_GET_INFO_V2",
	  CTRL "2080fb.h: size in the layout" },
	{ 0x2080205b, ABI_REFUSE, 0, "NV2080_CTRL_CMD_PERF_SET_POWERSTATE",
	  CTRL "2080perf.h: power of the whole GPU" },
	{ 0x20802092, ABI_REFUSE, 0, "NV2080_CTRL_CMD_PERF_SET_AUX_POWER_STATE",
	  CTRL "2080perf.h: power of the whole GPU" },
	{ NV2080_CTRL_CMD_PERF_GET_GPUMON_PERFMON_UTIL_SAMPLES_V2, ABI_VIEW_UTIL_SAMPLES, 0,
	  "NV2080_CTRL_CMD_PERF_GET_GPUMON_PERFMON_UTIL_SAMPLES_V2",
	  CTRL "2080perf.h: size in the layout" },
	{ 0x20803a01, ABI_REFUSE, 0, "NV2080_CTRL_CMD_DMABUF_EXPORT_OBJECTS_TO_FD",
	  CTRL "2080dmabuf.h: the dma-buf keeps the memory" },
	{ 0x20808159, ABI_PASS, 0, "unnamed, interface gpu", RECORDED "libcuda" },
	{ 0x20808162, ABI_PASS, 0, "unnamed, interface gpu", RECORDED "libcuda" },
	{ 0x2080852e, ABI_PASS, 0, "unnamed, interface thermal", RECORDED "nvidia-smi" },
	{ 0x2080852f, ABI_PASS, 0, "unnamed, interface thermal", RECORDED "nvidia-smi" },
	{ 0x20809009, ABI_PASS, 0, "unnamed, interface clk", RECORDED "nvidia-smi" },
	{ 0x20809038, ABI_PASS, 0, "unnamed, interface clk", RECORDED "libcuda" },
	{ 0x20809064, ABI_PASS, 0, "unnamed, interface clk", RECORDED "nvidia-smi" },
	{ 0x2080a083, ABI_REFUSE, 0, "NV2080_CTRL_CMD_PERF_GET_GPUMON_PERFMON_UTIL_SAMPLES",
	  GENERATED ": all tenants' processes; V2 tells the same" },
	{ 0x2080a612, ABI_PASS, 0, "unnamed, interface pmgr", RECORDED "nvidia-smi" },
	{ 0x2080a618, ABI_PASS, 0, "unnamed, interface pmgr", RECORDED "nvidia-smi" },
	{ NVA06C_CTRL_CMD_GPFIFO_SCHEDULE, ABI_SCHED_ENABLE, 0, "NVA06C_CTRL_CMD_GPFIFO_SCHEDULE",
	  CTRL "a06c.h: size in the layout" },
	{ NVA06C_CTRL_CMD_SET_TIMESLICE, ABI_SCHED_TIMESLICE, 8, "NVA06C_CTRL_CMD_SET_TIMESLICE",
	  CTRL "a06c.h" },
	{ 0xa06c0105, ABI_PASS, 0, "NVA06C_CTRL_CMD_PREEMPT", CTRL "a06c.h: the caller's own group" },
	{ 0xa06c0107, ABI_REFUSE, 0, "NVA06C_CTRL_CMD_SET_INTERLEAVE_LEVEL",
	  CTRL "a06c.h: a place before other tenants" },
	{ 0xa06c0110, ABI_REFUSE, 0, "NVA06C_CTRL_CMD_MAKE_REALTIME",
	  CTRL "a06c.h: a place before other tenants" },
	{ 0xa06f0103, ABI_SCHED_ENABLE, 0, "NVA06F_CTRL_CMD_GPFIFO_SCHEDULE",
	  CTRL "a06fgpfifo.h: size in the layout" },
	{ 0xa06f0109, ABI_REFUSE, 0, "NVA06F_CTRL_CMD_SET_INTERLEAVE_LEVEL",
	  CTRL "a06fgpfifo.h: a place before other tenants" },
	{ 0xa06f0111, ABI_REFUSE, 0, "NVA06F_CTRL_CMD_RESTART_RUNLIST",
	  CTRL "a06fgpfifo.h: the order of all tenants" },
	{ 0xa06f0112, ABI_REFUSE, 0, "NVA06F_CTRL_CMD_STOP_CHANNEL",
	  CTRL "a06fgpfifo.h: for good, and posts an error" },
	{ 0xc56f010b, ABI_REFUSE, 0, "NVC56F_CTRL_CMD_GET_KMB",
	  CTRL "c56f.h: confidential computing; dups hMemory unseen (kernel_channel.c)" },
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
