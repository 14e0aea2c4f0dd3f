/* SPDX-License-Identifier: Apache-2.0 */
/* Our own metrics. One row a metric; a row writes all its samples, as the format wants them together. */
#include "daemon/prometheus.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/slice.h"
#include "daemon/prometheus_text.h"

void text_family(FILE *to, const char *name, const char *type, const char *help)
{
	fprintf(to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void text_label(FILE *to, int *count, const char *name, const char *value)
{
	if (!*value)
		return;
	fprintf(to, "%s%s=\"", (*count)++ ? "," : "{", name);
	for (; *value; value++) {
		if (*value == '\n')
			fputs("\\n", to);
		else if (*value == '\\' || *value == '"')
			fprintf(to, "\\%c", *value);
		else
			fputc(*value, to);
	}
	fputc('"', to);
}

void text_end(FILE *to, int count, struct text_value v)
{
	fputs(count ? "} " : " ", to);
	if (v.unit == TEXT_NS)
		fprintf(to, "%" PRIu64 ".%09" PRIu64 "\n", v.value / 1000000000, v.value % 1000000000);
	else if (v.unit == TEXT_PERMILLE)
		fprintf(to, "%" PRIu64 ".%03" PRIu64 "\n", v.value / 1000, v.value % 1000);
	else if (v.unit == TEXT_PERCENT)
		fprintf(to, "%" PRIu64 ".%" PRIu64 "\n", v.value / 10, v.value % 10);
	else
		fprintf(to, "%" PRIu64 "\n", v.value);
}

static int slice_labels(FILE *to, const struct figures_slice *s)
{
	int count = 0;

	text_label(to, &count, "slice", s->name);
	text_label(to, &count, "container", s->container);
	text_label(to, &count, "pod", s->pod);
	text_label(to, &count, "namespace", s->pod_namespace);
	return count;
}

static void gpu_labels(FILE *to, int *count, uint32_t index, const char *uuid)
{
	char number[16];

	snprintf(number, sizeof(number), "%" PRIu32, index);
	text_label(to, count, "gpu", number);
	text_label(to, count, "uuid", uuid);
}

/* Of a slice on a GPU. Getters return false where there is nothing to be shown. */
struct gpu_row {
	const char *name, *type, *help;
	enum text_unit unit;
	bool (*get)(const struct figures_gpu *gpu, uint64_t *ret);
};

#define GETTER(field)                                                                                        \
	static bool get_##field(const struct figures_gpu *gpu, uint64_t *ret)                                \
	{                                                                                                    \
		*ret = gpu->field;                                                                           \
		return true;                                                                                 \
	}
GETTER(used_bytes)
GETTER(limit_bytes)
GETTER(peak_bytes)
GETTER(refusals)
GETTER(throttled_ns)
GETTER(switches)

static bool get_busy(const struct figures_gpu *gpu, uint64_t *ret)
{
	*ret = gpu->busy_ns;
	return gpu->is_measured;
}

static const struct gpu_row gpu_rows[] = {
	{ "fracgpu_slice_memory_used_bytes", "gauge", "GPU memory that the slice holds.", TEXT_NUMBER,
	  get_used_bytes },
	{ "fracgpu_slice_memory_limit_bytes", "gauge", "GPU memory that the slice may hold.", TEXT_NUMBER,
	  get_limit_bytes },
	{ "fracgpu_slice_memory_peak_bytes", "gauge", "GPU memory that the slice held at the most.",
	  TEXT_NUMBER, get_peak_bytes },
	{ "fracgpu_slice_memory_refusals_total", "counter",
	  "Requests for memory refused because of the limit.", TEXT_NUMBER, get_refusals },
	{ "fracgpu_slice_gpu_seconds_total", "counter",
	  "Time on the GPU; not there where it is not measured.", TEXT_NS, get_busy },
	{ "fracgpu_slice_throttled_seconds_total", "counter",
	  "Time that the slice wanted to run and its cap kept it off the GPU.", TEXT_NS, get_throttled_ns },
	{ "fracgpu_slice_gate_switches_total", "counter",
	  "How often the slice was taken off the GPU or let on again.", TEXT_NUMBER, get_switches },
};

static void write_gpu_row(FILE *to, const struct figures *f, const struct gpu_row *row)
{
	text_family(to, row->name, row->type, row->help);
	for (uint32_t i = 0; i < f->slice_count; i++) {
		const struct figures_slice *s = &f->slices[i];

		for (uint32_t k = 0; k < s->gpu_count; k++) {
			struct text_value v = { .unit = row->unit };
			int count;

			if (!row->get(&s->gpus[k], &v.value))
				continue;
			fputs(row->name, to);
			count = slice_labels(to, s);
			gpu_labels(to, &count, s->gpus[k].index, s->gpus[k].uuid);
			text_end(to, count, v);
		}
	}
}

struct slice_row {
	const char *name, *type, *help;
	enum text_unit unit;
	bool (*get)(const struct figures_slice *s, uint64_t *ret);
};

static bool get_paused(const struct figures_slice *s, uint64_t *ret)
{
	*ret = s->is_paused;
	return true;
}

static bool get_breached(const struct figures_slice *s, uint64_t *ret)
{
	*ret = s->is_breached;
	return true;
}

static bool get_processes(const struct figures_slice *s, uint64_t *ret)
{
	*ret = s->processes;
	return true;
}

static bool get_cap(const struct figures_slice *s, uint64_t *ret)
{
	*ret = s->cap_permille;
	return s->cap_permille != 0;
}

static const struct slice_row slice_rows[] = {
	{ "fracgpu_slice_paused", "gauge", "1 while the slice is paused.", TEXT_NUMBER, get_paused },
	{ "fracgpu_slice_breached", "gauge",
	  "1 when the driver says that the slice holds more than it was given.", TEXT_NUMBER, get_breached },
	{ "fracgpu_slice_processes", "gauge", "Processes of the slice that use a GPU.", TEXT_NUMBER,
	  get_processes },
	{ "fracgpu_slice_compute_limit_ratio", "gauge",
	  "Share of GPU time that the slice may have; not there without a cap.", TEXT_PERMILLE, get_cap },
};

static void write_slice_row(FILE *to, const struct figures *f, const struct slice_row *row)
{
	text_family(to, row->name, row->type, row->help);
	for (uint32_t i = 0; i < f->slice_count; i++) {
		struct text_value v = { .unit = row->unit };

		if (!row->get(&f->slices[i], &v.value))
			continue;
		fputs(row->name, to);
		text_end(to, slice_labels(to, &f->slices[i]), v);
	}
}

static void write_events(FILE *to, const struct figures *f)
{
	static const char name[] = "fracgpu_slice_events_total";

	text_family(to, name, "counter", "Calls refused, and other things that should not happen, by kind.");
	for (uint32_t i = 0; i < f->slice_count; i++) {
		for (int k = 0; k < LEDGER_EVENTS; k++) {
			int count;

			fputs(name, to);
			count = slice_labels(to, &f->slices[i]);
			text_label(to, &count, "event", slice_event_names[k]);
			text_end(to, count, (struct text_value){ f->slices[i].events[k], TEXT_NUMBER });
		}
	}
}

static void write_info(FILE *to, const struct figures *f)
{
	static const char name[] = "fracgpu_slice_info";

	text_family(to, name, "gauge",
		    "1; how the slice's calls reach fracgpu, and the driver version it goes by.");
	for (uint32_t i = 0; i < f->slice_count; i++) {
		int count;

		fputs(name, to);
		count = slice_labels(to, &f->slices[i]);
		text_label(to, &count, "door", f->slices[i].door);
		text_label(to, &count, "driver", f->slices[i].driver);
		text_end(to, count, (struct text_value){ 1, TEXT_NUMBER });
	}
}

static const struct {
	const char *name, *help;
	size_t offset;
} card_rows[] = {
	{ "fracgpu_gpu_memory_total_bytes", "Memory of the GPU.",
	  offsetof(struct figures_card, total_bytes) },
	{ "fracgpu_gpu_memory_given_bytes", "Sum of the limits of the slices on the GPU.",
	  offsetof(struct figures_card, given_bytes) },
	{ "fracgpu_gpu_memory_used_bytes", "Memory of the GPU that slices hold.",
	  offsetof(struct figures_card, used_bytes) },
};

static void write_cards(FILE *to, const struct figures *f)
{
	for (size_t row = 0; row < sizeof(card_rows) / sizeof(card_rows[0]); row++) {
		text_family(to, card_rows[row].name, "gauge", card_rows[row].help);
		for (uint32_t i = 0; i < f->card_count; i++) {
			struct text_value v = { .unit = TEXT_NUMBER };
			int count = 0;

			memcpy(&v.value, (const char *)&f->cards[i] + card_rows[row].offset, sizeof(v.value));
			fputs(card_rows[row].name, to);
			gpu_labels(to, &count, f->cards[i].index, f->cards[i].uuid);
			text_label(to, &count, "model", f->cards[i].model);
			text_end(to, count, v);
		}
	}
}

static void write_one(FILE *to, const char *name, const char *type, const char *help, uint64_t value)
{
	text_family(to, name, type, help);
	fputs(name, to);
	text_end(to, 0, (struct text_value){ value, TEXT_NUMBER });
}

static void write_daemon(FILE *to, const struct figures *f)
{
	int count = 0;

	text_family(to, "fracgpu_build_info", "gauge", "1; the version of fracgpud.");
	fputs("fracgpu_build_info", to);
	text_label(to, &count, "version", FRACGPU_VERSION);
	text_end(to, count, (struct text_value){ 1, TEXT_NUMBER });
	write_one(to, "fracgpu_slices", "gauge", "Slices of this host that are shown.", f->slice_count);
	write_one(to, "fracgpu_slices_left_out", "gauge",
		  "Slices that are not shown: too many, or not readable.", f->left_out + f->unreadable);
	write_one(to, "fracgpu_handoffs_served_total", "counter",
		  "Hand-offs of containers, and of programs started in them, that were taken.", f->served);
	write_one(to, "fracgpu_handoffs_refused_total", "counter",
		  "Hand-offs refused; their containers were ended.", f->refused);
}

int prometheus_write(const struct figures *f, enum prometheus_names names, const char *node, char **ret_text,
		     size_t *ret_size)
{
	FILE *to = open_memstream(ret_text, ret_size);

	if (!to)
		return -ENOMEM;
	write_daemon(to, f);
	write_cards(to, f);
	for (size_t i = 0; i < sizeof(gpu_rows) / sizeof(gpu_rows[0]); i++)
		write_gpu_row(to, f, &gpu_rows[i]);
	for (size_t i = 0; i < sizeof(slice_rows) / sizeof(slice_rows[0]); i++)
		write_slice_row(to, f, &slice_rows[i]);
	write_events(to, f);
	write_info(to, f);
	if (names != PROMETHEUS_OURS)
		hami_write(to, f, node, names == PROMETHEUS_HAMI_LEGACY);
	if (fclose(to) == 0)
		return 0;
	free(*ret_text);
	return -ENOMEM;
}
