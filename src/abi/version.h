/* SPDX-License-Identifier: Apache-2.0 */
/* Driver versions and the layouts that changed between them.
 *
 * The structures of the resource manager are stable but for a short list of changes, each at an exact release
 * (docs/supported-calls.md). A layout holds the numbers that differ; everything else is a constant in abi/calls.h. */
#ifndef FG_ABI_VERSION_H
#define FG_ABI_VERSION_H

#include <stdbool.h>
#include <stdint.h>

struct abi_version {
	uint16_t major;		/* 580 */
	uint16_t minor;		/* 159 */
	uint16_t patch;		/* 4; 0 where the version has two parts, such as 565.77 */
};

/* Sizes and offsets, in bytes, that depend on the driver version. A size of 0 means: this driver has no such call. */
struct abi_layout {
	/* NV_ESC_RM_ALLOC, both forms. First a field that is no size: 0 is no offset in abi_call.size_in_layout. */
	uint16_t alloc_short_status;	/* NVOS21 is 32 bytes at every version */
	uint16_t alloc_long_size;	/* 40 or 48 (NVOS64) */
	uint16_t alloc_long_flags;	/* offset of flags; 0 where this form has none */
	uint16_t alloc_long_status;
	uint16_t memory_alloc_size;	/* NV_MEMORY_ALLOCATION_PARAMS, class 0x40: 120 or 128 */
	uint16_t channel_alloc_size;	/* NV_CHANNEL_ALLOC_PARAMS: 304, 360, 368 or 376 */
	uint16_t channel_userd_memory;	/* offset of hUserdMemory[0] */
	uint16_t channel_userd_offset;	/* offset of userdOffset[0] */
	uint16_t channel_engine;	/* offset of engineType */
	uint16_t vaspace_alloc_size;	/* 48 or 56 */
	uint16_t root_alloc_size;	/* NV0000_ALLOC_PARAMETERS: 108 or 120 */
	uint16_t unmap_dma_size;	/* NVOS47: 40 or 48 */
	uint16_t map_dma_size;		/* NVOS46: 56 or 64 */
	uint16_t dmabuf_size;		/* NV_ESC_EXPORT_TO_DMABUF_FD: 2600 or 2608 */
	/* controls */
	uint16_t fb_info_v2_size;	/* 436, 444, 460 or 1028 */
	uint16_t gpfifo_schedule_size;	/* 2 or 3 */
	uint32_t util_samples_size;	/* NV2080 PERF_GET_GPUMON_PERFMON_UTIL_SAMPLES_V2 */
	uint16_t util_sample_size;	/* one element: 472, 704 or 776 */
	uint16_t util_sample_pid;	/* offset of gr.procId in an element: 132 or 144 */
	uint16_t util_sample_count;	/* elements: 72 or 100 */
	/* UVM: parameters are fixed-size copies, their size is not in the request */
	uint32_t uvm_map_external_size;	/* 1200 or 9264 */
	uint32_t uvm_map_external_client;	/* offset of hClient */
	uint32_t uvm_map_external_memory;	/* offset of hMemory */
	uint32_t uvm_map_external_status;
	uint32_t uvm_semaphore_pool_size;	/* 1184 or 9248 */
	uint16_t uvm_free_size;		/* 24 or 16 */
	uint16_t uvm_free_status;	/* 16 or 8 */
};

/* Read "580.159.04" or "565.77"; anything after the last number must be the end or white space.
 * Returns 0 or -EINVAL. */
int abi_version_parse(const char *text, struct abi_version *ret_version);

/* -1, 0 or 1, as strcmp. */
int abi_version_compare(struct abi_version a, struct abi_version b);

/* The layout of a driver version. Supported: 515.43.04 up to and with the 595 branch, and 610 to 620.
 * Returns 0, or -ENOTSUP for any other version (ret_layout is then untouched). */
int abi_layout_find(struct abi_version version, struct abi_layout *ret_layout);

/* What is supported, for the refusal: "515.43.04 to 595, 610 to 620". */
const char *abi_supported(void);

#endif
