/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of /dev/nvidia-uvm and /dev/nvidia-uvm-tools. What has no row is refused: calls that no driver
 * since 515 serves, and the module's own tests (uvm_test_ioctl.h). */
#include "abi/tables.h"

/* Parameters are copied at a fixed size that the request does not carry: where a release changed it, the row
 * has the largest and says so. */
#define UVM_C "nvidia-uvm/uvm.c"
#define UVM_TOOLS_C "nvidia-uvm/uvm_tools.c"
#define UVM_LINUX "nvidia-uvm/uvm_linux_ioctl.h"

static const struct abi_row uvm_calls[] = {
	{ 0x17, ABI_PASS, 16, "UVM_CREATE_RANGE_GROUP", UVM_C },
	{ 0x18, ABI_PASS, 16, "UVM_DESTROY_RANGE_GROUP", UVM_C },
	{ 0x19, ABI_PASS, 32, "UVM_REGISTER_GPU_VASPACE", UVM_C },
	{ 0x1a, ABI_PASS, 20, "UVM_UNREGISTER_GPU_VASPACE", UVM_C },
	{ 0x1b, ABI_PASS, 56, "UVM_REGISTER_CHANNEL", UVM_C },
	{ 0x1c, ABI_PASS, 28, "UVM_UNREGISTER_CHANNEL", UVM_C ": 12 bytes from 590" },
	{ 0x1d, ABI_PASS, 36, "UVM_ENABLE_PEER_ACCESS", UVM_C },
	{ 0x1e, ABI_PASS, 36, "UVM_DISABLE_PEER_ACCESS", UVM_C },
	{ 0x1f, ABI_PASS, 32, "UVM_SET_RANGE_GROUP", UVM_C },
	{ 0x21, ABI_UVM_MAP_EXTERNAL, 0, "UVM_MAP_EXTERNAL_ALLOCATION",
	  UVM_C ": keeps the memory; size in the layout" },
	{ 0x22, ABI_UVM_FREE, 0, "UVM_FREE", UVM_C ": size in the layout" },
	{ 0x25, ABI_PASS, 40, "UVM_REGISTER_GPU", UVM_C },
	{ 0x26, ABI_PASS, 20, "UVM_UNREGISTER_GPU", UVM_C },
	{ 0x27, ABI_PASS, 8, "UVM_PAGEABLE_MEM_ACCESS", UVM_C },
	{ 0x28, ABI_PASS, 272, "UVM_PREVENT_MIGRATION_RANGE_GROUPS", UVM_C },
	{ 0x29, ABI_PASS, 272, "UVM_ALLOW_MIGRATION_RANGE_GROUPS", UVM_C },
	{ 0x2a, ABI_PASS, 40, "UVM_SET_PREFERRED_LOCATION", UVM_C },
	{ 0x2b, ABI_PASS, 24, "UVM_UNSET_PREFERRED_LOCATION", UVM_C },
	{ 0x2c, ABI_PASS, 24, "UVM_ENABLE_READ_DUPLICATION", UVM_C },
	{ 0x2d, ABI_PASS, 24, "UVM_DISABLE_READ_DUPLICATION", UVM_C },
	{ 0x2e, ABI_PASS, 40, "UVM_SET_ACCESSED_BY", UVM_C },
	{ 0x2f, ABI_PASS, 40, "UVM_UNSET_ACCESSED_BY", UVM_C },
	{ 0x33, ABI_PASS, 80, "UVM_MIGRATE", UVM_C },
	{ 0x35, ABI_PASS, 32, "UVM_MIGRATE_RANGE_GROUP", UVM_C },
	{ 0x36, ABI_PASS, 20, "UVM_ENABLE_SYSTEM_WIDE_ATOMICS", UVM_C ": gone at 595" },
	{ 0x37, ABI_PASS, 20, "UVM_DISABLE_SYSTEM_WIDE_ATOMICS", UVM_C ": gone at 595" },
	{ 0x38, ABI_PASS, 64, "UVM_TOOLS_INIT_EVENT_TRACKER", UVM_TOOLS_C ": 56 bytes but in 550 and 555" },
	{ 0x39, ABI_PASS, 8, "UVM_TOOLS_SET_NOTIFICATION_THRESHOLD", UVM_TOOLS_C },
	{ 0x3a, ABI_PASS, 16, "UVM_TOOLS_EVENT_QUEUE_ENABLE_EVENTS", UVM_TOOLS_C },
	{ 0x3b, ABI_PASS, 16, "UVM_TOOLS_EVENT_QUEUE_DISABLE_EVENTS", UVM_TOOLS_C },
	{ 0x3c, ABI_PASS, 16, "UVM_TOOLS_ENABLE_COUNTERS", UVM_TOOLS_C },
	{ 0x3d, ABI_PASS, 16, "UVM_TOOLS_DISABLE_COUNTERS", UVM_TOOLS_C },
	{ 0x3e, ABI_PASS, 40, "UVM_TOOLS_READ_PROCESS_MEMORY", UVM_C },
	{ 0x3f, ABI_PASS, 40, "UVM_TOOLS_WRITE_PROCESS_MEMORY", UVM_C },
	{ 0x40, ABI_PASS, 16, "UVM_TOOLS_GET_PROCESSOR_UUID_TABLE", UVM_C },
	{ 0x41, ABI_PASS, 40, "UVM_MAP_DYNAMIC_PARALLELISM_REGION", UVM_C },
	{ 0x42, ABI_UVM_UNMAP_EXTERNAL, UVM_UNMAP_EXTERNAL_SIZE, "UVM_UNMAP_EXTERNAL", UVM_C },
	{ 0x43, ABI_PASS, 4, "UVM_TOOLS_FLUSH_EVENTS", UVM_C },
	{ 0x44, ABI_PASS, 0, "UVM_ALLOC_SEMAPHORE_POOL", UVM_C ": system memory; size in the layout" },
	{ 0x45, ABI_PASS, 4, "UVM_CLEAN_UP_ZOMBIE_RESOURCES", UVM_C },
	{ 0x46, ABI_PASS, 24, "UVM_PAGEABLE_MEM_ACCESS_ON_GPU", UVM_C },
	{ 0x47, ABI_PASS, 24, "UVM_POPULATE_PAGEABLE", UVM_C },
	{ 0x48, ABI_PASS, 24, "UVM_VALIDATE_VA_RANGE", UVM_C },
	{ 0x49, ABI_PASS, 24, "UVM_CREATE_EXTERNAL_RANGE", UVM_C },
	{ 0x4a, ABI_PASS, 40, "UVM_MAP_EXTERNAL_SPARSE", UVM_C },
	{ 0x4b, ABI_PASS, 8, "UVM_MM_INITIALIZE", UVM_C ": from 535" },
	{ 0x4c, ABI_PASS, 56, "UVM_TOOLS_INIT_EVENT_TRACKER_V2", UVM_TOOLS_C },
	{ 0x4d, ABI_PASS, 16, "UVM_TOOLS_GET_PROCESSOR_UUID_TABLE_V2", UVM_C },
	{ 0x4e, ABI_REFUSE, 56, "UVM_ALLOC_DEVICE_P2P",
	  UVM_C ": keeps a dup of the memory (uvm_va_range_device_p2p.c); from 565" },
	{ 0x4f, ABI_PASS, 4, "UVM_CLEAR_ALL_ACCESS_COUNTERS", UVM_C ": from 565" },
	{ 0x50, ABI_PASS, 32, "UVM_DISCARD", UVM_C ": from 580" },
	{ 0x30000001, ABI_UVM_INITIALIZE, UVM_INITIALIZE_SIZE, "UVM_INITIALIZE", UVM_LINUX },
	{ 0x30000002, ABI_PASS, 0, "UVM_DEINITIALIZE", UVM_LINUX ": has no parameters" },
};

const struct abi_row *abi_uvm_find(uint32_t request)
{
	return abi_row_find(uvm_calls, sizeof(uvm_calls) / sizeof(uvm_calls[0]), request);
}

const struct abi_row *abi_uvm_calls(size_t *ret_count)
{
	*ret_count = sizeof(uvm_calls) / sizeof(uvm_calls[0]);
	return uvm_calls;
}
