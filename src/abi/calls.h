/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's interface as tables: one row a system call number, a control, a class, a UVM call.
 *
 * The decoder, the seccomp filter, the simulator, the fuzz seeds and docs/supported-calls.md all come from these
 * rows. Names keep the driver's spelling. Sources: NVIDIA open-gpu-kernel-modules, 515.43.04 to 595.45.04. */
#ifndef FG_ABI_CALLS_H
#define FG_ABI_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi/version.h"

/* What kind of device file a call was made on. */
enum abi_device {
	ABI_DEV_NONE,		/* no NVIDIA device: not ours */
	ABI_DEV_CTL,		/* /dev/nvidiactl, character 195:255 */
	ABI_DEV_GPU,		/* /dev/nvidiaN, character 195:N */
	ABI_DEV_UVM,		/* /dev/nvidia-uvm, minor 0 of its own major */
	ABI_DEV_UVM_TOOLS,	/* /dev/nvidia-uvm-tools, minor 1 of that major */
	ABI_DEV_MODESET,	/* /dev/nvidia-modeset, character 195:254 */
};

/* nvidia_ioctl() looks at these two parts of a request alone: type and direction are never checked. */
static inline uint32_t abi_request_nr(uint32_t request)
{
	return request & 0xff;
}

static inline uint32_t abi_request_size(uint32_t request)
{
	return request >> 16 & 0x3fff;
}

/* A request as the driver's headers make it: _IOWR('F', nr, size). */
static inline uint32_t abi_request(uint32_t nr, uint32_t size)
{
	return 3u << 30 | size << 16 | (uint32_t)'F' << 8 | nr;
}

/* Numbers of the resource manager's system calls (arch/nvalloc/unix/include/nv_escape.h, nv-ioctl-numbers.h). */
enum {
	NV_ESC_RM_ALLOC_MEMORY = 0x27,
	NV_ESC_RM_ALLOC_OBJECT = 0x28,
	NV_ESC_RM_FREE = 0x29,
	NV_ESC_RM_CONTROL = 0x2a,
	NV_ESC_RM_ALLOC = 0x2b,
	NV_ESC_RM_DUP_OBJECT = 0x34,
	NV_ESC_RM_SHARE = 0x35,
	NV_ESC_RM_IDLE_CHANNELS = 0x41,
	NV_ESC_RM_VID_HEAP_CONTROL = 0x4a,
	NV_ESC_RM_MAP_MEMORY = 0x4e,
	NV_ESC_RM_UNMAP_MEMORY = 0x4f,
	NV_ESC_CARD_INFO = 0xc8,
	NV_ESC_REGISTER_FD = 0xc9,
	NV_ESC_CHECK_VERSION_STR = 0xd2,
	NV_ESC_IOCTL_XFER_CMD = 0xd3,
	NV_ESC_ATTACH_GPUS_TO_FD = 0xd4,
	NV_ESC_SYS_PARAMS = 0xd6,
	NV_ESC_EXPORT_TO_DMABUF_FD = 0xd9,
};

/* Whole requests of /dev/nvidia-uvm (kernel-open/nvidia-uvm/uvm_ioctl.h, uvm_linux_ioctl.h). */
enum {
	UVM_REGISTER_CHANNEL = 0x1b,
	UVM_MAP_EXTERNAL_ALLOCATION = 0x21,
	UVM_FREE = 0x22,
	UVM_REGISTER_GPU = 0x25,
	UVM_PAGEABLE_MEM_ACCESS = 0x27,
	UVM_UNMAP_EXTERNAL = 0x42,
	UVM_ALLOC_SEMAPHORE_POOL = 0x44,
	UVM_CREATE_EXTERNAL_RANGE = 0x49,
	UVM_MM_INITIALIZE = 0x4b,
	UVM_ALLOC_DEVICE_P2P = 0x4e,
	UVM_INITIALIZE = 0x30000001,
	UVM_DEINITIALIZE = 0x30000002,
};

