/* SPDX-License-Identifier: Apache-2.0 */
/* The resource manager's system calls, and the lookups in all four tables. */
#include "abi/calls.h"

#include "abi/tables.h"
#include "base/bytes.h"

/* The device each call is accepted on: NV_CTL_DEVICE_ONLY and NV_ACTUAL_DEVICE_ONLY in the sources named. */
#define CTL .on_ctl = true
#define GPU .on_gpu = true
#define BOTH .on_ctl = true, .on_gpu = true
#define IN_LAYOUT(field) .size_in_layout = offsetof(struct abi_layout, field)

#define ESCAPE "nvalloc/unix/src/escape.c"
#define OSAPI "nvalloc/unix/src/osapi.c"
#define NV_C "kernel-open/nvidia/nv.c"

/* A size_in_layout of 0 says that there is none. */
_Static_assert(offsetof(struct abi_layout, alloc_long_size) != 0, "the first field of a layout is no size");

static const struct abi_call calls[] = {
	{ NV_ESC_RM_ALLOC_MEMORY, GPU, .effect = ABI_ALLOC_MEMORY, .size = 56,
	  .name = "NV_ESC_RM_ALLOC_MEMORY", .source = ESCAPE },
	{ NV_ESC_RM_ALLOC_OBJECT, CTL, .effect = ABI_REFUSE, .size = 20, .name = "NV_ESC_RM_ALLOC_OBJECT",
	  .source = ESCAPE ": an old form of RM_ALLOC that nobody uses" },
	{ NV_ESC_RM_FREE, CTL, .effect = ABI_RM_FREE, .size = FREE_SIZE, .name = "NV_ESC_RM_FREE",
	  .source = ESCAPE },
	{ NV_ESC_RM_CONTROL, CTL, .effect = ABI_RM_CONTROL, .size = CONTROL_SIZE, .name = "NV_ESC_RM_CONTROL",
	  .source = ESCAPE },
	/* On a GPU's own file the driver takes event classes only. */
	{ NV_ESC_RM_ALLOC, BOTH, .effect = ABI_RM_ALLOC, .size = ALLOC_SHORT_SIZE,
	  .name = "NV_ESC_RM_ALLOC (NVOS21)", .source = ESCAPE },
	{ NV_ESC_RM_ALLOC, BOTH, .effect = ABI_RM_ALLOC, IN_LAYOUT(alloc_long_size),
	  .name = "NV_ESC_RM_ALLOC (NVOS64)", .source = ESCAPE },
	{ NV_ESC_RM_DUP_OBJECT, CTL, .effect = ABI_RM_DUP, .size = DUP_SIZE, .name = "NV_ESC_RM_DUP_OBJECT",
	  .source = ESCAPE },
	{ NV_ESC_RM_SHARE, CTL, .effect = ABI_PASS, .size = 24, .name = "NV_ESC_RM_SHARE",
	  .source = ESCAPE ": gives a right to dup; the dup is what counts" },
	{ 0x39, GPU, .effect = ABI_REFUSE, .size = 32, .name = "NV_ESC_RM_I2C_ACCESS",
	  .source = ESCAPE ": writes to the board's buses" },
	{ NV_ESC_RM_IDLE_CHANNELS, CTL, .effect = ABI_PASS, .size = 56, .name = "NV_ESC_RM_IDLE_CHANNELS",
	  .source = ESCAPE ": channels of the caller's own client" },
	{ NV_ESC_RM_VID_HEAP_CONTROL, CTL, .effect = ABI_VID_HEAP, .size = HEAP_SIZE,
	  .name = "NV_ESC_RM_VID_HEAP_CONTROL", .source = ESCAPE },
	{ 0x4d, CTL, .effect = ABI_REFUSE, .size = 72, .name = "NV_ESC_RM_ACCESS_REGISTRY",
	  .source = ESCAPE ": reads and writes the driver's settings" },
	{ NV_ESC_RM_MAP_MEMORY, CTL, .effect = ABI_PASS, .size = 56, .name = "NV_ESC_RM_MAP_MEMORY",
	  .source = ESCAPE },
	{ NV_ESC_RM_UNMAP_MEMORY, CTL, .effect = ABI_PASS, .size = 32, .name = "NV_ESC_RM_UNMAP_MEMORY",
	  .source = ESCAPE },
	{ 0x52, BOTH, .effect = ABI_PASS, .size = 16, .name = "NV_ESC_RM_GET_EVENT_DATA", .source = OSAPI },
	{ 0x54, CTL, .effect = ABI_PASS, .size = 56, .name = "NV_ESC_RM_ALLOC_CONTEXT_DMA2",
	  .source = ESCAPE ": dies with the memory it names (mem_mgr/context_dma.c)" },
	{ 0x57, CTL, .effect = ABI_PASS, IN_LAYOUT(map_dma_size), .name = "NV_ESC_RM_MAP_MEMORY_DMA",
	  .source = ESCAPE ": a mapping dies with its memory" },
	{ 0x58, CTL, .effect = ABI_PASS, IN_LAYOUT(unmap_dma_size), .name = "NV_ESC_RM_UNMAP_MEMORY_DMA",
	  .source = ESCAPE },
	{ 0x59, CTL, .effect = ABI_PASS, .size = 16, .name = "NV_ESC_RM_BIND_CONTEXT_DMA", .source = ESCAPE },
	{ 0x5c, CTL, .effect = ABI_REFUSE, .name = "NV_ESC_RM_EXPORT_OBJECT_TO_FD",
	  .source = "nv_escape.h: named there, served by no release" },
	{ 0x5d, CTL, .effect = ABI_REFUSE, .name = "NV_ESC_RM_IMPORT_OBJECT_FROM_FD",
	  .source = "nv_escape.h: named there, served by no release" },
	{ 0x5e, CTL, .effect = ABI_PASS, .size = 40, .name = "NV_ESC_RM_UPDATE_DEVICE_MAPPING_INFO",
	  .source = ESCAPE },
	{ 0x5f, CTL, .effect = ABI_REFUSE, .name = "NV_ESC_RM_LOCKLESS_DIAGNOSTIC",
	  .source = ESCAPE ": the driver's log, administrators only; 545 and later" },
	{ NV_ESC_CARD_INFO, CTL, .effect = ABI_PASS, .name = "NV_ESC_CARD_INFO",
	  .source = NV_C ": an array, one entry a GPU" },
	{ NV_ESC_REGISTER_FD, BOTH, .effect = ABI_PASS, .size = 4, .name = "NV_ESC_REGISTER_FD", .source = ESCAPE },
	{ 0xce, BOTH, .effect = ABI_PASS, .size = 16, .name = "NV_ESC_ALLOC_OS_EVENT", .source = OSAPI },
	{ 0xcf, BOTH, .effect = ABI_PASS, .size = 16, .name = "NV_ESC_FREE_OS_EVENT", .source = OSAPI },
	{ 0xd1, CTL, .effect = ABI_PASS, .size = 12, .name = "NV_ESC_STATUS_CODE", .source = ESCAPE },
	{ NV_ESC_CHECK_VERSION_STR, CTL, .effect = ABI_PASS, .size = 72, .name = "NV_ESC_CHECK_VERSION_STR",
	  .source = NV_C },
	{ NV_ESC_IOCTL_XFER_CMD, BOTH, .effect = ABI_REFUSE, .size = 16, .name = "NV_ESC_IOCTL_XFER_CMD",
	  .source = NV_C ": carries any other call; only for those larger than an ioctl, and there is none" },
	{ NV_ESC_ATTACH_GPUS_TO_FD, CTL, .effect = ABI_PASS, .name = "NV_ESC_ATTACH_GPUS_TO_FD",
	  .source = NV_C ": an array, one number a GPU" },
	{ 0xd5, GPU, .effect = ABI_PASS, .size = 8, .name = "NV_ESC_QUERY_DEVICE_INTR", .source = NV_C },
	{ NV_ESC_SYS_PARAMS, CTL, .effect = ABI_PASS, .size = 8, .name = "NV_ESC_SYS_PARAMS", .source = NV_C },
	{ 0xd7, GPU, .effect = ABI_PASS, .size = 552, .name = "NV_ESC_NUMA_INFO (to 530)", .source = NV_C },
	{ 0xd7, GPU, .effect = ABI_PASS, .size = 560, .name = "NV_ESC_NUMA_INFO (from 535)", .source = NV_C },
	{ 0xd8, GPU, .effect = ABI_REFUSE, .size = 4, .name = "NV_ESC_SET_NUMA_STATUS",
	  .source = NV_C ": takes the GPU's memory away from everyone" },
	{ NV_ESC_EXPORT_TO_DMABUF_FD, GPU, .effect = ABI_REFUSE, IN_LAYOUT(dmabuf_size),
	  .name = "NV_ESC_EXPORT_TO_DMABUF_FD",
	  .source = NV_C ": the dma-buf keeps the memory, out of our sight" },
	{ 0xda, BOTH, .effect = ABI_PASS, .size = 8, .name = "NV_ESC_WAIT_OPEN_COMPLETE",
	  .source = NV_C ": 550 and later" },
};

static bool is_size(const struct abi_call *call, const struct abi_layout *layout, uint32_t size)
{
	if (call->size_in_layout)
		return size == get_u16(layout, call->size_in_layout);
	return !call->size || size == call->size;
}

const struct abi_call *abi_call_find(const struct abi_layout *layout, enum abi_device device,
				     uint32_t request)
{
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		const struct abi_call *call = &calls[i];

		if (call->nr != abi_request_nr(request))
			continue;
		if (!(device == ABI_DEV_CTL && call->on_ctl) && !(device == ABI_DEV_GPU && call->on_gpu))
			continue;
		if (is_size(call, layout, abi_request_size(request)))
			return call;
	}
	return NULL;
}

const struct abi_call *abi_calls(size_t *ret_count)
{
	*ret_count = sizeof(calls) / sizeof(calls[0]);
	return calls;
}

const struct abi_row *abi_row_find(const struct abi_row *rows, size_t count, uint32_t number)
{
	size_t low = 0;

	while (low < count) {
		size_t middle = low + (count - low) / 2;

		if (rows[middle].number == number)
			return &rows[middle];
		if (rows[middle].number < number)
			low = middle + 1;
		else
			count = middle;
	}
	return NULL;
}
