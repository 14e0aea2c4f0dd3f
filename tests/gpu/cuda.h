/* SPDX-License-Identifier: Apache-2.0 */
/* The part of CUDA's driver API that the tests on a GPU use, found at run time, so that they build where there is no CUDA.
 *
 * Names, sizes and offsets are those of the driver's ABI, which has not changed since the versions the symbols name. Every
 * call returns a CUresult; 0 is success, CUDA_ERROR_OUT_OF_MEMORY is what a full slice looks like. */
#ifndef FG_GPU_CUDA_H
#define FG_GPU_CUDA_H

#include <stddef.h>
#include <stdint.h>

enum { CUDA_SUCCESS = 0, CUDA_ERROR_OUT_OF_MEMORY = 2, CUDA_ERROR_NOT_READY = 600, CUDA_ERROR_NOT_SUPPORTED = 801 };
enum { CU_MEM_ATTACH_GLOBAL = 1, CU_AD_FORMAT_FLOAT = 0x20, CU_HANDLE_POSIX_FD = 1 };
enum { CU_POOL_RELEASE_THRESHOLD = 4, CU_IPC_LAZY_PEER_ACCESS = 1 };
enum { CU_ATTRIBUTE_MULTIPROCESSORS = 16, CU_EVENT_DISABLE_TIMING = 2, CU_CAPTURE_GLOBAL = 0 };

struct cu_location {
	int type;	/* 1: a device */
	int id;
};

struct cu_allocation_prop {	/* CUmemAllocationProp */
	int type;	/* 1: pinned */
	int handle_types;
	struct cu_location location;
	void *win32;
	uint8_t flags[8];
};

struct cu_access {		/* CUmemAccessDesc */
	struct cu_location location;
	int flags;	/* 3: read and write */
};

struct cu_pool_props {		/* CUmemPoolProps */
	int type;	/* 1: pinned */
	int handle_types;
	struct cu_location location;
	void *win32;
	uint64_t max_bytes;
	uint8_t rest[56];
};

struct cu_alloc_node {		/* CUDA_MEM_ALLOC_NODE_PARAMS */
	struct cu_pool_props pool;
	const struct cu_access *access;
	size_t access_count;
	size_t bytes;
	uint64_t address;
};

struct cu_array_2d {		/* CUDA_ARRAY_DESCRIPTOR */
	size_t width, height;
	int format;
	unsigned int channels;
};

struct cu_array_3d {		/* CUDA_ARRAY3D_DESCRIPTOR */
	size_t width, height, depth;
	int format;
	unsigned int channels, flags;
};

struct cu_ipc_handle {		/* CUipcMemHandle */
	uint8_t bytes[64];
};

_Static_assert(sizeof(struct cu_allocation_prop) == 32, "CUmemAllocationProp");
_Static_assert(sizeof(struct cu_pool_props) == 88, "CUmemPoolProps");
_Static_assert(sizeof(struct cu_alloc_node) == 120, "CUDA_MEM_ALLOC_NODE_PARAMS");

