/* SPDX-License-Identifier: Apache-2.0 */
/* Run a program in a slice behind the preload library, with plain files in the place of the driver's
 * devices: guest_slice LIBRARY MIB PROGRAM [ARGUMENTS]; MIB 0: a slice without a ledger.
 *
 * The library takes the files for devices as it takes the simulator's; every call that reaches "the driver"
 * fails with ENOTTY, and mappings work. The program finds the ledger by GUEST_SLICE. It must write nothing:
 * what it writes is shown and is a failure. Exits as the program does; 77 where mounts are not allowed. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ledger/ledger.h"

static void fail(const char *what)
{
	fprintf(stderr, "guest_slice: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fail(path);
	close(fd);
}

/* A mount namespace of our own, by a user namespace where we are not root. */
static void enter_namespace(void)
{
	uid_t uid = getuid();
	gid_t gid = getgid();
	char map[64];

	if (unshare(CLONE_NEWNS) < 0) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) {
			printf("skipped: no mount namespace: %s\n", strerror(errno));
			exit(77);
		}
		write_text("/proc/self/setgroups", "deny");
		snprintf(map, sizeof(map), "0 %d 1", (int)uid);
		write_text("/proc/self/uid_map", map);
		snprintf(map, sizeof(map), "0 %d 1", (int)gid);
		write_text("/proc/self/gid_map", map);
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		printf("skipped: no private mounts: %s\n", strerror(errno));
		exit(77);
	}
}

static void make_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		fail(path);
	close(fd);
}

/* A /dev with null, and files for the driver's devices. */
static void make_devices(void)
{
	static const char *const names[] = {
		"/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools",
	};
	char null[64];
	int fd = open("/dev/null", O_PATH | O_CLOEXEC);

	if (fd < 0)
		fail("/dev/null");
	if (mount("tmpfs", "/dev", "tmpfs", 0, NULL) < 0) {
		printf("skipped: no tmpfs: %s\n", strerror(errno));
		exit(77);
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		make_file(names[i]);
	make_file("/dev/null");
	snprintf(null, sizeof(null), "/proc/self/fd/%d", fd);
	if (mount(null, "/dev/null", NULL, MS_BIND, NULL) < 0)
		fail("mount /dev/null");
}

/* A /proc/devices where UVM has a number. */
static void make_majors(void)
{
	make_file("/dev/devices");
	write_text("/dev/devices", "Character devices:\n  1 mem\n195 nvidia\n511 nvidia-uvm\n\n"
				   "Block devices:\n510 nvidia-uvm\n");
	if (mount("/dev/devices", "/proc/devices", NULL, MS_BIND, NULL) < 0) {
		printf("skipped: no mount in /proc: %s\n", strerror(errno));
		exit(77);
	}
}

static void copy_file(const char *from, const char *to)
{
	char buffer[65536];
	ssize_t n;
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);

	if (in < 0 || out < 0)
		fail(from);
	while ((n = read(in, buffer, sizeof(buffer))) > 0) {
		if (write(out, buffer, (size_t)n) != n)
			fail(to);
	}
	close(in);
	close(out);
}

static void make_ledger(const char *path, unsigned long mib)
{
	struct ledger_gpu gpu = { .total_bytes = 16ull << 30 };
	uint64_t limit = (uint64_t)mib << 20;
	struct ledger_settings settings = {
		.name = "guest",
		.door = "preload",
		.driver = "580.142",
		.gpu_count = 1,
		.gpus = &gpu,
		.limits = &limit,
	};
	struct ledger_handle ledger;
	struct error err;

	if (ledger_create(&ledger, path, &settings, &err) < 0) {
		fprintf(stderr, "guest_slice: %s\n", err.text);
		exit(1);
	}
	ledger_close(&ledger);
}

/* Show what the program wrote. Returns the number of bytes. */
static size_t show(int fd)
{
	char buffer[4096];
	size_t total = 0;
	ssize_t n;

	lseek(fd, 0, SEEK_SET);
	while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
		total += fwrite(buffer, 1, (size_t)n, stderr);
	}
	return total;
}

static int run(char **words, int output)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid == 0) {
		dup2(output, 1);
		dup2(output, 2);
		setenv("LD_PRELOAD", "/dev/slice/libfracgpu.so", 1);
		setenv("GUEST_SLICE", "/dev/slice", 1);
		setenv("FRACGPU_DEBUG", "/dev/slice/debug", 1);
		execv(words[0], words);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) < 0)
		fail("waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
	unsigned long mib;
	int output, status;

	if (argc < 4) {
		fprintf(stderr, "usage: guest_slice LIBRARY MIB PROGRAM [ARGUMENTS]\n");
		return 2;
	}
	mib = strtoul(argv[2], NULL, 10);
	enter_namespace();
	make_devices();
	make_majors();
	if (mkdir("/dev/slice", 0700) < 0)
		fail("/dev/slice");
	copy_file(argv[1], "/dev/slice/libfracgpu.so");
	if (mib)
		make_ledger("/dev/slice/ledger", mib);
	output = open("/dev/slice/output", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (output < 0)
		fail("/dev/slice/output");
	status = run(argv + 3, output);
	if (show(output) && status == 0) {
		fprintf(stderr, "guest_slice: the program should have been silent\n");
		return 1;
	}
	return status;
}
