/* SPDX-License-Identifier: Apache-2.0 */
/* Prints docs/supported-calls.md from the tables of src/abi. With a file name: says whether that page is current. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi/calls.h"
#include "base/cleanup.h"

static const char *effect_word(enum abi_effect effect)
{
	switch (effect) {
	case ABI_PASS:
		return "passes";
	case ABI_REFUSE:
		return "refused";
	case ABI_RM_ALLOC:
	case ABI_RM_CONTROL:
		return "by class or command";
	case ABI_RM_FREE:
		return "gives charges back";
	case ABI_RM_DUP:
		return "the charge stays until the last handle is gone";
	case ABI_VID_HEAP:
		return "memory as in class 0x40, or refused";
	case ABI_ALLOC_MEMORY:
		return "system memory passes, video memory is refused";
	case ABI_CLASS_CLIENT:
		return "runs in the caller";
	case ABI_CLASS_DEVICE:
	case ABI_CLASS_SUBDEVICE:
		return "noted: says which GPU";
	case ABI_CLASS_VIDMEM:
		return "**charged**";
	case ABI_CLASS_REFERENCE:
		return "keeps memory: its charge stays, or refused";
	case ABI_CLASS_GROUP:
	case ABI_CLASS_CHANNEL:
		return "noted: gated";
	case ABI_VIEW_FB_INFO_V1:
	case ABI_VIEW_FB_INFO_V2:
		return "answer shows the slice's memory";
	case ABI_VIEW_PIDS:
	case ABI_VIEW_PID_INFO:
	case ABI_VIEW_UTIL_SAMPLES:
		return "answer shows the slice's processes";
	case ABI_SCHED_DISABLE:
	case ABI_SCHED_ENABLE:
	case ABI_SCHED_TIMESLICE:
		return "scheduling: the slice's own channels only, or answered without effect";
	case ABI_EXPORT:
		return "the charge stays";
	case ABI_IMPORT:
		return "passes: the exporter's charge stays";
	case ABI_UVM_INITIALIZE:
		return "runs with HMM off";
	case ABI_UVM_MAP_EXTERNAL:
		return "the mapping keeps the charge";
	case ABI_UVM_UNMAP_EXTERNAL:
	case ABI_UVM_FREE:
		return "gives charges back";
	}
	return "?";
}

static void print_head(FILE *out)
{
	fprintf(out,
		"<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
		"<!-- Made by gen-supported-calls from the tables of src/abi: do not edit. -->\n"
		"# Supported drivers and calls\n\n"
		"Drivers: %s. Another version is refused.\n\n"
		"A call, a class or a UVM request that stands in no table is refused. A control that stands in no\n"
		"table passes, unless bits 15 and 14 of its number are set. docs/howto-add-call.md says how to add a row.\n\n",
		abi_supported());
}

static void print_calls(FILE *out)
{
	size_t count;
	const struct abi_call *calls = abi_calls(&count);

	fputs("## System calls of /dev/nvidiactl and /dev/nvidiaN\n\n"
	      "| number | name | on | size | what we do | source |\n|---|---|---|---|---|---|\n", out);
	for (size_t i = 0; i < count; i++) {
		const struct abi_call *c = &calls[i];
		char size[16];

		if (c->size_in_layout)
			snprintf(size, sizeof(size), "by version");
		else if (c->size)
			snprintf(size, sizeof(size), "%u", c->size);
		else
			snprintf(size, sizeof(size), "any");
		fprintf(out, "| 0x%02x | `%s` | %s%s%s | %s | %s | %s |\n", c->nr, c->name, c->on_ctl ? "ctl" : "",
			c->on_ctl && c->on_gpu ? ", " : "", c->on_gpu ? "gpu" : "", size, effect_word(c->effect),
			c->source);
	}
}

static void print_rows(FILE *out, const char *title, const struct abi_row *rows, size_t count, int digits)
{
	fprintf(out, "\n## %s\n\n| number | name | what we do | source |\n|---|---|---|---|\n", title);
	for (size_t i = 0; i < count; i++)
		fprintf(out, "| 0x%0*x | `%s` | %s | %s |\n", digits, rows[i].number, rows[i].name,
			effect_word(rows[i].effect), rows[i].source);
}

static void print_page(FILE *out)
{
	const struct abi_row *rows;
	size_t count;

	print_head(out);
	print_calls(out);
	rows = abi_classes(&count);
	print_rows(out, "Classes of NV_ESC_RM_ALLOC", rows, count, 4);
	rows = abi_controls(&count);
	print_rows(out, "Commands of NV_ESC_RM_CONTROL", rows, count, 8);
	rows = abi_uvm_calls(&count);
	print_rows(out, "Requests of /dev/nvidia-uvm and /dev/nvidia-uvm-tools", rows, count, 2);
}

/* Whether a file holds exactly this text. */
static bool is_same(const char *path, const char *text, size_t size)
{
	cleanup_file FILE *file = fopen(path, "re");
	cleanup_free char *found = NULL;

	if (!file)
		return false;
	found = malloc(size + 1);
	return found && fread(found, 1, size + 1, file) == size && !memcmp(found, text, size);
}

int main(int argc, char **argv)
{
	cleanup_free char *text = NULL;
	size_t size = 0;
	FILE *page;

	if (argc > 2) {
		fprintf(stderr, "usage: gen-supported-calls [FILE]\n");
		return 2;
	}
	page = open_memstream(&text, &size);
	if (!page) {
		perror("gen-supported-calls");
		return 1;
	}
	print_page(page);
	if (fclose(page)) {
		perror("gen-supported-calls");
		return 1;
	}
	if (argc == 1)
		return fwrite(text, 1, size, stdout) == size && !fflush(stdout) ? 0 : 1;
	if (is_same(argv[1], text, size))
		return 0;
	fprintf(stderr, "%s is not current: gen-supported-calls > %s\n", argv[1], argv[1]);
	return 1;
}
