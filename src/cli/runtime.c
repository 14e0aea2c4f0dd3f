/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime directory: making, finding and cleaning away slices. */
#include "cli/runtime.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "ledger/ledger.h"

static int make_private(const char *path, struct error *err)
{
	struct stat st;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return error_set(err, -errno, "cannot make '%s': %s", path, strerror(errno));
	if (lstat(path, &st) < 0)
		return error_set(err, -errno, "cannot look at '%s': %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)))
		return error_set(err, -EPERM,
				 "'%s' must be a directory that belongs to you and that nobody else may "
				 "write to; remove it",
				 path);
	return 0;
}

bool runtime_allows_exec(const char *path)
{
	struct statvfs st;

	return statvfs(path, &st) == 0 && !(st.f_flag & ST_NOEXEC);
}

int runtime_path(char ret_path[RUNTIME_PATH], struct error *err)
{
	const char *xdg = secure_getenv("XDG_RUNTIME_DIR");
	char second[RUNTIME_PATH];
	struct error ignored;
	int r;

	snprintf(second, sizeof(second), "/tmp/fracgpu-%u", geteuid());
	if (geteuid() == 0)
		snprintf(ret_path, RUNTIME_PATH, "/run/fracgpu");
	else if (xdg && xdg[0] == '/' && strlen(xdg) + sizeof("/fracgpu") <= RUNTIME_PATH)
		snprintf(ret_path, RUNTIME_PATH, "%s/fracgpu", xdg);
	else
		memcpy(ret_path, second, RUNTIME_PATH);
	r = make_private(ret_path, err);
	/* Debian mounts /run so that nothing in it can be mapped to be run, and the loader ignores a library
	 * it cannot map: the program would run without a limit. */
	if ((r < 0 || !runtime_allows_exec(ret_path)) && make_private(second, &ignored) == 0) {
		memcpy(ret_path, second, RUNTIME_PATH);
		return 0;
	}
	return r;
}

static bool is_name_letter(char c)
{
	return isalnum((unsigned char)c) || c == '.' || c == '_' || c == '-';
}

bool slice_name_is_valid(const char *name)
{
	size_t length = strlen(name);

	if (!length || length >= SLICE_NAME || name[0] == '.')
		return false;
	for (size_t i = 0; i < length; i++) {
		if (!is_name_letter(name[i]))
			return false;
	}
	return true;
}

void slice_name_make(const char *program, int pid, char ret_name[SLICE_NAME])
{
	const char *base = strrchr(program, '/');

	base = base ? base + 1 : program;
	snprintf(ret_name, SLICE_NAME, "%.40s-%d", base, pid);
	for (char *c = ret_name; *c; c++) {
		if (!is_name_letter(*c))
			*c = '_';
	}
	if (ret_name[0] == '.')
		ret_name[0] = '_';
}

/* Whether anybody's open file holds a lock on a range of the file. A lock that an open file of this process
 * holds counts as well, as long as it is another open file. */
static bool is_locked(int fd, off_t start, off_t length)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length };

	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* Whether a process has the slice's library mapped: it is of the slice even when it never used a GPU. */
static bool has_members(const char *path)
{
	cleanup_dir DIR *proc = opendir("/proc");
	char library[RUNTIME_PATH + SLICE_NAME + sizeof("/libfracgpu")];
	struct dirent *entry;

	snprintf(library, sizeof(library), "%s/libfracgpu", path);
	while (proc && (entry = readdir(proc)) != NULL) {
		char maps[PATH_MAX], line[PATH_MAX + 128];
		cleanup_file FILE *file = NULL;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(maps, sizeof(maps), "/proc/%s/maps", entry->d_name);
		file = fopen(maps, "re");
		while (file && fgets(line, sizeof(line), file)) {
			if (strstr(line, library))
				return true;
		}
	}
	return false;
}

static bool is_file_locked(const char *path, const char *name, off_t start, off_t length)
{
	char file[RUNTIME_PATH + 2 * SLICE_NAME];
	cleanup_close int fd = -1;

	snprintf(file, sizeof(file), "%s/%s", path, name);
	fd = open(file, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && is_locked(fd, start, length);
}

static bool has_live_slots(const char *path)
{
	return is_file_locked(path, "ledger", LEDGER_OFD_BYTE, LEDGER_SLOTS);
}

bool slice_is_held(const char *path)
{
	return is_file_locked(path, "owner", 0, 1) || has_live_slots(path);
}

bool slice_is_alive(const char *path)
{
	return slice_is_held(path) || has_members(path);
}

/* Remove a slice's directory: it holds plain files only. */
static void remove_dir(const char *path)
{
	cleanup_dir DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(dir), entry->d_name, 0);
	}
	rmdir(path);
}

static int clean_dead(const char *path, const char *name, void *arg)
{
	if (!slice_is_alive(path))
		remove_dir(path);
	return 0;
}

static int is_slice(const struct dirent *entry)
{
	return slice_name_is_valid(entry->d_name) && (entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN);
}

