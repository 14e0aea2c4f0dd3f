/* SPDX-License-Identifier: Apache-2.0 */
/* Timeslices of a slice's groups of channels, set through the descriptors of its own processes: the driver takes
 * SET_TIMESLICE for an object from the file that its client was made through, and from no other (H200, 580.159.04: status 0x23
 * through ours, 0 through a copy of the tenant's). */
#include "gate/timeslice.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "abi/calls.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "gate/internal.h"

enum { GROUPS_MAX = 256 };

#define AGAIN_NS UINT64_C(1000000000)
#define AGAIN_MAX_NS (64 * AGAIN_NS)

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

	if (hold->gpu == groups->gpu && hold->engine <= GATE_ENGINE_LAST && groups->count < GROUPS_MAX)
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

/* Whether a process' descriptor is the same file as ours. What is cached has to do: a file system of the tenant's own could
 * let us wait. */
static bool is_driver_file(int dir, const char *fd, const struct stat *ours)
{
	struct statx x;

	if (statx(dir, fd, AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &x) < 0 || (x.stx_mode & S_IFMT) != (ours->st_mode & S_IFMT))
		return false;
	if (S_ISCHR(ours->st_mode))
		return makedev(x.stx_rdev_major, x.stx_rdev_minor) == ours->st_rdev;
	return x.stx_ino == ours->st_ino && makedev(x.stx_dev_major, x.stx_dev_minor) == ours->st_dev;
}

/* Through whichever descriptor of the process its client was made. Returns whether one was that. */
static bool set_group(struct rm *rm, int32_t pid, const struct group *group, uint64_t us)
{
	cleanup_close int pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	char path[32];
	bool is_set = false;
	struct stat ours;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = pidfd < 0 || fstat(rm->ctl, &ours) < 0 ? NULL : opendir(path);
	if (!dir)
		return false;
	for (struct dirent *entry; !is_set && (entry = readdir(dir));) {
		cleanup_close int copy = -1;

		if (!is_driver_file(dirfd(dir), entry->d_name, &ours))
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

void gate_set_timeslices(struct gate_driver *d, uint32_t gpu, int slice, uint32_t us, uint64_t now)
{
	struct ledger_handle *h = d->slices[slice].ledger;
	struct lane *lane = &d->desks[gpu].lanes[slice];
	const uint64_t changes = d->guard.shared->sets[gpu].changes;
	bool is_new = us != lane->timeslice_us || (us != TIMESLICE_USUAL_US && changes != lane->timeslice_changes);
	uint32_t groups, set;

	/* those made since the last time have the usual one */
	if (!is_new && (!lane->timeslice_again_ns || now < lane->timeslice_again_ns))
		return;
	lane->timeslice_us = us;
	lane->timeslice_changes = changes;
	/* libcuda sets that of a group some ms after it has scheduled it: the engine then puts this in */
	__atomic_store_n(&h->ledger->compute[lane->gpu].timeslice_us, us, __ATOMIC_RELAXED);
	set = gate_timeslice(&d->rm, h, lane->gpu, us, &groups);
	/* once more, for a call that had read the old value; and until it is done, but ever more seldom */
	lane->timeslice_wait_ns = is_new ? AGAIN_NS : lane->timeslice_wait_ns * 2;
	lane->timeslice_again_ns = 0;
	if ((is_new || set < groups) && lane->timeslice_wait_ns < AGAIN_MAX_NS)
		lane->timeslice_again_ns = now + lane->timeslice_wait_ns;
}
