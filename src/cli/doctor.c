/* SPDX-License-Identifier: Apache-2.0 */
/* fracgpu doctor: what works on this machine, what does not, why, and what to do about it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "cli/options.h"
#include "cli/program.h"
#include "cli/runtime.h"
#include "rm/rm.h"
#include "supervisor/supervisor.h"

enum { SELFTEST_MIB = 64, SENTENCE = 768 };

static const char *opt_json;

static const struct option_row options[] = {
	{ "json", NULL, "print JSON", &opt_json },
	{ NULL },
};

enum health { GOOD, NOTE, BAD }; /* NOTE: does not work, and need not */

static const char *const health_names[] = { "ok", "note", "bad" };

struct report {
	json_t *checks; /* NULL: print as we go */
	bool is_bad;
};

/* One finding. fix: what to do about it, or NULL. */
static void say(struct report *report, enum health health, const char *what, const char *fix,
		const char *format, ...) __attribute__((format(printf, 5, 6)));

static void say(struct report *report, enum health health, const char *what, const char *fix,
		const char *format, ...)
{
	char text[SENTENCE];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (health == BAD)
		report->is_bad = true;
	if (report->checks) {
		json_array_append_new(report->checks,
				      json_pack("{s:s,s:s,s:s,s:s?}", "check", what, "result",
						health_names[health], "text", text, "fix", fix));
		return;
	}
	printf("%-4s  %-11s %s\n", health_names[health], what, text);
	if (fix)
		printf("      %-11s -> %s\n", "", fix);
	fflush(stdout);
}

static void check_device(struct report *report, const char *path, const char *fix)
{
	cleanup_close int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		say(report, GOOD, "device", NULL, "%s can be opened", path);
	else
		say(report, BAD, "device", fix, "%s cannot be opened: %s", path, strerror(errno));
}

/* Driver, devices, GPUs. Returns whether the driver can be used; *ret_room: free bytes of the first GPU. */
static bool check_driver(struct report *report, uint64_t *ret_room)
{
	struct abi_version version;
	struct error err;
	struct rm rm;
	char text[32], total[SIZE_TEXT], room[SIZE_TEXT];

	if (rm_driver_version(text, &version, &err) < 0) {
		say(report, BAD, "driver",
		    err.code == -ENODEV ? "install NVIDIA's driver, or give this container its "
					  "devices (docker run --gpus ...)"
					: NULL,
		    "%s", err.text);
		return false;
	}
	say(report, GOOD, "driver", NULL, "version %s is supported (%s)", text, abi_supported());
	check_device(report, "/dev/nvidiactl",
		     "run nvidia-modprobe, or look at who may use the device files");
	check_device(report, "/dev/nvidia-uvm", "run nvidia-modprobe -c0 -u; CUDA needs it");
	if (rm_open(&rm, &err) < 0) {
		say(report, BAD, "gpu", NULL, "%s", err.text);
		return false;
	}
	for (uint32_t i = 0; i < rm.gpu_count; i++)
		say(report, GOOD, "gpu", NULL, "%u: %s, %s, %s, %s free", rm.gpus[i].gpu.index,
		    rm.gpus[i].gpu.name[0] ? rm.gpus[i].gpu.name : "unnamed", rm.gpus[i].gpu.uuid,
		    size_format(total, rm.gpus[i].gpu.total_bytes), size_format(room, rm.gpus[i].free_bytes));
	*ret_room = rm.gpus[0].free_bytes;
	rm_close(&rm);
	return true;
}

/* Run a program and take the first line it writes. Returns its exit status, or -1. */
static int first_line(const char *path, const char *const *argv, char *line, size_t size)
{
	cleanup_file FILE *answer = NULL;
	int ends[2];
	int status;
	pid_t pid;

	line[0] = '\0';
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		dup2(ends[1], STDOUT_FILENO);
		dup2(ends[1], STDERR_FILENO);
		execv(path, (char *const *)argv);
		_exit(EXIT_FAILED);
	}
	close(ends[1]);
	answer = fdopen(ends[0], "r");
	if (answer && fgets(line, (int)size, answer))
		line[strcspn(line, "\n")] = '\0';
	while (answer && fgetc(answer) != EOF)
		;
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

