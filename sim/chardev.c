/* SPDX-License-Identifier: Apache-2.0 */
/* libfracgpu-sim-chardev.so: the simulated device files look like character devices.
 *
 * NVIDIA's libraries stat() a device file before they open it and want a character device with the driver's numbers.
 * FUSE serves regular files (a character device would be the kernel's own business), so this library, which fracgpu-sim
 * puts into LD_PRELOAD of its program, corrects the answer of the stat family for files with the simulator's inodes
 * (inodes.h). It touches nothing else, needs no library and works in glibc and musl programs alike.
 *
 * Numbers: kernel-open/common/inc/nv-linux.h and nv.h at 535.261.03: major 195, the control file is minor 255; UVM's major
 * is given out by the kernel. */
#undef _FILE_OFFSET_BITS	/* makes one function of stat() and stat64() */
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "sim/inodes.h"
#include "sim/sim.h"

#define PUBLIC __attribute__((visibility("default")))

enum {
	MAJOR_NVIDIA = 195,
	MAJOR_UVM = 511,
	MINOR_CTL = 255,
};

static bool is_device(uint64_t inode, unsigned int *ret_major, unsigned int *ret_minor)
{
	uint64_t number = inode - INODE_BASE;

	*ret_major = MAJOR_NVIDIA;
	if (number >= INODE_GPU && number < INODE_GPU + SIM_GPUS) {
		*ret_minor = (unsigned int)(number - INODE_GPU);
		return true;
	}
	if (number == INODE_CTL) {
		*ret_minor = MINOR_CTL;
		return true;
	}
	*ret_major = MAJOR_UVM;
	*ret_minor = number == INODE_UVM_TOOLS;
	return number == INODE_UVM || number == INODE_UVM_TOOLS;
}

static int do_stat(int dir, const char *path, struct stat *st, int flags)
{
	int r = (int)syscall(SYS_newfstatat, dir, path, st, flags);
	unsigned int major, minor;

	if (r == 0 && is_device(st->st_ino, &major, &minor)) {
		st->st_mode = S_IFCHR | (st->st_mode & 07777);
		st->st_rdev = makedev(major, minor);
		st->st_size = 0;
		st->st_uid = 0;		/* of the machine, also where the user namespace does not know it */
		st->st_gid = 0;
	}
	return r;
}

/* glibc before 2.33 has these behind its inline stat(); programs built with it call them. The version is of struct stat,
 * and there is one on 64-bit machines. */
PUBLIC int __xstat(int version, const char *path, struct stat *st);
PUBLIC int __lxstat(int version, const char *path, struct stat *st);
PUBLIC int __fxstat(int version, int fd, struct stat *st);
PUBLIC int __fxstatat(int version, int dir, const char *path, struct stat *st, int flags);
PUBLIC int __xstat64(int version, const char *path, struct stat64 *st);
PUBLIC int __lxstat64(int version, const char *path, struct stat64 *st);
PUBLIC int __fxstat64(int version, int fd, struct stat64 *st);
PUBLIC int __fxstatat64(int version, int dir, const char *path, struct stat64 *st, int flags);

_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "struct stat is the 64-bit one");

PUBLIC int stat(const char *path, struct stat *st)
{
	return do_stat(AT_FDCWD, path, st, 0);
}

PUBLIC int lstat(const char *path, struct stat *st)
{
	return do_stat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

PUBLIC int fstat(int fd, struct stat *st)
{
	return do_stat(fd, "", st, AT_EMPTY_PATH);
}

PUBLIC int fstatat(int dir, const char *path, struct stat *st, int flags)
{
	return do_stat(dir, path, st, flags);
}

PUBLIC int stat64(const char *path, struct stat64 *st)
{
	return do_stat(AT_FDCWD, path, (struct stat *)st, 0);
}

PUBLIC int lstat64(const char *path, struct stat64 *st)
{
	return do_stat(AT_FDCWD, path, (struct stat *)st, AT_SYMLINK_NOFOLLOW);
}

PUBLIC int fstat64(int fd, struct stat64 *st)
{
	return do_stat(fd, "", (struct stat *)st, AT_EMPTY_PATH);
}

PUBLIC int fstatat64(int dir, const char *path, struct stat64 *st, int flags)
{
	return do_stat(dir, path, (struct stat *)st, flags);
}

PUBLIC int __xstat(int version, const char *path, struct stat *st)
{
	return do_stat(AT_FDCWD, path, st, 0);
}

PUBLIC int __lxstat(int version, const char *path, struct stat *st)
{
	return do_stat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

PUBLIC int __fxstat(int version, int fd, struct stat *st)
{
	return do_stat(fd, "", st, AT_EMPTY_PATH);
}

PUBLIC int __fxstatat(int version, int dir, const char *path, struct stat *st, int flags)
{
	return do_stat(dir, path, st, flags);
}

PUBLIC int __xstat64(int version, const char *path, struct stat64 *st)
{
	return do_stat(AT_FDCWD, path, (struct stat *)st, 0);
}

PUBLIC int __lxstat64(int version, const char *path, struct stat64 *st)
{
	return do_stat(AT_FDCWD, path, (struct stat *)st, AT_SYMLINK_NOFOLLOW);
}

PUBLIC int __fxstat64(int version, int fd, struct stat64 *st)
{
	return do_stat(fd, "", (struct stat *)st, AT_EMPTY_PATH);
}

PUBLIC int __fxstatat64(int version, int dir, const char *path, struct stat64 *st, int flags)
{
	return do_stat(dir, path, (struct stat *)st, flags);
}

PUBLIC int statx(int dir, const char *restrict path, int flags, unsigned int mask, struct statx *restrict st)
{
	int r = (int)syscall(SYS_statx, dir, path, flags, mask | STATX_INO, st);
	unsigned int major, minor;

	if (r == 0 && is_device(st->stx_ino, &major, &minor)) {
		st->stx_mode = (uint16_t)(S_IFCHR | (st->stx_mode & 07777));
		st->stx_rdev_major = major;
		st->stx_rdev_minor = minor;
		st->stx_size = 0;
		st->stx_uid = 0;
		st->stx_gid = 0;
	}
	return r;
}
