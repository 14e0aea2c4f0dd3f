/* SPDX-License-Identifier: Apache-2.0 */
/* fracgpu ps: the slices of this user, what they may hold, what they hold, and whose they are. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <libsmartcols.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "cli/options.h"
#include "cli/runtime.h"
#include "cli/slice.h"

static const char *opt_json;

static const struct option_row options[] = {
	{ "json", NULL, "print JSON, sizes in bytes", &opt_json },
	{ NULL },
};

enum {
	COLUMN_SLICE,
	COLUMN_DOOR,
	COLUMN_GPU,
	COLUMN_LIMIT,
	COLUMN_USED,
	COLUMN_PEAK,
	COLUMN_REFUSED,
	COLUMN_PIDS
};

static const char *const columns[] = { "SLICE", "DOOR", "GPU", "LIMIT", "USED", "PEAK", "REFUSED", "PIDS" };

struct output {
	struct libscols_table *table;
	json_t *slices;
	int unreadable;
};

static void list_pids(const struct slice *slice, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < LEDGER_SLOTS && used + 16 < size; i++) {
		if (slice->pids[i])
			used += (size_t)snprintf(text + used, size - used, "%s%" PRId32, used ? "," : "",
						 slice->pids[i]);
	}
}

static void set_size(struct libscols_line *line, size_t column, uint64_t bytes)
{
	char text[SIZE_TEXT];

	scols_line_set_data(line, column, size_format(text, bytes));
}

static int add_lines(struct output *out, const struct slice *slice)
{
	const struct account *account = &slice->ledger->account;
	char pids[16 * LEDGER_SLOTS], number[24];

	list_pids(slice, pids, sizeof(pids));
	for (uint32_t gpu = 0; gpu < slice_gpu_count(slice); gpu++) {
		struct libscols_line *line;

		if (!account->limit_bytes[gpu])
			continue;
		line = scols_table_new_line(out->table, NULL);
		if (!line)
			return -ENOMEM;
		scols_line_set_data(line, COLUMN_SLICE, slice->ledger->name);
		scols_line_set_data(line, COLUMN_DOOR, slice->ledger->door);
		snprintf(number, sizeof(number), "%" PRIu32, slice->ledger->gpus[gpu].index);
		scols_line_set_data(line, COLUMN_GPU, number);
		set_size(line, COLUMN_LIMIT, account->limit_bytes[gpu]);
		set_size(line, COLUMN_USED, account->used_bytes[gpu]);
		set_size(line, COLUMN_PEAK, account->peak_bytes[gpu]);
		snprintf(number, sizeof(number), "%" PRIu64, account->refusals[gpu]);
		scols_line_set_data(line, COLUMN_REFUSED, number);
		scols_line_set_data(line, COLUMN_PIDS, pids);
	}
	return 0;
}

static json_t *gpus_json(const struct slice *slice)
{
	const struct account *account = &slice->ledger->account;
	json_t *list = json_array();

	for (uint32_t gpu = 0; gpu < slice_gpu_count(slice); gpu++) {
		const struct ledger_gpu *card = &slice->ledger->gpus[gpu];

		if (!account->limit_bytes[gpu])
			continue;
		json_array_append_new(list, json_pack("{s:I,s:s,s:s,s:I,s:I,s:I,s:I}", "index",
						      (json_int_t)card->index, "uuid", card->uuid, "name",
						      card->name, "limit_bytes",
						      (json_int_t)account->limit_bytes[gpu], "used_bytes",
						      (json_int_t)account->used_bytes[gpu], "peak_bytes",
						      (json_int_t)account->peak_bytes[gpu], "refusals",
						      (json_int_t)account->refusals[gpu]));
	}
	return list;
}

static int add_json(struct output *out, const struct slice *slice)
{
	json_t *events = json_object();

	for (int i = 0; i < LEDGER_EVENTS; i++)
		json_object_set_new(events, slice_event_names[i],
				    json_integer((json_int_t)slice->ledger->events[i]));
	if (json_array_append_new(out->slices,
				  json_pack("{s:s,s:s,s:s,s:I,s:b,s:o,s:o,s:o}", "name", slice->ledger->name,
					    "door", slice->ledger->door, "driver", slice->ledger->driver,
					    "created", (json_int_t)slice->ledger->created_s, "breached",
					    (int)(slice->ledger->breached != 0), "gpus", gpus_json(slice),
					    "processes", slice_processes_json(slice), "events", events)) < 0)
		return -ENOMEM;
	return 0;
}

static int show(const char *path, const char *name, void *arg)
{
	struct output *out = arg;
	struct slice slice = { 0 };
	int r;

	if (!slice_is_alive(path))
		return 0;
	r = slice_read(&slice, path);
	if (r == 0)
		r = out->slices ? add_json(out, &slice) : add_lines(out, &slice);
	slice_done(&slice);
	if (r == -ENOENT)
		return 0; /* it is being made, or went away */
	if (r < 0) {
		out->unreadable++;
		slice_complain(name, r);
	}
	return 0;
}

static struct libscols_table *make_table(void)
{
	struct libscols_table *table = scols_new_table();

	for (size_t i = 0; table && i < sizeof(columns) / sizeof(columns[0]); i++)
		scols_table_new_column(table, columns[i], 0,
				       i >= COLUMN_GPU && i <= COLUMN_REFUSED ? SCOLS_FL_RIGHT : 0);
	return table;
}

static int ps(int count, char **words)
{
	cleanup_close int lock = -1;
	struct output out = { 0 };
	char runtime[RUNTIME_PATH];
	struct error err;

	if (runtime_path(runtime, &err) < 0)
		return complain("%s", err.text);
	if (opt_json)
		out.slices = json_array();
	else
		out.table = make_table();
	if (!out.slices && !out.table)
		return complain("out of memory");
	lock = runtime_lock(runtime, true);
	if (lock < 0)
		return complain("cannot lock '%s/.lock': %s", runtime, strerror(-lock));
	slices_each(runtime, show, &out);
	if (out.slices) {
		json_t *all = json_pack("{s:o}", "slices", out.slices);

		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(all);
	} else {
		scols_print_table(out.table);
		scols_unref_table(out.table);
	}
	return out.unreadable ? EXIT_FAILED : 0;
}

const struct verb verb_ps = {
	.name = "ps",
	.synopsis = "[OPTIONS]",
	.summary = "Show the slices that run now, and what they hold",
	.options = options,
	.run = ps,
};