/* Status words (nvstatuscodes.h; the same at every version). */
enum {
	NV_OK = 0x00,
	NV_ERR_INSUFFICIENT_RESOURCES = 0x1a,
	NV_ERR_INSUFFICIENT_PERMISSIONS = 0x1b,
	NV_ERR_INVALID_ARGUMENT = 0x1f,
	NV_ERR_INVALID_CLASS = 0x22,
	NV_ERR_INVALID_CLIENT = 0x23,
	NV_ERR_INVALID_COMMAND = 0x24,
	NV_ERR_INVALID_FLAGS = 0x29,
	NV_ERR_INVALID_OBJECT_HANDLE = 0x33,
	NV_ERR_INVALID_OBJECT_PARENT = 0x36,
	NV_ERR_INVALID_PARAM_STRUCT = 0x3a,
	NV_ERR_INVALID_STATE = 0x40,
	NV_ERR_NO_MEMORY = 0x51,
	NV_ERR_NOT_SUPPORTED = 0x56,
	NV_ERR_OBJECT_NOT_FOUND = 0x57,
};

/* What a call means to us. */
enum abi_effect {
	ABI_PASS,		/* nothing to us: runs as it is */
	ABI_REFUSE,		/* never for a tenant */
	/* RM system calls */
	ABI_RM_ALLOC,
	ABI_RM_FREE,
	ABI_RM_CONTROL,
	ABI_RM_DUP,
	ABI_VID_HEAP,
	ABI_ALLOC_MEMORY,
	/* classes */
	ABI_CLASS_CLIENT,	/* 0x41, 0x0: a client; made in the tenant, since the driver notes who made it */
	ABI_CLASS_DEVICE,	/* 0x80 */
	ABI_CLASS_SUBDEVICE,	/* 0x2080 */
	ABI_CLASS_VIDMEM,	/* 0x40: the bytes */
	ABI_CLASS_REFERENCE,	/* takes no memory of its own but keeps some: treated as a dup */
	ABI_CLASS_GROUP,	/* 0xa06c: a channel group (TSG) */
	ABI_CLASS_CHANNEL,	/* *6f */
	/* controls */
	ABI_VIEW_FB_INFO_V1,
	ABI_VIEW_FB_INFO_V2,
	ABI_VIEW_PIDS,
	ABI_VIEW_PID_INFO,
	ABI_VIEW_UTIL_SAMPLES,
	ABI_SCHED_DISABLE,	/* FIFO_DISABLE_CHANNELS */
	ABI_SCHED_ENABLE,	/* GPFIFO_SCHEDULE of a group or a channel */
	ABI_SCHED_TIMESLICE,
	ABI_EXPORT,		/* memory to a descriptor: the descriptor keeps it */
	ABI_IMPORT,		/* memory from a descriptor */
	/* UVM */
	ABI_UVM_INITIALIZE,
	ABI_UVM_MAP_EXTERNAL,
	ABI_UVM_UNMAP_EXTERNAL,
	ABI_UVM_FREE,
};

/* One RM system call. A number may stand in several rows, one a size. */
struct abi_call {
	uint8_t nr;
	bool on_ctl;		/* accepted on /dev/nvidiactl */
	bool on_gpu;		/* accepted on /dev/nvidiaN */
	enum abi_effect effect;
	uint16_t size;		/* bytes; 0: any size (arrays) or one from the layout, see size_in_layout */
	uint16_t size_in_layout;	/* offset of a uint16_t in struct abi_layout, or 0 */
	const char *name;
	const char *source;
};

/* One class of RM_ALLOC, one control command, one UVM request. */
struct abi_row {
	uint32_t number;
	enum abi_effect effect;
	uint32_t size;		/* of its parameters, bytes; 0: not needed, or from the layout */
	const char *name;
	const char *source;
};

/* The row for a request on a device, NULL when there is none: unknown, to be refused. */
const struct abi_call *abi_call_find(const struct abi_layout *layout, enum abi_device device, uint32_t request);

