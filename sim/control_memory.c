/* SPDX-License-Identifier: Apache-2.0 */
/* Controls that tell of memory and of who holds it: FB info, processes, per-process samples. Facts: open-gpu-kernel-
 * modules 580.142, sdk/nvidia/inc/ctrl/ctrl2080/ctrl2080fb.h and ctrl2080gpu.h, src/kernel/gpu/gpu_rmapi.c. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "sim/rm.h"

enum {
	FB_INFO_MAX = 256,
	FB_INFO_INDEX_BUS_WIDTH = 0x0b,
	FB_INFO_INDEX_HEAP_BASE = 0x11,
	PIDS_BY_CLASS = 0,
	MEM_PRIVATE = 16, MEM_OWNED = 24, MEM_DUPED = 32, PID_INFO_PARTITIONS = 64,
	SAMPLES_COUNT = 8, SAMPLES_LIST = 16,
	NS_LEVELS = 32,
};

/* ---- frame buffer ---- */

/* In KiB; 0 for what we do not model. */
static uint32_t fb_info(struct sim *sim, struct sim_gpu *gpu, uint32_t index)
{
	uint64_t bytes = 0;

	switch (index) {
	case FB_INFO_INDEX_RAM_SIZE:
	case FB_INFO_INDEX_TOTAL_RAM_SIZE:
	case FB_INFO_INDEX_USABLE_RAM_SIZE:
		bytes = gpu->model.total_bytes;
		break;
	case FB_INFO_INDEX_HEAP_SIZE:
	case FB_INFO_INDEX_MAPPABLE_HEAP_SIZE:
		bytes = sim_gpu_heap(gpu);
		break;
	case FB_INFO_INDEX_HEAP_FREE:
	case FB_INFO_INDEX_HEAP_BASE_LARGEST_FREE:
		bytes = sim_gpu_free(sim, gpu);
		break;
	case FB_INFO_INDEX_BUS_WIDTH:
		return 4096;
	default:
		break;
	}
	return (uint32_t)(bytes >> 10);
}

static uint32_t fb_info_fill(struct sim_control_call *call, uint8_t *list, uint32_t count)
{
	if (!call->gpu)
		return NV_ERR_INVALID_OBJECT_HANDLE;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *entry = list + i * FB_INFO_ENTRY;

		put_u32(entry, 4, fb_info(call->sim, call->gpu, get_u32(entry, 0)));
	}
	return NV_OK;
}

static uint32_t fb_get_info_v1(struct sim_control_call *call, void *params, uint32_t size)
{
	uint8_t list[FB_INFO_MAX * FB_INFO_ENTRY];
	uint32_t count = get_u32(params, FB_INFO_COUNT);
	uint64_t address = get_u64(params, FB_INFO_V1_POINTER);
	uint32_t status;

	if (count > FB_INFO_MAX || call->read(call, address, list, count * FB_INFO_ENTRY) < 0)
		return NV_ERR_INVALID_ARGUMENT;
	status = fb_info_fill(call, list, count);
	if (status == NV_OK && call->write(call, address, list, count * FB_INFO_ENTRY) < 0)
		return NV_ERR_INVALID_ADDRESS;
	return status;
}

static uint32_t fb_get_info_v2(struct sim_control_call *call, void *params, uint32_t size)
{
	uint32_t count = get_u32(params, FB_INFO_COUNT);

	if (count > (size - FB_INFO_V2_LIST) / FB_INFO_ENTRY)
		return NV_ERR_INVALID_ARGUMENT;
	return fb_info_fill(call, (uint8_t *)params + FB_INFO_V2_LIST, count);
}

/* ---- process ids ---- */

/* The numbers of a process in its PID namespaces, ours first. Returns how many. */
static int ns_pids(pid_t pid, pid_t pids[NS_LEVELS])
{
	char path[64];
	char line[512];
	cleanup_file FILE *f = NULL;
	int count = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		char *rest = NULL;

		if (strncmp(line, "NSpid:", 6) != 0)
			continue;
		for (char *word = strtok_r(line + 6, " \t\n", &rest); word && count < NS_LEVELS;
		     word = strtok_r(NULL, " \t\n", &rest))
			pids[count++] = (pid_t)strtol(word, NULL, 10);
	}
	return count;
}

