/* SPDX-License-Identifier: Apache-2.0 */
/* fracgpu run: start a program in a slice of its own. */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "cli/options.h"
#include "cli/program.h"
#include "cli/runtime.h"
#include "ledger/ledger.h"
#include "policy/limit.h"
#include "rm/rm.h"
#include "supervisor/supervisor.h"

static const char *opt_memory, *opt_name, *opt_door = "auto", *opt_view = "slice", *opt_breach = "report";

static const struct option_row options[] = {
	{ "memory", "LIMIT", "8GiB, 50%, or 0=8GiB,1=50%; without it the whole of each GPU", &opt_memory },
	{ "name", "NAME", "name of the slice; without it the program's name and pid", &opt_name },
	{ "door", "DOOR", "auto, supervisor or preload: how calls reach the guard", &opt_door },
	{ "view", "VIEW", "slice or host: the memory that programs are shown", &opt_view },
	{ "on-breach", "ACTION", "report or kill: when a program holds more than it was given", &opt_breach },
	{ NULL },
};

/* The slice as the command line and the GPUs make it. */
struct plan {
	char driver[32]; /* version whose layouts are used */
	uint32_t gpu_count;
	char name[SLICE_NAME];
	char program[PATH_MAX];
	struct ledger_gpu gpus[ACCOUNT_GPUS];
	uint64_t limits[ACCOUNT_GPUS];
};

static int not_one_of(const char *option, const char *value, const char *choices)
{
	complain("run: --%s '%s' is not one of %s", option, value, choices);
	return EXIT_USAGE;
}

static int check_words(void)
{
	if (strcmp(opt_door, "auto") != 0 && strcmp(opt_door, "supervisor") != 0 &&
	    strcmp(opt_door, "preload") != 0)
		return not_one_of("door", opt_door, "auto, supervisor, preload");
	if (strcmp(opt_view, "slice") != 0 && strcmp(opt_view, "host") != 0)
		return not_one_of("view", opt_view, "slice, host");
	if (strcmp(opt_breach, "report") != 0 && strcmp(opt_breach, "kill") != 0)
		return not_one_of("on-breach", opt_breach, "report, kill");
	if (opt_name && !slice_name_is_valid(opt_name)) {
		complain("run: --name '%s': a name has 1 to 63 letters, digits, '.', '_' or '-', and does "
			 "not start with '.'",
			 opt_name);
		return EXIT_USAGE;
	}
	return 0;
}

static int failed(const struct error *err)
{
	complain("%s", err->text);
	return EXIT_OURS;
}

/* What GPUs there are, and the limit on each. Returns 0 or an exit status. */
static int plan_limits(struct plan *plan)
{
	struct limit_gpu cards[ACCOUNT_GPUS] = { 0 };
	struct error err;
	struct rm rm;

	if (rm_open(&rm, &err) < 0)
		return failed(&err);
	memcpy(plan->driver, rm.layout_text, sizeof(plan->driver));
	plan->gpu_count = rm.gpu_count;
	for (uint32_t i = 0; i < rm.gpu_count; i++) {
		plan->gpus[i] = rm.gpus[i].gpu;
		plan->limits[i] = plan->gpus[i].total_bytes;
		cards[i].index = plan->gpus[i].index;
		memcpy(cards[i].uuid, plan->gpus[i].uuid, sizeof(cards[i].uuid));
		cards[i].total_bytes = plan->gpus[i].total_bytes;
	}
	rm_close(&rm);
	if (opt_memory && limit_parse(opt_memory, cards, plan->gpu_count, plan->limits, &err) < 0) {
		complain("run: --memory '%s': %s", opt_memory, err.text);
		return EXIT_USAGE;
	}
	return 0;
}

/* GPU_MEM_LIMIT_GB, for programs to read: the smallest limit of the slice's GPUs, in GiB. Changing it changes
 * nothing. */
static int tell_limit(const struct plan *plan)
{
	uint64_t least = UINT64_MAX;
	char text[SIZE_TEXT];

	for (uint32_t i = 0; i < plan->gpu_count; i++) {
		if (plan->limits[i] && plan->limits[i] < least)
			least = plan->limits[i];
	}
	snprintf(text, sizeof(text), "%.4f", (double)least / (1 << 30));
	for (char *end = text + strlen(text) - 1; *end == '0' || *end == '.'; end--) {
		char c = *end;

		*end = '\0';
		if (c == '.')
			break;
	}
	return setenv("GPU_MEM_LIMIT_GB", text, 1);
}

static void fill_settings(const struct plan *plan, const char *door, struct ledger_settings *settings)
{
	*settings = (struct ledger_settings){
		.name = plan->name,
		.door = door,
		.driver = plan->driver,
		.gpu_count = plan->gpu_count,
		.gpus = plan->gpus,
		.limits = plan->limits,
	};
}

