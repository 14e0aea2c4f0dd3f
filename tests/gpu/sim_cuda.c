/* SPDX-License-Identifier: Apache-2.0 */
/* A libcuda.so.1 for the simulator: the functions of gpu/cuda.h by the driver calls that the real one makes for them, so that
 * tests/gpu/run, bench/memory and bench/compute can be tried without a GPU. Pools keep nothing. Kernels do nothing but take
 * the time that gpu-load's would, on a GPU that each process has for itself, whatever its slice may use. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "gpu/cuda.h"
#include "lib/test_rm.h"

#define EXPORT __attribute__((visibility("default")))

enum { THINGS = 1 << 16, NOT_INITIALIZED = 3, INVALID_VALUE = 1, NO_DEVICE = 100, UNKNOWN = 999 };

#define NS_OF_ITERATION 40	/* of a loop of gpu-load's kernels */
#define FIRST_PLACE (UINT64_C(1) << 44)

/* Memory by address or by handle, which is the same here; graphs and arrays too. */
struct thing {
	uint32_t object;	/* RM handle; 0: managed, or nothing */
	uint64_t bytes;		/* of the mapping; 0: not mapped */
	uint64_t place;
	void *managed;
	uint64_t node_bytes;	/* of a graph */
	uint64_t *node_address;
	uint64_t kernels_ns;	/* of a graph */
};

