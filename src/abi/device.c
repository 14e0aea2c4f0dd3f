/* SPDX-License-Identifier: Apache-2.0 */
/* Which NVIDIA device file a descriptor is, if any: by device number, as the driver's own files are; by
 * identity for the files of the simulator, which a user can mount without making device nodes. */
#include "abi/device.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/syscall.h"

enum {
	NV_MAJOR = 195,		/* kernel-open/common/inc/nv-chardev-numbers.h */
	NV_MINOR_CTL = 255,
	NV_MINOR_MODESET = 254,
	MAJORS = 512,		/* Linux, include/linux/fs.h, CHRDEV_MAJOR_MAX */
	NAMES = 4 + 16,
};

/* The C library's own are functions. Linux, include/linux/kdev_t.h, new_encode_dev(). */
static uint32_t dev_major(uint64_t dev)
{
	return (uint32_t)(dev >> 8 & 0xfff);
}

static uint32_t dev_minor(uint64_t dev)
{
	return (uint32_t)((dev & 0xff) | (dev >> 12 & 0xfff00));
}

/* UVM's major is a free one when the module is loaded, which may be after us. So what a major is, is
 * remembered only once /proc/devices has a name for it. */
static uint8_t majors_known[MAJORS];
enum { MAJOR_OTHER = 1, MAJOR_UVM = 2 };

/* A line of the first part of /proc/devices: "511 nvidia-uvm". */
static void learn_major(const char *line)
{
	uint32_t number = 0;

	while (*line == ' ')
		line++;
	if (*line < '0' || *line > '9')
		return;
	for (; *line >= '0' && *line <= '9'; line++)
		number = number * 10 + (uint32_t)(*line - '0');
	if (*line == ' ' && number < MAJORS) {
		uint8_t known = strcmp(line + 1, "nvidia-uvm") ? MAJOR_OTHER : MAJOR_UVM;

		__atomic_store_n(&majors_known[number], known, __ATOMIC_RELAXED);
	}
}

/* Returns false when there is no /proc/devices. */
static bool learn_majors(void)
{
	char buffer[4096];
	size_t length = 0;
	long got;
	int fd = sys_openat(AT_FDCWD, "/proc/devices", O_RDONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return false;
	while (length < sizeof(buffer) - 1 &&
	       (got = sys_read(fd, buffer + length, sizeof(buffer) - 1 - length)) > 0)
		length += (size_t)got;
	sys_close(fd);
	buffer[length] = '\0';
	for (char *line = buffer, *end; (end = strchr(line, '\n')); line = end + 1) {
		*end = '\0';
		if (!strcmp(line, "Block devices:"))
			break;
		learn_major(line);
	}
	return length > 0;
}

/* Majors that the kernel hands out by itself (Linux, include/linux/fs.h, CHRDEV_MAJOR_DYN_*). */
static bool is_dynamic_major(uint32_t major)
{
	return (major >= 234 && major <= 254) || (major >= 384 && major < MAJORS);
}

static bool is_uvm(uint64_t rdev)
{
	uint32_t major = dev_major(rdev);
	struct stat st;
	uint8_t known;

	if (!is_dynamic_major(major))
		return false;
	known = __atomic_load_n(&majors_known[major], __ATOMIC_RELAXED);
	if (!known && learn_majors())
		known = __atomic_load_n(&majors_known[major], __ATOMIC_RELAXED);
	if (known)
		return known == MAJOR_UVM;
	/* no /proc: by the usual name */
	return SYS_CALL(SYS_newfstatat, AT_FDCWD, "/dev/nvidia-uvm", &st, 0) == 0 && S_ISCHR(st.st_mode) &&
	       dev_major(st.st_rdev) == major;
}

static bool find_character(uint64_t rdev, struct device *ret)
{
	uint32_t minor = dev_minor(rdev);

	if (dev_major(rdev) == NV_MAJOR) {
		ret->kind = minor == NV_MINOR_CTL ? ABI_DEV_CTL :
			    minor == NV_MINOR_MODESET ? ABI_DEV_MODESET : ABI_DEV_GPU;
		ret->minor = minor;
		return true;
	}
	if (!is_uvm(rdev))
		return false;
	ret->kind = minor == 0 ? ABI_DEV_UVM : ABI_DEV_UVM_TOOLS;
	ret->minor = minor;
	return true;
}

/* The simulator's files, by the names they stand under. */
struct named {
	uint64_t dev, ino;
	struct device device;
};

static struct named names[NAMES];
static uint32_t names_state;
enum { NAMES_UNKNOWN, NAMES_NONE, NAMES_READY };

/* Look at one name. Returns the mode, 0 when there is no such file. */
static uint32_t learn_name(struct named *named, const char *path, enum abi_device kind, uint32_t minor)
{
	struct stat st;

	if (SYS_CALL(SYS_newfstatat, AT_FDCWD, path, &st, 0) < 0)
		return 0;
	if (S_ISREG(st.st_mode))
		*named = (struct named){ st.st_dev, st.st_ino, { kind, minor } };
	return st.st_mode;
}

/* Threads that come here together write the same. */
static uint32_t learn_names(void)
{
	uint32_t state = __atomic_load_n(&names_state, __ATOMIC_ACQUIRE);
	uint32_t mode;

	if (state != NAMES_UNKNOWN)
		return state;
	mode = learn_name(&names[0], "/dev/nvidiactl", ABI_DEV_CTL, NV_MINOR_CTL);
	if (!mode)
		return NAMES_UNKNOWN;	/* may come yet */
	state = NAMES_NONE;
	if (S_ISREG(mode)) {
		state = NAMES_READY;
		learn_name(&names[1], "/dev/nvidia-uvm", ABI_DEV_UVM, 0);
		learn_name(&names[2], "/dev/nvidia-uvm-tools", ABI_DEV_UVM_TOOLS, 1);
		learn_name(&names[3], "/dev/nvidia-modeset", ABI_DEV_MODESET, NV_MINOR_MODESET);
		for (uint32_t i = 0; i < NAMES - 4; i++) {
			char path[] = "/dev/nvidia00";
			char *digits = path + sizeof(path) - 3;

			if (i >= 10)
				*digits++ = '1';
			digits[0] = (char)('0' + i % 10);
			digits[1] = '\0';
			learn_name(&names[4 + i], path, ABI_DEV_GPU, i);
		}
	}
	__atomic_store_n(&names_state, state, __ATOMIC_RELEASE);
	return state;
}

static bool find_regular(uint64_t dev, uint64_t ino, struct device *ret)
{
	if (learn_names() != NAMES_READY)
		return false;
	for (uint32_t i = 0; i < NAMES; i++) {
		if (names[i].device.kind != ABI_DEV_NONE && names[i].dev == dev && names[i].ino == ino) {
			*ret = names[i].device;
			return true;
		}
	}
	return false;
}

bool device_find(int fd, struct device *ret)
{
	struct stat st;

	if (fd < 0 || SYS_CALL(SYS_fstat, fd, &st) < 0)
		return false;
	if (S_ISCHR(st.st_mode))
		return find_character(st.st_rdev, ret);
	/* FUSE has no block device below it: major 0 */
	return S_ISREG(st.st_mode) && dev_major(st.st_dev) == 0 && find_regular(st.st_dev, st.st_ino, ret);
}
