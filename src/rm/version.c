/* SPDX-License-Identifier: Apache-2.0 */
/* Which driver is loaded, and which version's layouts to use for it. */
#include "rm/version.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "abi/calls.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "rm/rm.h"

/* nv_ioctl_rm_api_version_t (kernel-open/common/inc/nv-ioctl.h): cmd, reply, versionString[64] */
enum { VERSION_SIZE = 72, VERSION_COMMAND = 0, VERSION_STRING = 8, VERSION_STRING_SIZE = 64 };

/* Copy the word text starts with, if it is a version. */
static int take_version(const char *text, char ret_text[32])
{
	struct abi_version version;
	char word[32];
	size_t length = strspn(text, "0123456789.");

	if (!length || length >= sizeof(word))
		return -EINVAL;
	memcpy(word, text, length);
	word[length] = '\0';
	if (abi_version_parse(word, &version) < 0)
		return -EINVAL;
	memcpy(ret_text, word, sizeof(word));
	return 0;
}

int rm_version_ask(int ctl, char ret_text[32])
{
	/* '2' asks, from 530.30.02 on. Before, it meant "do not check" and leaves the string alone; the
	 * strict check of a wrong string then fails with EINVAL and fills the right one in (and puts a line
	 * into the kernel's log, so it comes second). */
	static const uint32_t commands[] = { '2', 0 };
	char message[VERSION_SIZE];

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		memset(message, 0, sizeof(message));
		put_u32(message, VERSION_COMMAND, commands[i]);
		ioctl(ctl, abi_request(NV_ESC_CHECK_VERSION_STR, VERSION_SIZE), message);
		message[VERSION_SIZE - 1] = '\0';
		if (take_version(message + VERSION_STRING, ret_text) == 0)
			return 0;
	}
	return -ENODATA;
}

int rm_version_in_line(const char *line, char ret_text[32])
{
	/* "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun ..." or
	 * "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build ..." */
	const char *word = strstr(line, "Kernel Module");

	for (word = word ? strchr(word, ' ') : NULL; word; word = strchr(word, ' ')) {
		word += strspn(word, " ");
		if (take_version(word, ret_text) == 0)
			return 0;
	}
	return -EINVAL;
}

static int read_line(const char *path, char *line, size_t size)
{
	cleanup_file FILE *file = fopen(path, "re");

	if (!file)
		return -errno;
	return fgets(line, (int)size, file) ? 0 : -ENODATA;
}

int rm_assume_read(const char *path, char ret_text[32], struct error *err)
{
	cleanup_file FILE *file = fopen(path, "re");
	char line[256];
	struct stat st;

	if (!file)
		return -ENOENT;
	if (fstat(fileno(file), &st) < 0 || st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)))
		return error_set(err, -EPERM,
				 "not using '%s': it must belong to root and be writable by nobody else",
				 path);
	while (fgets(line, sizeof(line), file)) {
		char word[32];

		if (line[strspn(line, " \t")] == '#')
			continue;
		if (sscanf(line, " assume_layout = %31s", word) == 1)
			return take_version(word, ret_text) == 0
				       ? 0
				       : error_set(err, -EINVAL,
						   "'%s': assume_layout '%s' is no driver version", path,
						   word);
	}
	return -ENOENT;
}

int rm_layout_choose(const char *text, const char *assume_path, struct abi_version *ret_version,
		     char ret_text[32], struct abi_layout *ret_layout, struct error *err)
{
	struct abi_version version;
	char assumed[32];
	int r;

	if (abi_version_parse(text, &version) == 0 && abi_layout_find(version, ret_layout) == 0) {
		*ret_version = version;
		snprintf(ret_text, 32, "%s", text);
		return 0;
	}
	r = rm_assume_read(assume_path, assumed, err);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && abi_version_parse(assumed, &version) == 0 &&
	    abi_layout_find(version, ret_layout) == 0) {
		*ret_version = version;
		snprintf(ret_text, 32, "%s", assumed);
		return 0;
	}
	return error_set(
		err, -ENOTSUP,
		"driver %s is not supported (supported: %s); update fracgpu, or, to treat it like a known "
		"one, put 'assume_layout = VERSION' into %s",
		text, abi_supported(), assume_path);
}

int rm_version_find(int ctl, char ret_text[32], struct error *err)
{
	char line[256];

	if (ctl >= 0 && rm_version_ask(ctl, ret_text) == 0)
		return 0;
	if (read_line("/sys/module/nvidia/version", line, sizeof(line)) == 0 &&
	    take_version(line, ret_text) == 0)
		return 0;
	if (read_line("/proc/driver/nvidia/version", line, sizeof(line)) == 0 &&
	    rm_version_in_line(line, ret_text) == 0)
		return 0;
	return error_set(err, -ENODEV,
			 "no NVIDIA driver found (no answer from /dev/nvidiactl, /sys/module/nvidia or "
			 "/proc/driver/nvidia); is the kernel module loaded?");
}

int rm_driver_version(char ret_text[32], struct abi_version *ret_version, struct error *err)
{
	cleanup_close int ctl = open("/dev/nvidiactl", O_RDWR | O_CLOEXEC);
	struct abi_layout layout;
	char text[32], chosen[32];
	int r;

	r = rm_version_find(ctl, text, err);
	if (r < 0)
		return r;
	r = rm_layout_choose(text, RM_DRIVER_CONF, ret_version, chosen, &layout, err);
	if (r < 0)
		return r;
	memcpy(ret_text, text, sizeof(text));
	return 0;
}