/* The row of a class, a control, a UVM request; NULL when there is none. Unknown classes and UVM requests are to be
 * refused. Unknown controls pass (none of them gives memory). Of the commands with bit 15 set ("legacy GSS", forwarded to
 * firmware unseen; NVML and libcuda use different ones at each release) those with bit 14 set too, which need
 * CAP_SYS_ADMIN, pass only where a row names them. */
const struct abi_row *abi_class_find(uint32_t class_id);

/* Bytes of the parameters that a class is allocated with; 0: not known. */
size_t abi_class_params_size(const struct abi_row *row, const struct abi_layout *layout);

const struct abi_row *abi_control_find(uint32_t command);
const struct abi_row *abi_uvm_find(uint32_t request);

/* Whole tables, for the filter, the simulator, the fuzzers and the documents. */
const struct abi_call *abi_calls(size_t *ret_count);
const struct abi_row *abi_classes(size_t *ret_count);
const struct abi_row *abi_controls(size_t *ret_count);
const struct abi_row *abi_uvm_calls(size_t *ret_count);

/* Whether a control command may be used by a tenant at all: has a row that is not ABI_REFUSE, or has no row and is
 * not of the privileged half of the legacy commands (bits 15 and 14). */
bool abi_control_is_allowed(uint32_t command);

/* Fixed layouts (the same at every version): offset of a field, size of the structure. */
enum {
	/* NVOS00, NV_ESC_RM_FREE */
	FREE_SIZE = 16, FREE_ROOT = 0, FREE_PARENT = 4, FREE_OBJECT = 8, FREE_STATUS = 12,
	/* NVOS21 and NVOS64, NV_ESC_RM_ALLOC; what moves is in struct abi_layout */
	ALLOC_SHORT_SIZE = 32, ALLOC_LONG_MAX = 48,
	ALLOC_ROOT = 0, ALLOC_PARENT = 4, ALLOC_OBJECT = 8, ALLOC_CLASS = 12, ALLOC_PARAMS = 16,
	/* NVOS54, NV_ESC_RM_CONTROL */
	CONTROL_SIZE = 32, CONTROL_CLIENT = 0, CONTROL_OBJECT = 4, CONTROL_COMMAND = 8, CONTROL_FLAGS = 12,
	CONTROL_PARAMS = 16, CONTROL_PARAMS_SIZE = 24, CONTROL_STATUS = 28,
	/* NVOS55, NV_ESC_RM_DUP_OBJECT */
	DUP_SIZE = 28, DUP_CLIENT = 0, DUP_PARENT = 4, DUP_OBJECT = 8, DUP_CLIENT_SRC = 12, DUP_OBJECT_SRC = 16,
	DUP_FLAGS = 20, DUP_STATUS = 24,
	/* NVOS32, NV_ESC_RM_VID_HEAP_CONTROL */
	HEAP_SIZE = 184, HEAP_ROOT = 0, HEAP_PARENT = 4, HEAP_FUNCTION = 8, HEAP_STATUS = 20, HEAP_TOTAL = 24,
	HEAP_FREE = 32, HEAP_MEMORY = 44, HEAP_FLAGS = 52, HEAP_ATTR = 56, HEAP_BYTES = 88,
	HEAP_FUNCTION_ALLOC_SIZE = 2, HEAP_FUNCTION_FREE = 3, HEAP_FUNCTION_INFO = 5,
	HEAP_FUNCTION_ALLOC_TILED = 6, HEAP_FUNCTION_ALLOC_RANGE = 14, HEAP_FUNCTION_HW_FREE = 20,
	/* NV_MEMORY_ALLOCATION_PARAMS, class 0x40 */
	MEMORY_OWNER = 0, MEMORY_TYPE = 4, MEMORY_FLAGS = 8, MEMORY_ATTR = 24, MEMORY_ATTR2 = 28, MEMORY_BYTES = 64,
	/* NV0080 and NV2080 allocation parameters */
	DEVICE_ALLOC_SIZE = 56, DEVICE_ALLOC_DEVICE_ID = 0, SUBDEVICE_ALLOC_SIZE = 4,
	GROUP_ALLOC_SIZE = 20, GROUP_ALLOC_ENGINE = 12,
	/* NV2080_CTRL_FB_INFO lists: count, then (index, KiB) pairs; V1 points to the list */
	FB_INFO_COUNT = 0, FB_INFO_V2_LIST = 4, FB_INFO_ENTRY = 8, FB_INFO_V1_SIZE = 16, FB_INFO_V1_POINTER = 8,
	/* NV2080_CTRL_GPU_GET_PIDS: idType, id, pidTblCount, pidTbl[950] */
	PIDS_SIZE = 3812, PIDS_COUNT = 8, PIDS_TABLE = 12, PIDS_MAX = 950,
	/* NV2080_CTRL_GPU_GET_PID_INFO: count, then elements */
	PID_INFO_SIZE = 14408, PID_INFO_COUNT = 0, PID_INFO_LIST = 8, PID_INFO_ENTRY = 72, PID_INFO_MAX = 200,
	PID_INFO_PID = 0,
	/* NV2080_CTRL_FIFO_DISABLE_CHANNELS */
	DISABLE_SIZE = 536, DISABLE_DISABLE = 0, DISABLE_COUNT = 4, DISABLE_ONLY = 8, DISABLE_REWIND = 9,
	DISABLE_EVENT = 16, DISABLE_CLIENTS = 24, DISABLE_CHANNELS = 280, DISABLE_MAX = 64,
	/* UVM */
	UVM_INITIALIZE_SIZE = 16, UVM_INITIALIZE_FLAGS = 0, UVM_INITIALIZE_STATUS = 8, UVM_INIT_FLAGS_DISABLE_HMM = 1,
	UVM_UNMAP_EXTERNAL_SIZE = 40, UVM_RANGE_BASE = 0, UVM_RANGE_LENGTH = 8,
};