/* Run ourselves in a slice behind a door, and take its one line. */
static void try_limit(struct report *report, const char *door)
{
	char memory[32], name[SLICE_NAME], bytes[32], self[PATH_MAX], line[SENTENCE];
	const char *const argv[] = { "fracgpu", "run", "--memory", memory,	   "--name",  name,  "--door",
				     door,	"--",  self,	   "doctor-child", "--limit", bytes, NULL };
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int status;

	self[n > 0 ? n : 0] = '\0';
	snprintf(memory, sizeof(memory), "0=%dMiB", SELFTEST_MIB);
	snprintf(name, sizeof(name), "doctor-%d-%s", getpid(), door);
	snprintf(bytes, sizeof(bytes), "%d", SELFTEST_MIB << 20);
	status = first_line(self, argv, line, sizeof(line));
	if (status == 0 && strncmp(line, "ok ", 3) == 0)
		say(report, GOOD, "limit", NULL, "%s door: %s", door, line + 3);
	else
		say(report, BAD, "limit", "please report this, with the output of 'fracgpu doctor --json'",
		    "%s door: %s (exit status %d)", door, strncmp(line, "bad ", 4) == 0 ? line + 4 : line,
		    status);
}

static bool check_preload(struct report *report)
{
	char runtime[RUNTIME_PATH], library[PATH_MAX];
	struct error err;

	if (runtime_path(runtime, &err) < 0 ||
	    library_find(LIBRARY_GLIBC, library, sizeof(library), &err) < 0) {
		say(report, BAD, "preload", NULL, "the preload door does not work: %s", err.text);
		return false;
	}
	if (!runtime_allows_exec(runtime)) {
		say(report, NOTE, "preload", "mount it, or /tmp, without noexec",
		    "the preload door does not work: nothing can be loaded from '%s'", runtime);
		return false;
	}
	say(report, GOOD, "preload", NULL, "the preload door works, for programs that cooperate");
	return true;
}

static bool check_supervisor(struct report *report)
{
	struct error err;

	if (supervisor_probe(&err) == 0) {
		say(report, GOOD, "supervisor", NULL, "the supervisor door works");
		return true;
	}
	say(report, NOTE, "supervisor",
	    err.code == -EBUSY ? NULL
			       : "in a container: allow it by the seccomp profile; else: Linux 5.6 or later",
	    "the supervisor door does not work: %s", err.text);
	return false;
}

static void check_doors(struct report *report, bool has_driver, uint64_t room)
{
	bool has_supervisor = check_supervisor(report);
	bool has_preload = check_preload(report);

	if (!has_supervisor && !has_preload)
		say(report, BAD, "doors", NULL, "no door works: fracgpu run cannot limit anything here");
	if (!has_driver)
		return;
	if (room < (uint64_t)(2 * SELFTEST_MIB) << 20) {
		say(report, NOTE, "limit", NULL, "not tried: less than %d MiB are free on GPU 0",
		    2 * SELFTEST_MIB);
		return;
	}
	if (has_supervisor)
		try_limit(report, "supervisor");
	if (has_preload)
		try_limit(report, "preload");
}

static int doctor(int count, char **words)
{
	struct report report = { 0 };
	uint64_t room = 0;
	bool has_driver;

	if (opt_json)
		report.checks = json_array();
	has_driver = check_driver(&report, &room);
	check_doors(&report, has_driver, room);
	if (report.checks) {
		json_t *all = json_pack("{s:s,s:b,s:o}", "version", FRACGPU_VERSION, "ok",
					(int)!report.is_bad, "checks", report.checks);

		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(all);
	}
	return report.is_bad ? EXIT_FAILED : 0;
}

const struct verb verb_doctor = {
	.name = "doctor",
	.synopsis = "[OPTIONS]",
	.summary = "Look at what works here, and try a limit",
	.options = options,
	.run = doctor,
};
