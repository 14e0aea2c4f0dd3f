/* SPDX-License-Identifier: Apache-2.0 */
/* The whole state as JSON, for tests: what the file fracgpu-sim-state reads as. */
#include <inttypes.h>
#include <stdio.h>

#include "sim/rm.h"

static uint64_t on_ns(const struct sim_object *channel)
{
	bool on = channel->enabled && channel->scheduled;

	return channel->on_ns + (on ? sim_now_ns() - channel->on_since_ns : 0);
}

static void print_gpus(FILE *f, struct sim *sim)
{
	fprintf(f, "  \"gpus\": [");
	for (uint32_t i = 0; i < sim->gpu_count; i++) {
		struct sim_gpu *gpu = &sim->gpus[i];
		uint64_t managed = sim_managed(sim, gpu);

		if (gpu->used_bytes + managed > gpu->peak_bytes)
			gpu->peak_bytes = gpu->used_bytes + managed;
		fprintf(f, "%s\n    {\"model\": \"%s\", \"uuid\": \"%s\", \"total\": %" PRIu64 ", \"heap\": %" PRIu64
			   ", \"used\": %" PRIu64 ", \"managed\": %" PRIu64 ", \"free\": %" PRIu64 ", \"peak\": %" PRIu64 "}",
			i ? "," : "", gpu->model.id, gpu->uuid, gpu->model.total_bytes, sim_gpu_heap(gpu), gpu->used_bytes,
			managed, sim_gpu_free(sim, gpu), gpu->peak_bytes);
	}
	fprintf(f, "\n  ],\n");
}

static void print_channels(FILE *f, const struct sim_client *client)
{
	const char *comma = "";

	for (const struct sim_object *o = client->objects; o; o = o->hh.next) {
		if (!o->is_channel)
			continue;
		fprintf(f, "%s{\"handle\": %u, \"group\": %u, \"enabled\": %s, \"scheduled\": %s, \"on_ns\": %" PRIu64 "}", comma,
			o->handle, o->parent && o->parent->is_group ? o->parent->handle : 0, o->enabled ? "true" : "false",
			o->scheduled ? "true" : "false", on_ns(o));
		comma = ", ";
	}
}

static void print_groups(FILE *f, const struct sim_client *client)
{
	const char *comma = "";

	for (const struct sim_object *o = client->objects; o; o = o->hh.next) {
		if (!o->is_group)
			continue;
		fprintf(f, "%s{\"handle\": %u, \"timeslice_us\": %" PRIu64 "}", comma, o->handle, o->timeslice_us);
		comma = ", ";
	}
}

static void print_clients(FILE *f, const struct sim *sim)
{
	const char *comma = "";

	fprintf(f, "  \"clients\": [");
	for (const struct sim_client *client = sim->clients; client; client = client->hh.next) {
		uint64_t bytes = 0;
		uint32_t objects = 0;

		for (const struct sim_object *o = client->objects; o; o = o->hh.next) {
			objects++;
			bytes += o->memory && o->class_id == 0x40 ? o->memory->bytes : 0;
		}
		fprintf(f, "%s\n    {\"handle\": %u, \"pid\": %d, \"file\": %u, \"objects\": %u, \"bytes\": %" PRIu64
			   ", \"groups\": [", comma, client->handle, client->pid, client->file->serial, objects, bytes);
		print_groups(f, client);
		fprintf(f, "], \"channels\": [");
		print_channels(f, client);
		fprintf(f, "]}");
		comma = ",";
	}
	fprintf(f, "\n  ],\n");
}

static void print_files(FILE *f, struct sim *sim)
{
	const char *comma = "";
	struct sim_file *file;

	fprintf(f, "  \"uvm\": [");
	pthread_mutex_lock(&sim->files_lock);
	for (file = sim->files; file; file = file->next) {
		uint64_t held = 0;

		if (!file->initialized)
			continue;
		for (const struct sim_range *m = file->mappings; m; m = m->next)
			held += m->memory ? m->memory->bytes : 0;
		fprintf(f, "%s\n    {\"pid\": %d, \"hmm\": %s, \"managed\": %" PRIu64 ", \"mapped\": %" PRIu64 "}", comma,
			file->pid,
			file->uvm_flags & UVM_INIT_FLAGS_DISABLE_HMM ? "false" : "true", file->managed_bytes, held);
		comma = ",";
	}
	pthread_mutex_unlock(&sim->files_lock);
	fprintf(f, "\n  ]\n");
}

char *sim_state(struct sim *sim)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	sim_lock(sim);
	fprintf(f, "{\n  \"driver\": \"%s\",\n", sim->version_text);
	print_gpus(f, sim);
	print_clients(f, sim);
	print_files(f, sim);
	fprintf(f, "}\n");
	sim_unlock(sim);
	fclose(f);
	return text;
}
