/* SPDX-License-Identifier: Apache-2.0 */
/* Finding a program and looking at its kind. */
#include "cli/program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { SCRIPT_DEPTH = 4 }; /* as the kernel follows interpreters (fs/exec.c, exec_binprm) */

static int try(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || access(path, X_OK) < 0)
		return -EACCES;
	return 0;
}

int program_find(const char *name, char *ret_path, struct error *err)
{
	const char *path = getenv("PATH");
	bool is_denied = false;
	int r;

	if (strchr(name, '/')) {
		snprintf(ret_path, PATH_MAX, "%s", name);
		r = try(ret_path);
		if (r < 0)
			return error_set(err, r == -ENOENT || r == -ENOTDIR ? -ENOENT : -EACCES,
					 "cannot run '%s': %s", name, strerror(-r));
		return 0;
	}
	if (!path)
		path = "/bin:/usr/bin";
	while (*name) {
		size_t length = strcspn(path, ":");

		snprintf(ret_path, PATH_MAX, "%.*s%s%s", (int)length, path, length ? "/" : "", name);
		r = try(ret_path);
		if (r == 0)
			return 0;
		is_denied |= r == -EACCES;
		if (!path[length])
			break;
		path += length + 1;
	}
	if (is_denied)
		return error_set(err, -EACCES, "cannot run '%s': Permission denied", name);
	return error_set(err, -ENOENT, "cannot run '%s': no such program in PATH", name);
}

#if defined(__x86_64__)
enum { OUR_MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { OUR_MACHINE = EM_AARCH64 };
#endif

/* Whether starting the file gives rights that the starter lacks: the loader then ignores LD_PRELOAD. */
static bool gains_rights(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return true;
	if ((st.st_mode & S_ISUID) && st.st_uid != geteuid())
		return true;
	if ((st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP) && st.st_gid != getegid())
		return true;
	return geteuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0;
}

/* The path of the loader that the program asks for. False when it asks for none. */
static bool find_loader(int fd, const Elf64_Ehdr *header, char *ret_loader, size_t size)
{
	for (unsigned int i = 0; i < header->e_phnum; i++) {
		Elf64_Phdr segment;
		off_t at = (off_t)(header->e_phoff + (uint64_t)i * header->e_phentsize);
		ssize_t n;

		if (pread(fd, &segment, sizeof(segment), at) != sizeof(segment))
			return false;
		if (segment.p_type != PT_INTERP)
			continue;
		n = pread(fd, ret_loader, size - 1, (off_t)segment.p_offset);
		ret_loader[n > 0 ? n : 0] = '\0';
		return n > 0;
	}
	return false;
}

static int judge_elf(int fd, const char *path, const Elf64_Ehdr *header, const char **ret_library,
		     struct error *err)
{
	char loader[PATH_MAX];
	static const char door[] = "so the preload door does not reach it (use --door supervisor)";

	if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_machine != OUR_MACHINE)
		return error_set(err, -ENOTSUP, "'%s' is for another kind of processor than fracgpu, %s",
				 path, door);
	if (!find_loader(fd, header, loader, sizeof(loader)))
		return error_set(err, -ENOTSUP, "'%s' is statically linked, %s", path, door);
	if (gains_rights(fd))
		return error_set(err, -ENOTSUP, "'%s' gains rights when it is started, %s", path, door);
	*ret_library = strstr(loader, "/ld-musl-") ? LIBRARY_MUSL : LIBRARY_GLIBC;
	return 0;
}

int program_takes_preload(const char *path, const char **ret_library, struct error *err)
{
	char next[PATH_MAX];

	snprintf(next, sizeof(next), "%s", path);
	for (int depth = 0; depth <= SCRIPT_DEPTH; depth++) {
		cleanup_close int fd = open(next, O_RDONLY | O_CLOEXEC);
		union {
			Elf64_Ehdr header;
			char text[PATH_MAX];
		} start = { 0 };
		ssize_t n;

		if (fd < 0)
			return error_set(err, -ENOTSUP,
					 "cannot read '%s' to see whether the preload door reaches it: %s "
					 "(use --door supervisor)",
					 next, strerror(errno));
		n = read(fd, &start, sizeof(start) - 1);
		if (n >= (ssize_t)sizeof(start.header) && memcmp(start.text, ELFMAG, SELFMAG) == 0)
			return judge_elf(fd, next, &start.header, ret_library, err);
		/* no "#!" and no ELF: execvp(3) gives it to /bin/sh */
		if (n < 2 || memcmp(start.text, "#!", 2) != 0 || sscanf(start.text + 2, " %4095s", next) != 1)
			snprintf(next, sizeof(next), "/bin/sh");
	}
	return error_set(err, -ENOTSUP, "'%s' is a script of scripts of scripts", path);
}
