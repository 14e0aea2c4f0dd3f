/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of gpu-fill: every way that CUDA and the driver have to give memory of a GPU. */
#include "gpu/fill.h"

enum { WIDTH = 4096, LEVELS = 5, PITCH_WIDTH = 100000 };

static const struct cu_location *location(const struct fill *f)
{
	static struct cu_location here = { 1, 0 };

	here.id = f->cu.device;
	return &here;
}

int plain_take(struct fill *f, struct block *b)
{
	b->is_plain = b->is_linear = true;
	return f->cu.mem_alloc(&b->address, f->step_bytes);
}

static void plain_give(struct fill *f, struct block *b)
{
	f->cu.mem_free(b->address);
}

static int managed_take(struct fill *f, struct block *b)
{
	int r = f->cu.mem_managed(&b->address, f->step_bytes, CU_MEM_ATTACH_GLOBAL);

	b->is_linear = true;
	/* it lies on the GPU once the GPU has written it */
	return r ? r : f->cu.mem_set(b->address, 1, f->step_bytes);
}

static int pitch_take(struct fill *f, struct block *b)
{
	size_t pitch;

	return f->cu.mem_pitch(&b->address, &pitch, PITCH_WIDTH, f->step_bytes / (PITCH_WIDTH + 352), 16);
}

static int stream_prepare(struct fill *f)
{
	return f->cu.stream_create(&f->stream, 0);
}

static int async_take(struct fill *f, struct block *b)
{
	int r = f->cu.mem_async(&b->address, f->step_bytes, f->stream);

	b->is_linear = true;
	return r ? r : f->cu.stream_synchronize(f->stream);
}

static void async_give(struct fill *f, struct block *b)
{
	f->cu.mem_free_async(b->address, f->stream);
	f->cu.stream_synchronize(f->stream);
}

static void async_settle(struct fill *f)
{
	void *pool;

	f->cu.stream_synchronize(f->stream);
	if (f->cu.pool_default(&pool, f->cu.device) == 0)
		f->cu.pool_trim(pool, 0);
}

static int pool_prepare(struct fill *f)
{
	struct cu_pool_props props = { .type = 1, .location = *location(f) };
	uint64_t keep = UINT64_MAX;
	int r = stream_prepare(f);

	r = r ? r : f->cu.pool_create(&f->pool, &props);
	return r ? r : f->cu.pool_set(f->pool, CU_POOL_RELEASE_THRESHOLD, &keep);
}

static int pool_take(struct fill *f, struct block *b)
{
	int r = f->cu.mem_from_pool(&b->address, f->step_bytes, f->pool, f->stream);

	b->is_linear = true;
	return r ? r : f->cu.stream_synchronize(f->stream);
}

static void pool_settle(struct fill *f)
{
	f->cu.stream_synchronize(f->stream);
	f->cu.pool_trim(f->pool, 0);
}

/* Fill the default pool, which keeps what is freed, then trim it: another pool must get all of it. */
static int trim_prepare(struct fill *f)
{
	enum { MOST = 4096 };
	static uint64_t taken[MOST];
	uint64_t keep = UINT64_MAX;
	size_t count = 0;
	void *pool;
	int r = pool_prepare(f);

	r = r ? r : f->cu.pool_default(&pool, f->cu.device);
	r = r ? r : f->cu.pool_set(pool, CU_POOL_RELEASE_THRESHOLD, &keep);
	if (r)
		return r;
	while (count < MOST && count * f->step_bytes < f->cap_bytes &&
	       f->cu.mem_async(&taken[count], f->step_bytes, f->stream) == 0)
		count++;
	r = f->cu.stream_synchronize(f->stream);
	while (count)
		f->cu.mem_free_async(taken[--count], f->stream);
	r = r ? r : f->cu.stream_synchronize(f->stream);
	return r ? r : f->cu.pool_trim(pool, 0);
}

int vmm_map_handle(struct fill *f, uint64_t handle, uint64_t *ret_address)
{
	struct cu_access access = { *location(f), 3 };
	int r = f->cu.vmm_reserve(ret_address, f->step_bytes, 0, 0, 0);

	if (r)
		return r;
	r = f->cu.vmm_map(*ret_address, f->step_bytes, 0, handle, 0);
	if (r == 0) {
		r = f->cu.vmm_access(*ret_address, f->step_bytes, &access, 1);
		if (r)
			f->cu.vmm_unmap(*ret_address, f->step_bytes);
	}
	if (r)
		f->cu.vmm_unreserve(*ret_address, f->step_bytes);
	return r;
}