/* Controls we name in code. */
enum {
	NV0000_CTRL_CMD_GPU_GET_ID_INFO = 0x202,
	NV2080_CTRL_CMD_FB_GET_INFO = 0x20801301,
	NV2080_CTRL_CMD_FB_GET_INFO_V2 = 0x20801303,
	NV2080_CTRL_CMD_GPU_GET_PIDS = 0x2080018d,
	NV2080_CTRL_CMD_GPU_GET_PID_INFO = 0x2080018e,
	NV2080_CTRL_CMD_PERF_GET_GPUMON_PERFMON_UTIL_SAMPLES_V2 = 0x20802096,
	NV2080_CTRL_CMD_FIFO_DISABLE_CHANNELS = 0x2080110b,
	NVA06C_CTRL_CMD_GPFIFO_SCHEDULE = 0xa06c0101,
	NVA06C_CTRL_CMD_SET_TIMESLICE = 0xa06c0103,
};

/* Indices of NV2080_CTRL_FB_INFO (ctrl2080fb.h); data in KiB. */
enum {
	FB_INFO_INDEX_RAM_SIZE = 0x07,
	FB_INFO_INDEX_TOTAL_RAM_SIZE = 0x08,
	FB_INFO_INDEX_HEAP_SIZE = 0x09,
	FB_INFO_INDEX_MAPPABLE_HEAP_SIZE = 0x0a,
	FB_INFO_INDEX_FB_TAX_SIZE = 0x10,
	FB_INFO_INDEX_HEAP_BASE_LARGEST_FREE = 0x12,
	FB_INFO_INDEX_HEAP_FREE = 0x16,
	FB_INFO_INDEX_USABLE_RAM_SIZE = 0x20,
	FB_INFO_INDEX_HEAP_OFFLINE_SIZE = 0x27,
};

#endif