/* F(name, symbol, arguments) */
#define CUDA_FUNCTIONS(F)                                                                                         \
	F(init, "cuInit", (unsigned int flags))                                                                   \
	F(driver_version, "cuDriverGetVersion", (int *version))                                                   \
	F(device_get, "cuDeviceGet", (int *device, int ordinal))                                                  \
	F(device_name, "cuDeviceGetName", (char *name, int size, int device))                                     \
	F(device_total, "cuDeviceTotalMem_v2", (size_t *bytes, int device))                                       \
	F(device_attribute, "cuDeviceGetAttribute", (int *value, int attribute, int device))                      \
	F(context_retain, "cuDevicePrimaryCtxRetain", (void **context, int device))                               \
	F(context_set, "cuCtxSetCurrent", (void *context))                                                        \
	F(synchronize, "cuCtxSynchronize", (void))                                                                \
	F(mem_info, "cuMemGetInfo_v2", (size_t *free, size_t *total))                                             \
	F(mem_alloc, "cuMemAlloc_v2", (uint64_t *address, size_t bytes))                                          \
	F(mem_free, "cuMemFree_v2", (uint64_t address))                                                           \
	F(mem_set, "cuMemsetD8_v2", (uint64_t address, unsigned char value, size_t bytes))                        \
	F(mem_pitch, "cuMemAllocPitch_v2",                                                                        \
	  (uint64_t *address, size_t *pitch, size_t width, size_t height, unsigned int element))                  \
	F(mem_managed, "cuMemAllocManaged", (uint64_t *address, size_t bytes, unsigned int flags))                \
	F(mem_async, "cuMemAllocAsync", (uint64_t *address, size_t bytes, void *stream))                          \
	F(mem_free_async, "cuMemFreeAsync", (uint64_t address, void *stream))                                     \
	F(mem_from_pool, "cuMemAllocFromPoolAsync", (uint64_t *address, size_t bytes, void *pool, void *stream))  \
	F(pool_create, "cuMemPoolCreate", (void **pool, const struct cu_pool_props *props))                       \
	F(pool_destroy, "cuMemPoolDestroy", (void *pool))                                                         \
	F(pool_default, "cuDeviceGetDefaultMemPool", (void **pool, int device))                                   \
	F(pool_set, "cuMemPoolSetAttribute", (void *pool, int attribute, void *value))                            \
	F(pool_trim, "cuMemPoolTrimTo", (void *pool, size_t bytes))                                               \
	F(stream_create, "cuStreamCreate", (void **stream, unsigned int flags))                                   \
	F(stream_synchronize, "cuStreamSynchronize", (void *stream))                                              \
	F(event_create, "cuEventCreate", (void **event, unsigned int flags))                                      \
	F(event_record, "cuEventRecord", (void *event, void *stream))                                             \
	F(event_query, "cuEventQuery", (void *event))                                                             \
	F(capture_begin, "cuStreamBeginCapture_v2", (void *stream, int mode))                                     \
	F(capture_end, "cuStreamEndCapture", (void *stream, void **graph))                                        \
	F(vmm_create, "cuMemCreate",                                                                              \
	  (uint64_t *handle, size_t bytes, const struct cu_allocation_prop *prop, unsigned long long flags))      \
	F(vmm_release, "cuMemRelease", (uint64_t handle))                                                         \
	F(vmm_reserve, "cuMemAddressReserve",                                                                     \
	  (uint64_t *address, size_t bytes, size_t alignment, uint64_t wish, unsigned long long flags))           \
	F(vmm_unreserve, "cuMemAddressFree", (uint64_t address, size_t bytes))                                    \
	F(vmm_map, "cuMemMap",                                                                                    \
	  (uint64_t address, size_t bytes, size_t offset, uint64_t handle, unsigned long long flags))             \
	F(vmm_unmap, "cuMemUnmap", (uint64_t address, size_t bytes))                                              \
	F(vmm_access, "cuMemSetAccess",                                                                           \
	  (uint64_t address, size_t bytes, const struct cu_access *access, size_t count))                         \
	F(vmm_export, "cuMemExportToShareableHandle",                                                             \
	  (void *fd, uint64_t handle, int type, unsigned long long flags))                                        \
	F(vmm_import, "cuMemImportFromShareableHandle", (uint64_t *handle, void *fd, int type))                   \
	F(array_create, "cuArrayCreate_v2", (void **array, const struct cu_array_2d *shape))                      \
	F(array_destroy, "cuArrayDestroy", (void *array))                                                         \
	F(mipmap_create, "cuMipmappedArrayCreate",                                                                \
	  (void **array, const struct cu_array_3d *shape, unsigned int levels))                                   \
	F(mipmap_destroy, "cuMipmappedArrayDestroy", (void *array))                                               \
	F(ipc_export, "cuIpcGetMemHandle", (struct cu_ipc_handle *handle, uint64_t address))                      \
	F(ipc_import, "cuIpcOpenMemHandle_v2",                                                                    \
	  (uint64_t *address, struct cu_ipc_handle handle, unsigned int flags))                                   \
	F(ipc_close, "cuIpcCloseMemHandle", (uint64_t address))                                                   \
	F(graph_create, "cuGraphCreate", (void **graph, unsigned int flags))                                      \
	F(graph_destroy, "cuGraphDestroy", (void *graph))                                                         \
	F(graph_add_alloc, "cuGraphAddMemAllocNode",                                                              \
	  (void **node, void *graph, void *const *needs, size_t count, struct cu_alloc_node *params))             \
	F(graph_instantiate, "cuGraphInstantiateWithFlags",                                                       \
	  (void **exec, void *graph, unsigned long long flags))                                                   \
	F(graph_exec_destroy, "cuGraphExecDestroy", (void *exec))                                                 \
	F(graph_launch, "cuGraphLaunch", (void *exec, void *stream))                                              \
	F(graph_trim, "cuDeviceGraphMemTrim", (int device))                                                       \
	F(module_load, "cuModuleLoadData", (void **module, const void *image))                                    \
	F(module_function, "cuModuleGetFunction", (void **function, void *module, const char *name))              \
	F(occupancy, "cuOccupancyMaxActiveBlocksPerMultiprocessor",                                               \
	  (int *blocks, void *function, int threads, size_t shared))                                              \
	F(launch, "cuLaunchKernel",                                                                               \
	  (void *function, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by,   \
	   unsigned int bz, unsigned int shared, void *stream, void **params, void **extra))                      \
	F(launch_together, "cuLaunchCooperativeKernel",                                                           \
	  (void *function, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by,   \
	   unsigned int bz, unsigned int shared, void *stream, void **params))

struct cuda {
#define CUDA_MEMBER(name, symbol, arguments) int(*name) arguments;
	CUDA_FUNCTIONS(CUDA_MEMBER)
#undef CUDA_MEMBER
	int device;
	void *context;
};

/* Find libcuda.so.1 and its functions; then a context on device 0. Programs: a failure is told on stderr.
 * Functions that this driver does not have stay NULL. Returns 0, a CUresult, or -1 where there is no libcuda. */
int cuda_load(struct cuda *cu);
int cuda_start(struct cuda *cu);

#endif
