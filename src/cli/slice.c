/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a slice's ledger without its lock. */
#include "cli/slice.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/options.h"

const char *const slice_event_names[LEDGER_EVENTS] = {
	[LEDGER_REFUSED_LIMIT] = "refused_limit",
	[LEDGER_REFUSED_CLASS] = "refused_class",
	[LEDGER_REFUSED_CALL] = "refused_call",
	[LEDGER_REFUSED_CONTROL] = "refused_control",
	[LEDGER_REFUSED_FULL] = "refused_full",
	[LEDGER_BAD_ARGUMENT] = "bad_argument",
	[LEDGER_BREACH] = "breach",
	[LEDGER_REPAIR] = "repair",
};

/* What dead processes held is given back when a process of the slice next asks for memory. We do the same, to
 * a copy, so that nobody has to ask. The copy is taken without the lock: account_repair() makes it agree with
 * itself. */
static void drop_dead(struct slice *slice, struct ledger_handle *h)
{
	struct account *account = &slice->ledger->account;
	bool is_file = strcmp(slice->ledger->door, "preload") == 0;
	bool anybody = false;

	for (uint16_t i = 0; i < LEDGER_SLOTS; i++) {
		slice->live[i] = slice->ledger->slots[i].state == SLOT_LIVE;
		if (slice->live[i] && is_file)
			slice->live[i] = ledger_slot_is_alive(h, i);
		anybody |= slice->live[i];
		slice->pids[i] = !slice->live[i] ? 0
				 : is_file	 ? ledger_slot_pid(h, i)
						 : slice->ledger->slots[i].pid;
	}
	if (!is_file)
		return; /* the supervisor publishes sums only, and sees its processes die */
	account_repair(account);
	for (uint16_t i = 0; i < LEDGER_SLOTS; i++) {
		if (slice->ledger->slots[i].state == SLOT_LIVE && !slice->live[i])
			account_drop_owner(account, i);
	}
	if (!anybody)
		account_drop_orphans(account);
}

int slice_read(struct slice *slice, const char *path)
{
	char file[RUNTIME_PATH + SLICE_NAME + sizeof("/ledger")];
	struct ledger_handle h;
	int r;

	snprintf(file, sizeof(file), "%s/ledger", path);
	r = ledger_open(&h, file, false);
	if (r < 0)
		return r;
	slice->ledger = malloc(sizeof(*slice->ledger));
	if (!slice->ledger) {
		ledger_close(&h);
		return -ENOMEM;
	}
	memcpy(slice->ledger, h.ledger, sizeof(*slice->ledger));
	slice->ledger->name[LEDGER_NAME - 1] = '\0';
	drop_dead(slice, &h);
	ledger_close(&h);
	return 0;
}

int slice_find(const char *name, char ret_path[SLICE_PATH], struct error *err)
{
	char runtime[RUNTIME_PATH];
	cleanup_close int lock = -1;
	int r = runtime_path(runtime, err);

	if (r < 0)
		return r;
	lock = runtime_lock(runtime, true); /* slices that are being made are not seen */
	if (lock < 0)
		return error_set(err, lock, "cannot lock '%s/.lock': %s", runtime, strerror(-lock));
	snprintf(ret_path, SLICE_PATH, "%s/%s", runtime, name);
	if (!slice_name_is_valid(name) || !slice_is_alive(ret_path))
		return error_set(err, -ENOENT, "there is no such slice (see 'fracgpu ps')");
	return 0;
}

void slice_done(struct slice *slice)
{
	free(slice->ledger);
	slice->ledger = NULL;
}

int slice_complain(const char *name, int code)
{
	return complain("cannot read the slice '%s': %s", name,
			code == -EPROTO ? "its ledger is of another version of fracgpu" : strerror(-code));
}

uint32_t slice_gpu_count(const struct slice *slice)
{
	uint32_t count = slice->ledger->account.gpu_count;

	return count < ACCOUNT_GPUS ? count : ACCOUNT_GPUS;
}

json_t *slice_processes_json(const struct slice *slice)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < LEDGER_SLOTS; i++) {
		const struct ledger_slot *slot = &slice->ledger->slots[i];
		char name[sizeof(slot->name) + 1] = { 0 };

		if (!slice->live[i])
			continue;
		memcpy(name, slot->name, sizeof(slot->name));
		for (char *c = name; *c; c++) { /* a process calls itself what it likes; JSON is UTF-8 */
			if (!isprint((unsigned char)*c))
				*c = '?';
		}
		json_array_append_new(list, json_pack("{s:I,s:s,s:I}", "pid", (json_int_t)slice->pids[i],
						      "name", name, "calls", (json_int_t)slot->calls));
	}
	return list;
}
