/* SPDX-License-Identifier: Apache-2.0 */
/* Timeslices of a slice's groups of channels, set through the descriptors of its own processes: the driver takes
 * SET_TIMESLICE for an object from the file that its client was made through, and from no other (H200, 580.159.04: status 0x23
 * through ours, 0 through a copy of the tenant's). */
#include "gate/timeslice.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "abi/calls.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "gate/internal.h"

enum { GROUPS_MAX = 256, ENGINE_GR_LAST = 8 };

struct group {
	uint32_t client, handle;
	uint16_t owner;
};

struct groups {
	uint32_t gpu;		/* of the account */
	uint32_t count;
	struct group list[GROUPS_MAX];
};

static int note_group(struct hold *hold, void *arg)
{
	struct groups *groups = arg;

	if (hold->gpu == groups->gpu && hold->engine <= ENGINE_GR_LAST && groups->count < GROUPS_MAX)
		groups->list[groups->count++] = (struct group){ hold->client, hold->handle, hold->owner };
	return 0;
}

/* Returns the status word, or negative errno. A copy of a tenant's file, for this one call. */
static int call_through(struct rm *rm, int fd, const struct group *group, uint64_t us)
{
	int own_fd = rm->ctl;
	uint32_t own = rm->client;
	int status;

	rm->ctl = fd;
	rm->client = group->client;
	status = rm_control(rm, group->handle, NVA06C_CTRL_CMD_SET_TIMESLICE, &us, sizeof(us));
	rm->ctl = own_fd;
	rm->client = own;
	return status;
}

/* Whether a process' descriptor is a way to the driver. */
static bool is_driver_file(int dir, const char *fd)
{
	static const char name[] = "/dev/nvidiactl";
	char target[sizeof(name)];

	return readlinkat(dir, fd, target, sizeof(target)) == (ssize_t)strlen(name) && !memcmp(target, name, strlen(name));
}

/* Through whichever descriptor of the process its client was made. Returns whether one was that. */
static bool set_group(struct rm *rm, int32_t pid, const struct group *group, uint64_t us)
{
	cleanup_close int pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	char path[32];
	bool is_set = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = pidfd < 0 ? NULL : opendir(path);
	if (!dir)
		return false;
	for (struct dirent *entry; !is_set && (entry = readdir(dir));) {
		cleanup_close int copy = -1;

		if (!is_driver_file(dirfd(dir), entry->d_name))
			continue;
		copy = (int)syscall(SYS_pidfd_getfd, pidfd, atoi(entry->d_name), 0);
		is_set = copy >= 0 && call_through(rm, copy, group, us) == NV_OK;
	}
	closedir(dir);
	return is_set;
}

uint32_t gate_timeslice(struct rm *rm, struct ledger_handle *h, uint32_t account_gpu, uint64_t us, uint32_t *ret_groups)
{
	struct groups groups = { .gpu = account_gpu };
	uint32_t set = 0;
	sigset_t saved;

	ledger_lock(h, &saved);
	account_each(&h->ledger->account, HOLD_GROUP, note_group, &groups);
	ledger_unlock(h, &saved);
	for (uint32_t i = 0; i < groups.count; i++)
		set += set_group(rm, ledger_slot_pid(h, groups.list[i].owner), &groups.list[i], us);
	*ret_groups = groups.count;
	return set;
}

void gate_set_timeslices(struct gate_driver *d, uint32_t gpu, int slice, uint32_t us)
{
	struct ledger_handle *h = d->slices[slice].ledger;
	struct lane *lane = &d->desks[gpu].lanes[slice];
	const uint64_t changes = d->guard.shared->sets[gpu].changes;
	uint32_t groups;

	/* those made since the last time have the usual one */
	if (us == lane->timeslice_us && (us == TIMESLICE_USUAL_US || changes == lane->timeslice_changes))
		return;
	lane->timeslice_us = us;
	lane->timeslice_changes = changes;
	/* libcuda sets that of a group some ms after it has scheduled it: the engine then puts this in */
	__atomic_store_n(&h->ledger->compute[lane->gpu].timeslice_us, us, __ATOMIC_RELAXED);
	gate_timeslice(&d->rm, h, lane->gpu, us, &groups);
}