/* Whether this very process is in a slice of the preload door. The library of a slice within would make its
 * calls past that of the slice around it. */
static bool is_in_slice(void)
{
	cleanup_file FILE *maps = fopen("/proc/self/maps", "re");
	char line[PATH_MAX + 128];

	while (maps && fgets(line, sizeof(line), maps)) {
		if (strstr(line, "/" LIBRARY_GLIBC) || strstr(line, "/" LIBRARY_MUSL))
			return true;
	}
	return false;
}

/* Make the slice's directory and, in it, its ledger. For the supervisor door that is where it publishes what
 * it knows. */
static int make_slice(const struct plan *plan, const char *runtime, const struct ledger_settings *settings,
		      struct slice_dir *dir, struct ledger_handle *ledger, struct error *err)
{
	char file[PATH_MAX];
	int r = slice_dir_make(dir, runtime, plan->name, err);

	if (r < 0)
		return r;
	snprintf(file, sizeof(file), "%s/ledger", dir->path);
	r = ledger_create(ledger, file, settings, err);
	if (r < 0) {
		slice_dir_done(dir);
		return r;
	}
	ledger->ledger->show_host = strcmp(opt_view, "host") == 0;
	slice_dir_ready(dir);
	return 0;
}

static int run_preload(struct plan *plan, const char *runtime, char **words)
{
	struct ledger_settings settings;
	struct ledger_handle ledger;
	struct slice_dir dir;
	char library[PATH_MAX];
	const char *kind;
	struct error err;
	int status;

	fill_settings(plan, "preload", &settings);
	if (program_takes_preload(plan->program, &kind, &err) < 0 ||
	    make_slice(plan, runtime, &settings, &dir, &ledger, &err) < 0)
		return failed(&err);
	ledger_close(&ledger);
	if (library_copy(&dir, kind, library, sizeof(library), &err) < 0)
		status = failed(&err);
	else
		status = program_run(plan->program, words, library);
	slice_dir_done(&dir);
	return status;
}

static int run_supervisor(struct plan *plan, const char *runtime, char **words)
{
	struct supervisor_options how = {
		.kill_on_breach = strcmp(opt_breach, "kill") == 0,
		.show_host = strcmp(opt_view, "host") == 0,
	};
	struct ledger_settings settings;
	struct ledger_handle ledger;
	struct slice_dir dir;
	struct error err;
	int status = 0;
	int r;

	fill_settings(plan, "supervisor", &settings);
	if (make_slice(plan, runtime, &settings, &dir, &ledger, &err) < 0)
		return failed(&err);
	how.settings = &settings;
	how.published = &ledger;
	r = supervisor_run(words, &how, &status, &err);
	ledger_close(&ledger);
	slice_dir_done(&dir);
	if (r < 0)
		return failed(&err);
	return WIFSIGNALED(status) ? EXIT_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
}

/* The door to take. With auto, what cannot be supervised is at least preloaded. */
static bool wants_supervisor(void)
{
	struct error err;

	if (strcmp(opt_door, "auto") != 0)
		return strcmp(opt_door, "supervisor") == 0;
	if (supervisor_probe(&err) == 0)
		return true;
	complain("warning: using the preload door, which a program can get out of: %s", err.text);
	return false;
}

static int run(int count, char **words)
{
	char runtime[RUNTIME_PATH];
	static struct plan plan;
	struct error err;
	int r;

	if (!count) {
		complain("run: which program? (see 'fracgpu run --help')");
		return EXIT_USAGE;
	}
	r = check_words();
	if (r)
		return r;
	r = program_find(words[0], plan.program, &err);
	if (r < 0) {
		complain("%s", err.text);
		return r == -ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
	}
	if (opt_name)
		snprintf(plan.name, sizeof(plan.name), "%s", opt_name);
	else
		slice_name_make(words[0], getpid(), plan.name);
	if (is_in_slice()) {
		complain("this is in a slice already; 'fracgpu run' does not make slices within slices");
		return EXIT_OURS;
	}
	if (runtime_path(runtime, &err) < 0)
		return failed(&err);
	r = plan_limits(&plan);
	if (r)
		return r;
	if (tell_limit(&plan) < 0)
		return complain("out of memory");
	return wants_supervisor() ? run_supervisor(&plan, runtime, words)
				  : run_preload(&plan, runtime, words);
}

const struct verb verb_run = {
	.name = "run",
	.synopsis = "[OPTIONS] [--] PROGRAM [ARGUMENTS]",
	.summary = "Run a program in a slice of its own",
	.options = options,
	.takes_words = true,
	.run = run,
};
