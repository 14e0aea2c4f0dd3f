/* SPDX-License-Identifier: Apache-2.0 */
/* The slice this process belongs to: the ledger that lies beside our own file. Policy never comes from the
 * environment, which is the tenant's. */
#include "preload/slice.h"

#include <errno.h>
#include <string.h>

#include "base/syscall.h"
#include "preload/debug.h"
#include "preload/maps.h"
#include "preload/process.h"

struct slice slice = { .ledger = { .fd = -1, .slot = -1 } };

static char ledger_path[256];	/* empty: not found yet */

static void refuse(const char *what, int error)
{
	struct debug_line line = { 0 };

	if (!debug_is_on())
		return;
	debug_text(&line, "refused: ");
	debug_text(&line, what);
	debug_text(&line, " path=");
	debug_text(&line, ledger_path);
	debug_text(&line, " errno=");
	debug_number(&line, -error);
	debug_text(&line, " (was the program started by fracgpu run?)");
	debug_write(&line);
}

/* Keep the folder of the mapping that holds this very function. */
static bool find_path(const struct maps_entry *entry, void *arg)
{
	static const char name[] = "/ledger";
	uint64_t here = (uint64_t)(uintptr_t)find_path;
	const char *slash = strrchr(entry->path, '/');
	size_t folder;

	if (here < entry->start || here >= entry->end)
		return true;
	folder = slash ? (size_t)(slash - entry->path) : sizeof(ledger_path);
	if (folder + sizeof(name) <= sizeof(ledger_path)) {
		memcpy(ledger_path + folder, name, sizeof(name));
		memcpy(ledger_path, entry->path, folder);
	}
	return false;
}

/* Under the process' lock. */
static int open_slice(void)
{
	char driver[sizeof(slice.ledger.ledger->driver)];
	int r;

	if (!ledger_path[0]) {
		r = maps_each(find_path, NULL);
		if (!ledger_path[0]) {
			refuse("cannot find the library's own folder in /proc/self/maps", r);
			return r < 0 ? r : -ENOENT;
		}
	}
	r = ledger_open(&slice.ledger, ledger_path, true);
	if (r < 0) {
		refuse("cannot open the slice's ledger", r);
		return r;
	}
	memcpy(driver, slice.ledger.ledger->driver, sizeof(driver));
	driver[sizeof(driver) - 1] = '\0';
	r = engine_init(&slice.engine, driver, &slice.ledger);
	if (r < 0) {
		refuse("the ledger names a driver version that is not supported", r);
		ledger_close(&slice.ledger);
		return r;
	}
	slice.engine.show_host = slice.ledger.ledger->show_host;
	slice.is_ready = true;
	return 0;
}

int slice_attach_now(void)
{
	struct process *process;
	sigset_t saved;
	int r = 0;

	process_init();
	process = process_get();
	if (process_kind() == PROCESS_GUEST) {
		/* Its parent, whose memory and slot it uses, waits for it. */
		r = slice.is_ready ? slice.ledger.slot : -EACCES;
		if (r < 0)
			refuse("first call of a process on the GPU, but in a vfork child", -EACCES);
		return r;
	}
	process_lock(&saved);
	if (process_kind() == PROCESS_NEW) {
		slice.ledger.pid = 0;	/* not ours, even when the number is the same */
		slice.ledger.busy = 0;	/* nor is a hold of the parent's threads */
		process->pid = sys_getpid();
	}
	if (!slice.is_ready)
		r = open_slice();
	if (r == 0) {
		r = ledger_attach(&slice.ledger);
		if (r < 0)
			refuse("cannot attach to the slice's ledger", r);
		else
			r = slice.ledger.slot;
	}
	if (process_is_wiped()) {
		__atomic_store_n(&process->unchecked, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&process->attached, r < 0 ? 0 : (uint32_t)r + 1, __ATOMIC_RELEASE);
	}
	process_unlock(&saved);
	return r;
}

int slice_attach(void)
{
	enum { CHECK_EVERY = 64 };
	struct process *process = process_get();
	uint32_t attached = __atomic_load_n(&process->attached, __ATOMIC_ACQUIRE);

	/* A forked child finds 0 here. A vfork child finds its parent's slot, which is what it is to use. */
	if (attached && __atomic_add_fetch(&process->unchecked, 1, __ATOMIC_RELAXED) % CHECK_EVERY)
		return (int)attached - 1;
	return slice_attach_now();
}

int slice_owner(void)
{
	if (!__atomic_load_n(&slice.is_ready, __ATOMIC_RELAXED) || slice.ledger.slot < 0)
		return -1;
	return process_kind() == PROCESS_NEW ? -1 : slice.ledger.slot;
}