static bool same_pid_namespace(pid_t a, pid_t b)
{
	char path[64];
	struct stat st_a, st_b;

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", a);
	if (stat(path, &st_a) < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", b);
	return stat(path, &st_b) == 0 && st_a.st_ino == st_b.st_ino;
}

/* A process' number as a caller sees it; 0 when it does not. From 535.113.01 on the driver answers in the caller's PID
 * namespace (kernel-open/nvidia/os-interface.c, os_find_ns_pid), before that in the host's. */
static pid_t pid_seen_by(const struct sim *sim, pid_t pid, pid_t caller)
{
	pid_t theirs[NS_LEVELS], own[NS_LEVELS];
	int depth, levels;

	if (abi_version_compare(sim->version, (struct abi_version){ 535, 113, 1 }) < 0)
		return pid;
	depth = ns_pids(caller, own);
	if (depth <= 1)
		return pid;
	levels = ns_pids(pid, theirs);
	if (levels < depth || (levels == depth && !same_pid_namespace(pid, caller)))
		return 0;
	return theirs[depth - 1];
}

/* Whether a client has an object of a class on a GPU. */
static bool has_class(const struct sim_client *client, const struct sim_gpu *gpu, uint32_t class_id)
{
	for (const struct sim_object *object = client->objects; object; object = object->hh.next) {
		if (object->gpu == gpu && object->class_id == class_id)
			return true;
	}
	return false;
}

/* Processes with an object of a class, as the caller sees them. Returns how many. */
static uint32_t pids_by_class(struct sim_control_call *call, uint32_t class_id, uint32_t *pids, uint32_t max)
{
	uint32_t count = 0;

	for (const struct sim_client *client = call->sim->clients; client; client = client->hh.next) {
		uint32_t pid;
		uint32_t i = 0;

		if (!has_class(client, call->gpu, class_id))
			continue;
		pid = (uint32_t)pid_seen_by(call->sim, client->pid, call->pid);
		while (i < count && pids[i] != pid)
			i++;
		if (pid && i == count && count < max)
			pids[count++] = pid;
	}
	return count;
}

static uint32_t gpu_get_pids(struct sim_control_call *call, void *params, uint32_t size)
{
	uint32_t pids[PIDS_MAX];
	uint32_t count;

	if (!call->gpu)
		return NV_ERR_INVALID_OBJECT_HANDLE;
	if (get_u32(params, 0) != PIDS_BY_CLASS)
		return NV_ERR_INVALID_ARGUMENT;
	count = pids_by_class(call, get_u32(params, 4), pids, PIDS_MAX);
	put_u32(params, PIDS_COUNT, count);
	memcpy((uint8_t *)params + PIDS_TABLE, pids, count * sizeof(pids[0]));
	return NV_OK;
}

/* _gpuCollectMemInfo: by how many names the memory has, and whether this one made it. Other classes that keep memory do
 * not count. */
static void memory_of_client(const struct sim_client *client, const struct sim_gpu *gpu, uint8_t *entry)
{
	for (const struct sim_object *object = client->objects; object; object = object->hh.next) {
		uint32_t at = MEM_PRIVATE;

		if (object->class_id != 0x40 || object->gpu != gpu)
			continue;
		if (object->memory->refs > 1)
			at = object->owns_memory ? MEM_OWNED : MEM_DUPED;
		put_u64(entry, at, get_u64(entry, at) + object->memory->bytes);
	}
}

static uint32_t gpu_get_pid_info(struct sim_control_call *call, void *params, uint32_t size)
{
	uint32_t count = get_u32(params, PID_INFO_COUNT);

	if (!call->gpu)
		return NV_ERR_INVALID_OBJECT_HANDLE;
	if (!count || count > PID_INFO_MAX)
		return NV_ERR_INVALID_ARGUMENT;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *entry = (uint8_t *)params + PID_INFO_LIST + i * PID_INFO_ENTRY;
		uint32_t pid = get_u32(entry, PID_INFO_PID);

		memset(entry + 8, 0, PID_INFO_ENTRY - 8);
		put_u64(entry, PID_INFO_PARTITIONS, UINT64_MAX);	/* no MIG */
		for (const struct sim_client *client = call->sim->clients; client; client = client->hh.next) {
			if (pid && (uint32_t)pid_seen_by(call->sim, client->pid, call->pid) == pid)
				memory_of_client(client, call->gpu, entry);
		}
	}
	return NV_OK;
}

/* One sample for each process with a compute context, of all that runs, or of nobody: the hardware names whom it finds. */
static uint32_t util_samples(struct sim_control_call *call, void *params, uint32_t size)
{
	const struct abi_layout *layout = &call->sim->layout;
	uint32_t pids[PIDS_MAX];
	uint32_t count;

	if (!call->gpu)
		return NV_ERR_INVALID_OBJECT_HANDLE;
	count = pids_by_class(call, call->gpu->model.compute_class, pids, layout->util_sample_count);
	memset((uint8_t *)params + SAMPLES_LIST, 0, size - SAMPLES_LIST);
	if (!count)
		pids[count++] = UINT32_MAX;	/* NV2080_GPUMON_PID_INVALID */
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *sample = (uint8_t *)params + SAMPLES_LIST + (size_t)i * layout->util_sample_size;

		put_u64(sample, 0, sim_now_ns() / 1000);
		put_u32(sample, layout->util_sample_pid - 8u, sim_busy_percent(call) * 100);
		put_u32(sample, layout->util_sample_pid, pids[i]);
	}
	put_u32(params, SAMPLES_COUNT, count);
	return NV_OK;
}

/* Sizes of 0 that depend on the version are in escape.c, control_size(). */
const struct sim_control sim_memory_controls[] = {
	{ NV2080_CTRL_CMD_FB_GET_INFO, FB_INFO_V1_SIZE, fb_get_info_v1, "FB_GET_INFO" },
	{ NV2080_CTRL_CMD_FB_GET_INFO_V2, 0, fb_get_info_v2, "FB_GET_INFO_V2" },
	{ NV2080_CTRL_CMD_GPU_GET_PIDS, PIDS_SIZE, gpu_get_pids, "GPU_GET_PIDS" },
	{ NV2080_CTRL_CMD_GPU_GET_PID_INFO, PID_INFO_SIZE, gpu_get_pid_info, "GPU_GET_PID_INFO" },
	{ NV2080_CTRL_CMD_PERF_GET_GPUMON_PERFMON_UTIL_SAMPLES_V2, 0, util_samples, "UTIL_SAMPLES_V2" },
	{ 0, 0, NULL, NULL },
};
