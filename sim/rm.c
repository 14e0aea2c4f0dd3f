/* SPDX-License-Identifier: Apache-2.0 */
/* Files, clients, objects and memory of the simulated driver. Facts: NVIDIA open-gpu-kernel-modules 580.142,
 * src/nvidia/src/libraries/resserv/src/rs_server.c and rs_client.c, src/nvidia/src/kernel/mem_mgr/video_mem.c. */
#include "sim/rm.h"

#include <stdlib.h>
#include <time.h>
#include <utlist.h>

enum {
	OBJECT_HANDLES = 0xcaf00000,	/* rs_client.h, RS_UNIQUE_HANDLE_BASE */
};

void sim_init(struct sim *sim)
{
	pthread_mutex_init(&sim->lock, NULL);
	pthread_mutex_init(&sim->files_lock, NULL);
	sim->next_map_offset = 1ull << 32;
}

uint64_t sim_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- memory ---- */

uint64_t sim_gpu_heap(const struct sim_gpu *gpu)
{
	return gpu->model.total_bytes - gpu->model.reserved_bytes;
}

/* Managed memory moves to the host when anything else needs the room (kernel-open/nvidia-uvm/uvm_pmm_gpu.c), so it
 * shows in the free figure and never makes an allocation fail. */
uint64_t sim_gpu_free(struct sim *sim, struct sim_gpu *gpu)
{
	uint64_t left = sim_gpu_heap(gpu) - gpu->used_bytes;
	uint64_t managed = sim_managed(sim, gpu);

	return left - (managed < left ? managed : left);
}

/* Pages of the allocator are 64 KiB (video_mem.c); from 2 MiB on huge pages are the default (measured: an H200 makes
 * 64 MiB + 428 KiB into 66 MiB). */
uint64_t sim_memory_round(uint64_t bytes)
{
	uint64_t page = bytes >= 2u << 20 ? 2u << 20 : 64u << 10;

	return (bytes + page - 1) / page * page;
}

struct sim_memory *sim_memory_new(struct sim_gpu *gpu, uint64_t bytes)
{
	struct sim_memory *memory;

	if (bytes > sim_gpu_heap(gpu) - gpu->used_bytes)
		return NULL;
	memory = calloc(1, sizeof(*memory));
	if (!memory)
		return NULL;
	*memory = (struct sim_memory){ .refs = 1, .bytes = bytes, .gpu = gpu };
	gpu->used_bytes += bytes;
	if (gpu->used_bytes > gpu->peak_bytes)
		gpu->peak_bytes = gpu->used_bytes;
	return memory;
}

void sim_memory_unref(struct sim_memory *memory)
{
	if (!memory || --memory->refs)
		return;
	memory->gpu->used_bytes -= memory->bytes;
	free(memory);
}

/* ---- lookups ---- */

struct sim_client *sim_client_any(struct sim *sim, uint32_t handle)
{
	struct sim_client *client;

	HASH_FIND(hh, sim->clients, &handle, sizeof(handle), client);
	return client;
}

struct sim_client *sim_client_find(struct sim_caller *caller, uint32_t handle)
{
	struct sim_client *client = sim_client_any(caller->sim, handle);

	return client && client->file == sim_file_ctl(caller->file) ? client : NULL;
}

struct sim_object *sim_object_find(struct sim_client *client, uint32_t handle)
{
	struct sim_object *object;

	HASH_FIND(hh, client->objects, &handle, sizeof(handle), object);
	return object;
}

struct sim_gpu *sim_gpu_by_id(struct sim *sim, uint32_t gpu_id)
{
	for (uint32_t i = 0; i < sim->gpu_count; i++) {
		if (sim->gpus[i].gpu_id == gpu_id)
			return &sim->gpus[i];
	}
	return NULL;
}

/* ---- objects ---- */

struct sim_object *sim_object_new(struct sim_client *client, struct sim_object *parent, uint32_t *handle,
				  uint32_t class_id, uint32_t *ret_status)
{
	struct sim_object *object;

	while (!*handle) {
		uint32_t chosen = OBJECT_HANDLES + client->next_object++;

		if (!sim_object_find(client, chosen))
			*handle = chosen;
	}
	*ret_status = NV_ERR_INSERT_DUPLICATE_NAME;
	if (*handle == client->handle || sim_object_find(client, *handle))
		return NULL;
	*ret_status = NV_ERR_NO_MEMORY;
	object = calloc(1, sizeof(*object));
	if (!object)
		return NULL;
	object->handle = *handle;
	object->class_id = class_id;
	object->client = client;
	object->parent = parent;
	object->gpu = parent ? parent->gpu : NULL;
	HASH_ADD(hh, client->objects, handle, sizeof(object->handle), object);
	*ret_status = NV_OK;
	return object;
}

