/* SPDX-License-Identifier: Apache-2.0 */
/* What the simulated driver asks of the kernel about its caller: memory, identity, privileges, mappings. */
#include "sim/rm.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "base/cleanup.h"

int sim_read(pid_t tid, uint64_t address, void *buffer, size_t size)
{
	struct iovec here = { buffer, size };
	struct iovec there = { (void *)(uintptr_t)address, size };

	if (!size)
		return 0;
	return process_vm_readv(tid, &here, 1, &there, 1, 0) == (ssize_t)size ? 0 : -EFAULT;
}

int sim_write(pid_t tid, uint64_t address, const void *buffer, size_t size)
{
	struct iovec here = { (void *)(uintptr_t)buffer, size };
	struct iovec there = { (void *)(uintptr_t)address, size };

	if (!size)
		return 0;
	return process_vm_writev(tid, &here, 1, &there, 1, 0) == (ssize_t)size ? 0 : -EFAULT;
}

static bool status_field(pid_t tid, const char *name, char *value, size_t size)
{
	char path[64];
	char line[256];
	cleanup_file FILE *f = NULL;
	size_t length = strlen(name);

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, name, length) == 0 && line[length] == ':') {
			snprintf(value, size, "%s", line + length + 1);
			return true;
		}
	}
	return false;
}

pid_t sim_tgid(pid_t tid)
{
	char value[64];

	return status_field(tid, "Tgid", value, sizeof(value)) ? (pid_t)strtol(value, NULL, 10) : tid;
}

uid_t sim_uid_of(pid_t pid)
{
	char value[64], *effective;

	if (!status_field(pid, "Uid", value, sizeof(value)))
		return (uid_t)-1;
	strtoul(value, &effective, 10);		/* the real one comes first */
	return (uid_t)strtoul(effective, NULL, 10);
}

uint64_t sim_start_time(pid_t pid)
{
	char path[64];
	char line[1024];
	cleanup_file FILE *f = NULL;
	char *at;
	uint64_t start = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f || !fgets(line, sizeof(line), f))
		return 0;
	/* field 22, counted behind the name, which may hold anything */
	at = strrchr(line, ')');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (at)
		start = strtoull(at + 1, NULL, 10);
	return start;
}

/* capable(CAP_SYS_ADMIN) in the init user namespace, for which the simulator's own stands. */
bool sim_is_admin(pid_t tid)
{
	char value[64];
	char path[64];
	struct stat ours, theirs;

	snprintf(path, sizeof(path), "/proc/%d/ns/user", tid);
	if (stat("/proc/self/ns/user", &ours) < 0 || stat(path, &theirs) < 0 || ours.st_ino != theirs.st_ino)
		return false;
	return status_field(tid, "CapEff", value, sizeof(value)) && (strtoull(value, NULL, 16) >> 21 & 1);
}

uint64_t sim_mapped_bytes(pid_t pid, uint64_t inode)
{
	char path[64];
	char line[PATH_MAX + 128];
	cleanup_file FILE *f = NULL;
	uint64_t bytes = 0;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		uint64_t start, end, offset, ino;
		char flags[8];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %" SCNu64, &start, &end, flags, &offset,
			   &ino) != 5)
			continue;
		if (ino == inode && flags[3] == 's' && offset == start)
			bytes += end - start;
	}
	return bytes;
}