int slices_each(const char *runtime, int (*fn)(const char *path, const char *name, void *arg), void *arg)
{
	struct dirent **entries;
	int count = scandir(runtime, &entries, is_slice, alphasort);
	int r = 0;

	for (int i = 0; i < count; i++) {
		char path[RUNTIME_PATH + SLICE_NAME + 1];

		snprintf(path, sizeof(path), "%s/%s", runtime, entries[i]->d_name);
		if (r == 0)
			r = fn(path, entries[i]->d_name, arg);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
	return r;
}

int runtime_lock(const char *runtime, bool is_shared)
{
	char path[RUNTIME_PATH + sizeof("/.lock")];
	int fd;

	snprintf(path, sizeof(path), "%s/.lock", runtime);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, is_shared ? LOCK_SH : LOCK_EX) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

int slice_dir_make(struct slice_dir *dir, const char *runtime, const char *name, struct error *err)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1 };
	char path[sizeof(dir->path) + sizeof("/owner")];
	cleanup_close int guard = runtime_lock(runtime, false);

	dir->guard = -1;
	dir->owner = -1;
	snprintf(dir->runtime, sizeof(dir->runtime), "%s", runtime);
	snprintf(dir->name, sizeof(dir->name), "%s", name);
	snprintf(dir->path, sizeof(dir->path), "%s/%s", runtime, name);
	if (guard < 0)
		return error_set(err, guard, "cannot lock '%s/.lock': %s", runtime, strerror(-guard));
	slices_each(runtime, clean_dead, NULL);
	if (mkdir(dir->path, 0700) < 0) {
		if (errno == EEXIST)
			return error_set(err, -EEXIST,
					 "a slice named '%s' is running already (see 'fracgpu ps')", name);
		return error_set(err, -errno, "cannot make '%s': %s", dir->path, strerror(errno));
	}
	snprintf(path, sizeof(path), "%s/owner", dir->path);
	dir->owner = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (dir->owner < 0 || fcntl(dir->owner, F_OFD_SETLK, &lock) < 0) {
		int code = error_set(err, -errno, "cannot make '%s': %s", path, strerror(errno));

		if (dir->owner >= 0)
			close(TAKE_FD(dir->owner));
		remove_dir(dir->path);
		return code;
	}
	dir->guard = TAKE_FD(guard);
	return 0;
}

void slice_dir_ready(struct slice_dir *dir)
{
	close(TAKE_FD(dir->guard));
}

void slice_dir_done(struct slice_dir *dir)
{
	/* with the lock, since another slice of this name may be made as soon as we let go */
	cleanup_close int guard = dir->guard >= 0 ? TAKE_FD(dir->guard) : runtime_lock(dir->runtime, false);

	if (guard >= 0 && !has_live_slots(dir->path))
		remove_dir(dir->path);
	close(TAKE_FD(dir->owner));
}

int library_find(const char *name, char *ret_path, unsigned int size, struct error *err)
{
	/* relative to the directory of the executable: the build tree, then the installation */
	static const char *const places[] = { "../preload", "../" FRACGPU_LIBDIR_NAME "/fracgpu" };
	const char *dir = geteuid() != 0 ? secure_getenv("FRACGPU_LIBDIR") : NULL;
	char self[PATH_MAX];
	ssize_t n;
	char *slash;

	if (dir) {
		snprintf(ret_path, size, "%s/%s", dir, name);
		if (access(ret_path, R_OK) == 0)
			return 0;
		return error_set(err, -ENOENT, "FRACGPU_LIBDIR is set but '%s' cannot be read", ret_path);
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	for (size_t i = 0; slash && i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(ret_path, size, "%s/%s/%s", self, places[i], name);
		if (access(ret_path, R_OK) == 0)
			return 0;
	}
	return error_set(err, -ENOENT, "cannot find %s near '%s' (is fracgpu installed completely?)", name,
			 self);
}

int library_copy(const struct slice_dir *dir, const char *name, char *ret_path, unsigned int size,
		 struct error *err)
{
	cleanup_close int from = -1, to = -1;
	char source[PATH_MAX];
	ssize_t n;
	int r;

	if (!runtime_allows_exec(dir->path))
		return error_set(err, -EACCES,
				 "'%s' is mounted noexec, so the preload door cannot work there (use --door "
				 "supervisor, or mount it with exec)",
				 dir->path);
	r = library_find(name, source, sizeof(source), err);
	if (r < 0)
		return r;
	from = open(source, O_RDONLY | O_CLOEXEC);
	snprintf(ret_path, size, "%s/%s", dir->path, name);
	to = open(ret_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0500);
	if (from < 0 || to < 0)
		return error_set(err, -errno, "cannot copy '%s' to '%s': %s", source, ret_path,
				 strerror(errno));
	do
		n = sendfile(to, from, NULL, 1 << 20);
	while (n > 0);
	if (n < 0)
		return error_set(err, -errno, "cannot copy '%s' to '%s': %s", source, ret_path,
				 strerror(errno));
	return 0;
}