/* What has to go before the object: what hangs below it, and channels that use it. */
static bool is_needed_by(const struct sim_object *object, const struct sim_object *other)
{
	if (other->parent == object)
		return true;
	for (int i = 0; i < SIM_CHANNEL_DEPENDS; i++) {
		if (other->is_channel && other != object && other->depends[i] == object->handle)
			return true;
	}
	return false;
}

static void object_drop(struct sim_object *object)
{
	HASH_DEL(object->client->objects, object);	/* NOLINT(clang-analyzer-core.NullDereference): inside uthash */
	if (object->context_bytes)
		object->gpu->used_bytes -= object->context_bytes;
	sim_memory_unref(object->memory);
	free(object);
}

static void object_free(struct sim_object *object)
{
	struct sim_client *client = object->client;
	struct sim_object *other;

again:
	for (other = client->objects; other; other = other->hh.next) {
		if (is_needed_by(object, other)) {
			object_free(other);
			goto again;	/* the list has changed */
		}
	}
	object_drop(object);
}

void sim_client_free(struct sim *sim, struct sim_client *client)
{
	while (client->objects)
		object_drop(client->objects);
	HASH_DEL(sim->clients, client);
	free(client);
}

/* The parent is ignored, and to free what is unknown succeeds (RS_COMPATABILITY_MODE). */
uint32_t sim_rm_free(struct sim_caller *caller, uint32_t client_handle, uint32_t object_handle)
{
	struct sim_client *client = sim_client_find(caller, client_handle);
	struct sim_object *object;

	if (!client)
		return NV_ERR_INVALID_CLIENT;
	if (object_handle == client_handle) {
		sim_client_free(caller->sim, client);
		return NV_OK;
	}
	object = sim_object_find(client, object_handle);
	if (object)
		object_free(object);
	return NV_OK;
}

void sim_channel_set(struct sim_object *channel, bool enabled, bool scheduled)
{
	bool was_on = channel->enabled && channel->scheduled;
	bool on = enabled && scheduled;

	if (was_on && !on)
		channel->on_ns += sim_now_ns() - channel->on_since_ns;
	if (on && !was_on)
		channel->on_since_ns = sim_now_ns();
	channel->enabled = enabled;
	channel->scheduled = scheduled;
}

/* ---- files ---- */

struct sim_file *sim_file_new(struct sim *sim, enum abi_device device, uint32_t minor)
{
	struct sim_file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->device = device;
	file->minor = minor;
	file->refs = 1;
	pthread_mutex_lock(&sim->files_lock);
	file->serial = ++sim->next_serial;
	DL_APPEND(sim->files, file);
	pthread_mutex_unlock(&sim->files_lock);
	return file;
}

void sim_file_closed(struct sim *sim, struct sim_file *file)
{
	pthread_mutex_lock(&sim->files_lock);
	file->next_closed = sim->closed;
	sim->closed = file;
	pthread_mutex_unlock(&sim->files_lock);
}

void sim_file_unref(struct sim *sim, struct sim_file *file)
{
	struct sim_client *client, *next;

	if (--file->refs)
		return;
	for (client = sim->clients; client; client = next) {
		next = client->hh.next;
		if (client->file == file)
			sim_client_free(sim, client);
	}
	sim_exports_drop(file);
	sim_uvm_drop(file);
	pthread_mutex_lock(&sim->files_lock);
	DL_DELETE(sim->files, file);
	pthread_mutex_unlock(&sim->files_lock);
	if (file->ctl)
		sim_file_unref(sim, file->ctl);
	free(file);
}

void sim_lock(struct sim *sim)
{
	struct sim_file *file, *next;

	pthread_mutex_lock(&sim->lock);
	pthread_mutex_lock(&sim->files_lock);
	file = sim->closed;
	sim->closed = NULL;
	pthread_mutex_unlock(&sim->files_lock);
	for (; file; file = next) {
		next = file->next_closed;
		sim_file_unref(sim, file);
	}
}

void sim_unlock(struct sim *sim)
{
	pthread_mutex_unlock(&sim->lock);
}
