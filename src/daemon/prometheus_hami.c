/* SPDX-License-Identifier: Apache-2.0 */
/* The same figures by the names of HAMi's vGPUmonitor, so that dashboards made for it go on working: names,
 * labels and units from Project-HAMi/HAMi, cmd/vGPUmonitor/metrics.go (and, for the older names, what it has
 * for --legacy-metrics). What we do not know (temperature, power, parts of a context's memory) is not there.
 */
#include <inttypes.h>
#include <stdio.h>

#include "daemon/prometheus_text.h"

/* Its "ratio" is per cent. */
enum what { USED, LIMIT, BUSY };

struct labels {
	const char *pod_namespace, *pod, *container, *index, *uuid;
};

static const struct labels new_labels = { "namespace", "pod", "container", "vdevice_index", "device_uuid" };
static const struct labels old_labels = { "podnamespace", "podname", "ctrname", "vdeviceid", "deviceuuid" };

static const struct {
	const char *name, *help;
	enum what what;
	bool is_legacy;
} rows[] = {
	{ "hami_vgpu_memory_used_bytes", "GPU memory that the slice holds.", USED, false },
	{ "hami_vgpu_memory_limit_bytes", "GPU memory that the slice may hold.", LIMIT, false },
	{ "hami_container_device_memory_bytes", "GPU memory that the slice holds.", USED, false },
	{ "hami_container_device_utilization_ratio", "GPU time of the slice in the last step (0-100).", BUSY,
	  false },
	{ "vGPU_device_memory_usage_in_bytes", "GPU memory that the slice holds.", USED, true },
	{ "vGPU_device_memory_limit_in_bytes", "GPU memory that the slice may hold.", LIMIT, true },
	{ "Device_utilization_desc_of_container", "GPU time of the slice in the last step (0-100).", BUSY,
	  true },
};

static const struct {
	const char *name, *help, *node, *index, *uuid, *type;
	enum what what;
	bool is_legacy;
} host_rows[] = {
	{ "hami_host_gpu_memory_used_bytes", "Memory of the GPU that slices hold.", "node", "device_index",
	  "device_uuid", "device_type", USED, false },
	{ "hami_host_gpu_utilization_ratio", "GPU time of all slices in the last step (0-100).", "node",
	  "device_index", "device_uuid", "device_type", BUSY, false },
	{ "HostGPUMemoryUsage", "Memory of the GPU that slices hold.", "nodeid", "deviceidx", "deviceuuid",
	  "devicetype", USED, true },
	{ "HostCoreUtilization", "GPU time of all slices in the last step (0-100).", "nodeid", "deviceidx",
	  "deviceuuid", "devicetype", BUSY, true },
};

static void add_number(FILE *to, int *count, const char *name, uint32_t number)
{
	char text[16];

	snprintf(text, sizeof(text), "%" PRIu32, number);
	text_label(to, count, name, text);
}

static void write_sample(FILE *to, const char *name, const struct labels *l, const struct figures_slice *s,
			 uint32_t index, struct text_value v)
{
	int count = 0;

	fputs(name, to);
	text_label(to, &count, "zone", "vGPU");
	text_label(to, &count, l->pod_namespace, s->pod_namespace);
	text_label(to, &count, l->pod, s->pod);
	/* outside of pods names may be given twice; slices' names are not */
	text_label(to, &count, l->container, s->pod[0] ? s->container : s->name);
	add_number(to, &count, l->index, index);
	text_label(to, &count, l->uuid, s->gpus[index].uuid);
	text_end(to, count, v);
}

static bool value_of(const struct figures_gpu *gpu, enum what what, struct text_value *ret)
{
	ret->unit = what == BUSY ? TEXT_PERCENT : TEXT_NUMBER;
	if (what == USED)
		ret->value = gpu->used_bytes;
	else if (what == LIMIT)
		ret->value = gpu->limit_bytes;
	else
		ret->value = gpu->busy_permille > 0 ? (uint64_t)gpu->busy_permille : 0;
	return what != BUSY || gpu->busy_permille >= 0;
}

static void write_slices(FILE *to, const struct figures *f, size_t row)
{
	const struct labels *labels = rows[row].is_legacy ? &old_labels : &new_labels;
	struct text_value v;

	text_family(to, rows[row].name, "gauge", rows[row].help);
	for (uint32_t i = 0; i < f->slice_count; i++) {
		const struct figures_slice *s = &f->slices[i];

		for (uint32_t k = 0; k < s->gpu_count && !s->is_twin; k++) {
			if (value_of(&s->gpus[k], rows[row].what, &v))
				write_sample(to, rows[row].name, labels, s, k, v);
		}
	}
}

static void write_host(FILE *to, const struct figures *f, const char *node, size_t row)
{
	text_family(to, host_rows[row].name, "gauge", host_rows[row].help);
	for (uint32_t i = 0; i < f->card_count; i++) {
		const struct figures_card *card = &f->cards[i];
		bool is_busy = host_rows[row].what == BUSY;
		struct text_value v = { .unit = is_busy ? TEXT_PERCENT : TEXT_NUMBER };
		char type[sizeof(card->model) + sizeof("NVIDIA-")];
		int count = 0;

		if (is_busy && card->busy_permille < 0)
			continue;
		v.value = is_busy ? (uint64_t)card->busy_permille : card->used_bytes;
		fputs(host_rows[row].name, to);
		text_label(to, &count, "zone", "vGPU");
		text_label(to, &count, host_rows[row].node, node);
		add_number(to, &count, host_rows[row].index, card->index);
		text_label(to, &count, host_rows[row].uuid, card->uuid);
		snprintf(type, sizeof(type), "NVIDIA-%s", card->model);
		text_label(to, &count, host_rows[row].type, type);
		text_end(to, count, v);
	}
}

void hami_write(FILE *to, const struct figures *f, const char *node, bool is_legacy)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (is_legacy || !rows[i].is_legacy)
			write_slices(to, f, i);
	}
	for (size_t i = 0; i < sizeof(host_rows) / sizeof(host_rows[0]); i++) {
		if (is_legacy || !host_rows[i].is_legacy)
			write_host(to, f, node, i);
	}
}