static int vmm_take(struct fill *f, struct block *b)
{
	struct cu_allocation_prop prop = { .type = 1, .location = *location(f) };
	int r = f->cu.vmm_create(&b->handle, f->step_bytes, &prop, 0);

	if (r)
		return r;
	b->is_linear = true;
	r = vmm_map_handle(f, b->handle, &b->address);
	if (r)
		f->cu.vmm_release(b->handle);
	return r;
}

static void vmm_give(struct fill *f, struct block *b)
{
	f->cu.vmm_unmap(b->address, f->step_bytes);
	f->cu.vmm_unreserve(b->address, f->step_bytes);
	f->cu.vmm_release(b->handle);
}

static int array_take(struct fill *f, struct block *b)
{
	struct cu_array_2d shape = { WIDTH, f->step_bytes / (WIDTH * sizeof(float)), CU_AD_FORMAT_FLOAT, 1 };

	return f->cu.array_create(&b->object, &shape);
}

static void array_give(struct fill *f, struct block *b)
{
	f->cu.array_destroy(b->object);
}

static int mipmap_take(struct fill *f, struct block *b)
{
	struct cu_array_3d shape = { .width = WIDTH, .height = f->step_bytes / (WIDTH * sizeof(float)),
				     .format = CU_AD_FORMAT_FLOAT, .channels = 1 };

	return f->cu.mipmap_create(&b->object, &shape, LEVELS);
}

static void mipmap_give(struct fill *f, struct block *b)
{
	f->cu.mipmap_destroy(b->object);
}

static void graph_drop(struct fill *f, struct block *b)
{
	if (b->exec)
		f->cu.graph_exec_destroy(b->exec);
	if (b->object)
		f->cu.graph_destroy(b->object);
	b->exec = b->object = NULL;
}

/* A graph whose only node allocates: the memory is there when it has run, and stays. */
static int graph_take(struct fill *f, struct block *b)
{
	struct cu_access access = { *location(f), 3 };
	struct cu_alloc_node node = {
		.pool = { .type = 1, .location = *location(f) },
		.access = &access,
		.access_count = 1,
		.bytes = f->step_bytes,
	};
	void *added;
	int r = f->cu.graph_create(&b->object, 0);

	b->is_linear = true;
	r = r ? r : f->cu.graph_add_alloc(&added, b->object, NULL, 0, &node);
	r = r ? r : f->cu.graph_instantiate(&b->exec, b->object, 0);
	r = r ? r : f->cu.graph_launch(b->exec, f->stream);
	r = r ? r : f->cu.stream_synchronize(f->stream);
	b->address = node.address;
	if (r)
		graph_drop(f, b);
	return r;
}

static void graph_give(struct fill *f, struct block *b)
{
	async_give(f, b);
	graph_drop(f, b);
}

static void graph_settle(struct fill *f)
{
	f->cu.stream_synchronize(f->stream);
	f->cu.graph_trim(f->cu.device);
}

/* What the driver says, in CUDA's word. */
static int as_cuda(int status)
{
	return status == NV_ERR_NO_MEMORY ? CUDA_ERROR_OUT_OF_MEMORY : status;
}

static int raw_take(struct fill *f, struct block *b)
{
	uint64_t bytes = f->step_bytes;
	uint32_t object = 0;
	int r = test_rm_vidmem(&f->rm, &bytes, &object);

	b->handle = object;
	return as_cuda(r);
}

static void raw_give(struct fill *f, struct block *b)
{
	test_rm_free(&f->rm, f->rm.client, (uint32_t)b->handle);
}

const struct fill_api fill_apis[] = {
	{ "memalloc", .take = plain_take, .give = plain_give },
	{ "pitch", .take = pitch_take, .give = plain_give },
	{ "managed", .take = managed_take, .give = plain_give },
	{ "async", .prepare = stream_prepare, .take = async_take, .give = async_give, .settle = async_settle },
	{ "pool", .prepare = pool_prepare, .take = pool_take, .give = async_give, .settle = pool_settle },
	{ "pool-trim", .prepare = trim_prepare, .take = pool_take, .give = async_give, .settle = pool_settle },
	{ "vmm", .take = vmm_take, .give = vmm_give },
	{ "array", .take = array_take, .give = array_give },
	{ "mipmap", .take = mipmap_take, .give = mipmap_give },
	{ "graph", .prepare = stream_prepare, .take = graph_take, .give = graph_give, .settle = graph_settle },
	{ "ipc", .before = import_before_ipc, .take = import_take_ipc, .give = import_give },
	{ "fd", .before = import_before_fd, .take = import_take_fd, .give = import_give },
	{ "raw", .is_raw = true, .take = raw_take, .give = raw_give },
	{ NULL },
};