static struct test_rm rm;
static struct thing things[THINGS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool is_started;
static uint64_t idle_at_ns;	/* when the last kernel ends */
static bool is_capturing;
static uint64_t captured_ns;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int take_time(uint64_t ns)
{
	pthread_mutex_lock(&lock);
	if (is_capturing) {
		captured_ns += ns;
	} else {
		uint64_t now = now_ns();

		idle_at_ns = (idle_at_ns > now ? idle_at_ns : now) + ns;
	}
	pthread_mutex_unlock(&lock);
	return 0;
}

static int wait_for_kernels(void)
{
	struct timespec t = { .tv_sec = (time_t)(idle_at_ns / 1000000000),
			      .tv_nsec = (long)(idle_at_ns % 1000000000) };

	while (idle_at_ns > now_ns() && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
	return 0;
}

static int as_cuda(int status)
{
	if (status == NV_OK)
		return 0;
	return status == NV_ERR_NO_MEMORY || status == -ENOMEM ? CUDA_ERROR_OUT_OF_MEMORY : UNKNOWN;
}

/* Places are 4 GiB apart, so that an address tells its thing. */
static uint64_t place_of(const struct thing *t)
{
	return FIRST_PLACE + ((uint64_t)(t - things) << 32);
}

static struct thing *thing_new(void)
{
	struct thing *found = NULL;

	pthread_mutex_lock(&lock);
	for (size_t i = 1; i < THINGS && !found; i++) {
		if (!things[i].place) {
			found = &things[i];
			found->place = place_of(found);
		}
	}
	pthread_mutex_unlock(&lock);
	return found;
}

static struct thing *thing_of(uint64_t address)
{
	uint64_t i = (address - FIRST_PLACE) >> 32;

	return i < THINGS && things[i].place ? &things[i] : NULL;
}

static void thing_free(struct thing *t)
{
	pthread_mutex_lock(&lock);
	memset(t, 0, sizeof(*t));
	pthread_mutex_unlock(&lock);
}

static int map(struct thing *t, uint64_t bytes)
{
	int r = test_uvm_range(&rm, t->place, bytes);

	if (r == NV_OK) {
		r = test_uvm_map(&rm, t->place, bytes, rm.client, t->object);
		if (r == NV_OK)
			t->bytes = bytes;
		else
			test_uvm_free(&rm, t->place, bytes);
	}
	return r;
}

static void drop(struct thing *t)
{
	if (t->managed)
		munmap(t->managed, t->bytes);
	else if (t->bytes)
		test_uvm_free(&rm, t->place, t->bytes);
	if (t->object)
		test_rm_free(&rm, rm.client, t->object);
	thing_free(t);
}

/* Memory, mapped where is_mapped. As libcuda does, the free memory is asked for first. */
static int make(uint64_t bytes, bool is_mapped, struct thing **ret_thing)
{
	struct thing *t = thing_new();
	uint64_t left;
	int r;

	if (!t || !is_started)
		return NOT_INITIALIZED;
	test_rm_fb_info(&rm, FB_INFO_INDEX_HEAP_FREE, &left);
	r = test_rm_vidmem(&rm, &bytes, &t->object);
	if (r == NV_OK && is_mapped)
		r = map(t, bytes);
	if (r != NV_OK)
		drop(t);
	else
		*ret_thing = t;
	return as_cuda(r);
}

static int make_address(uint64_t *address, uint64_t bytes)
{
	struct thing *t = NULL;
	int r = make(bytes, true, &t);

	if (r == 0)
		*address = t->place;
	return r;
}

static int drop_address(uint64_t address)
{
	struct thing *t = thing_of(address);
	uint64_t left;

	if (!t)
		return INVALID_VALUE;
	test_rm_fb_info(&rm, FB_INFO_INDEX_HEAP_FREE, &left);
	drop(t);
	return 0;
}

#define CUDA_DECLARE(name, symbol, arguments) EXPORT int sim_##name arguments __asm__(symbol);
CUDA_FUNCTIONS(CUDA_DECLARE)

int sim_init(unsigned int flags)
{
	return 0;
}

int sim_driver_version(int *version)
{
	*version = 13000;
	return 0;
}

int sim_device_get(int *device, int ordinal)
{
	*device = ordinal;
	return ordinal ? 101 : 0;
}

int sim_device_name(char *name, int size, int device)
{
	snprintf(name, (size_t)size, "sim");
	return 0;
}

int sim_device_total(size_t *bytes, int device)
{
	uint64_t total;
	int r = test_rm_fb_info(&rm, FB_INFO_INDEX_TOTAL_RAM_SIZE, &total);

	*bytes = total;
	return as_cuda(r);
}

/* libcuda takes any refusal of the page that the driver shares for a missing GPU (measured with 580.159.04). */
static bool has_shared_page(void)
{
	enum { RM_USER_SHARED_DATA = 0xde };
	uint8_t params[8] = { 0 };
	uint32_t page = 0;
	int r = test_rm_alloc(&rm, rm.client, rm.subdevice, &page, RM_USER_SHARED_DATA, params);

	return r == NV_OK;
}

int sim_device_attribute(int *value, int attribute, int device)
{
	*value = attribute == CU_ATTRIBUTE_MULTIPROCESSORS ? 132 : 0;
	return 0;
}

/* Of semaphores, as libcuda makes one for each context. */
static int map_pool(void)
{
	enum { BYTES = 2 << 20 };
	void *place = mmap(NULL, BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t params[9264] = { 0 };
	int r;

	put_u64(params, UVM_RANGE_BASE, (uint64_t)(uintptr_t)place);
	put_u64(params, UVM_RANGE_LENGTH, BYTES);
	r = test_uvm_call(rm.uvm, UVM_ALLOC_SEMAPHORE_POOL, params);
	if (r == 0 && mmap(place, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, rm.uvm, (off_t)(uintptr_t)place) != place)
		r = -errno;
	return r;
}

int sim_context_retain(void **context, int device)
{
	uint64_t buffers = 16 << 20;
	uint32_t group = 0, channel = 0;
	struct test_rm other;
	int r;

	*context = &rm;
	if (is_started)
		return 0;
	r = test_rm_open(&rm, (uint32_t)device);
	if (r == 0 && !has_shared_page())
		return NO_DEVICE;
	r = r ? r : test_uvm_open(&rm);
	other = rm;		/* a second address space, unused: PyTorch does so */
	r = r ? r : test_uvm_open(&other);
	r = r ? r : map_pool();
	r = r ? r : test_rm_vidmem(&rm, &buffers, NULL);
	r = r ? r : test_rm_group(&rm, &group);
	r = r ? r : test_rm_channel(&rm, group, &channel, 0);
	is_started = r == 0;
	return as_cuda(r);
}

int sim_context_set(void *context)
{
	return 0;
}

int sim_synchronize(void)
{
	return wait_for_kernels();
}

int sim_mem_info(size_t *left, size_t *total)
{
	uint64_t bytes = 0;
	int r = test_rm_fb_info(&rm, FB_INFO_INDEX_HEAP_FREE, &bytes);

	*left = bytes;
	r = r ? r : test_rm_fb_info(&rm, FB_INFO_INDEX_TOTAL_RAM_SIZE, &bytes);
	*total = bytes;
	return as_cuda(r);
}

int sim_mem_alloc(uint64_t *address, size_t bytes)
{
	return make_address(address, bytes);
}

int sim_mem_free(uint64_t address)
{
	return drop_address(address);
}

int sim_mem_set(uint64_t address, unsigned char value, size_t bytes)
{
	return 0;
}

int sim_mem_pitch(uint64_t *address, size_t *pitch, size_t width, size_t height, unsigned int element)
{
	*pitch = (width + 511) & ~(size_t)511;
	return make_address(address, *pitch * height);
}

int sim_mem_managed(uint64_t *address, size_t bytes, unsigned int flags)
{
	struct thing *t = thing_new();

	if (!t)
		return UNKNOWN;
	t->managed = test_managed(&rm, bytes);
	if (!t->managed) {
		thing_free(t);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	t->bytes = bytes;
	*address = t->place;
	return 0;
}

int sim_mem_async(uint64_t *address, size_t bytes, void *stream)
{
	return make_address(address, bytes);
}

int sim_mem_free_async(uint64_t address, void *stream)
{
	return drop_address(address);
}

int sim_mem_from_pool(uint64_t *address, size_t bytes, void *pool, void *stream)
{
	return make_address(address, bytes);
}

int sim_pool_create(void **pool, const struct cu_pool_props *props)
{
	*pool = &lock;
	return 0;
}

int sim_pool_destroy(void *pool)
{
	return 0;
}

int sim_pool_default(void **pool, int device)
{
	*pool = &rm;
	return 0;
}

int sim_pool_set(void *pool, int attribute, void *value)
{
	return 0;
}

int sim_pool_trim(void *pool, size_t bytes)
{
	return 0;
}

int sim_stream_create(void **stream, unsigned int flags)
{
	*stream = &is_started;
	return 0;
}

int sim_stream_synchronize(void *stream)
{
	return wait_for_kernels();
}

int sim_event_create(void **event, unsigned int flags)
{
	*event = calloc(1, sizeof(idle_at_ns));
	return *event ? 0 : CUDA_ERROR_OUT_OF_MEMORY;
}

int sim_event_record(void *event, void *stream)
{
	memcpy(event, &idle_at_ns, sizeof(idle_at_ns));
	return 0;
}

int sim_event_query(void *event)
{
	uint64_t at;

	memcpy(&at, event, sizeof(at));
	return at > now_ns() ? CUDA_ERROR_NOT_READY : 0;
}

int sim_capture_begin(void *stream, int mode)
{
	is_capturing = true;
	captured_ns = 0;
	return 0;
}

int sim_capture_end(void *stream, void **graph)
{
	struct thing *t = thing_new();

	is_capturing = false;
	*graph = t;
	if (!t)
		return UNKNOWN;
	t->kernels_ns = captured_ns;
	return 0;
}

int sim_vmm_create(uint64_t *handle, size_t bytes, const struct cu_allocation_prop *prop, unsigned long long flags)
{
	struct thing *t = NULL;
	int r = make(bytes, false, &t);

	if (r == 0)
		*handle = t->place;
	return r;
}

int sim_vmm_release(uint64_t handle)
{
	return drop_address(handle);
}

/* One place does for all: what is mapped is at the handle's own. */
int sim_vmm_reserve(uint64_t *address, size_t bytes, size_t alignment, uint64_t wish, unsigned long long flags)
{
	*address = FIRST_PLACE;
	return 0;
}

int sim_vmm_unreserve(uint64_t address, size_t bytes)
{
	return 0;
}

int sim_vmm_map(uint64_t address, size_t bytes, size_t offset, uint64_t handle, unsigned long long flags)
{
	struct thing *t = thing_of(handle);

	return t ? as_cuda(map(t, bytes)) : INVALID_VALUE;
}

int sim_vmm_unmap(uint64_t address, size_t bytes)
{
	return 0;
}

int sim_vmm_access(uint64_t address, size_t bytes, const struct cu_access *access, size_t count)
{
	return 0;
}

int sim_vmm_export(void *fd, uint64_t handle, int type, unsigned long long flags)
{
	struct thing *t = thing_of(handle);
	int file = open("/dev/nvidiactl", O_RDWR | O_CLOEXEC);
	int r = t && file >= 0 ? test_rm_export(&rm, t->object, file) : -1;

	if (r == NV_OK)
		memcpy(fd, &file, sizeof(file));
	return as_cuda(r);
}

int sim_vmm_import(uint64_t *handle, void *fd, int type)
{
	struct thing *t = thing_new();
	int r = t ? test_rm_import(&rm, (int)(intptr_t)fd, &t->object) : -1;

	if (t)
		*handle = t->place;
	return as_cuda(r);
}

static int make_object(void **object, uint64_t bytes)
{
	struct thing *t = NULL;
	int r = make(bytes, false, &t);

	*object = t;
	return r;
}

int sim_array_create(void **array, const struct cu_array_2d *shape)
{
	return make_object(array, shape->width * shape->height * 4);
}

int sim_array_destroy(void *array)
{
	drop(array);
	return 0;
}

int sim_mipmap_create(void **array, const struct cu_array_3d *shape, unsigned int levels)
{
	return make_object(array, shape->width * shape->height * 4 / 3 * 4);
}

int sim_mipmap_destroy(void *array)
{
	drop(array);
	return 0;
}

int sim_ipc_export(struct cu_ipc_handle *handle, uint64_t address)
{
	struct thing *t = thing_of(address);
	uint32_t names[3];
	uint64_t bytes;

	if (!t)
		return INVALID_VALUE;
	bytes = t->bytes;
	names[0] = rm.client;
	names[1] = t->object;
	memcpy(handle->bytes, names, sizeof(names));
	memcpy(handle->bytes + sizeof(names), &bytes, sizeof(bytes));
	return as_cuda(test_rm_share(&rm, rm.client, t->object));
}

int sim_ipc_import(uint64_t *address, struct cu_ipc_handle handle, unsigned int flags)
{
	struct thing *t = thing_new();
	uint32_t names[3];
	uint64_t bytes;
	int r;

	if (!t)
		return UNKNOWN;
	memcpy(names, handle.bytes, sizeof(names));
	memcpy(&bytes, handle.bytes + sizeof(names), sizeof(bytes));
	r = test_rm_dup(&rm, rm.client, rm.device, &t->object, names[0], names[1]);
	r = r ? r : map(t, bytes);
	*address = t->place;
	return as_cuda(r);
}

int sim_ipc_close(uint64_t address)
{
	return drop_address(address);
}

int sim_graph_create(void **graph, unsigned int flags)
{
	*graph = thing_new();
	return *graph ? 0 : UNKNOWN;
}

int sim_graph_destroy(void *graph)
{
	thing_free(graph);
	return 0;
}

/* The real one, too, chooses the address when the node is made, and takes the memory when the graph runs. */
int sim_graph_add_alloc(void **node, void *graph, void *const *needs, size_t count, struct cu_alloc_node *params)
{
	struct thing *memory = thing_new(), *t = graph;

	if (!memory)
		return UNKNOWN;
	t->node_bytes = params->bytes;
	t->node_address = &memory->place;
	params->address = memory->place;
	return 0;
}

int sim_graph_instantiate(void **exec, void *graph, unsigned long long flags)
{
	*exec = graph;
	return 0;
}

int sim_graph_exec_destroy(void *exec)
{
	return 0;
}

int sim_graph_launch(void *exec, void *stream)
{
	const struct thing *t = exec;
	struct thing *memory = t->node_address ? thing_of(*t->node_address) : NULL;
	uint64_t bytes = t->node_bytes;
	int r;

	if (!memory)
		return take_time(t->kernels_ns);
	r = test_rm_vidmem(&rm, &bytes, &memory->object);
	if (r == NV_OK)
		r = map(memory, bytes);
	if (r != NV_OK)
		drop(memory);
	return as_cuda(r);
}

int sim_graph_trim(int device)
{
	return 0;
}

int sim_module_load(void **module, const void *image)
{
	*module = &rm;
	return 0;
}

int sim_module_function(void **function, void *module, const char *name)
{
	*function = &rm;
	return 0;
}

int sim_occupancy(int *blocks, void *function, int threads, size_t shared)
{
	*blocks = 8;
	return 0;
}

int sim_launch(void *function, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by,
	       unsigned int bz, unsigned int shared, void *stream, void **params, void **extra)
{
	uint32_t iterations = 0;

	if (params)
		memcpy(&iterations, params[1], sizeof(iterations));
	return take_time((uint64_t)iterations * NS_OF_ITERATION);
}

int sim_launch_together(void *function, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx,
			unsigned int by, unsigned int bz, unsigned int shared, void *stream, void **params)
{
	return sim_launch(function, gx, gy, gz, bx, by, bz, shared, stream, params, NULL);
}
