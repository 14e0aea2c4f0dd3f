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

#include "arbiter/arbiter.h"
#include "base/cleanup.h"
#include "base/size.h"
#include "cli/compute.h"
#include "cli/control.h"
#include "cli/options.h"
#include "cli/program.h"
#include "cli/runtime.h"
#include "ledger/ledger.h"
#include "policy/limit.h"
#include "rm/rm.h"
#include "supervisor/supervisor.h"

static const char *opt_memory, *opt_name, *opt_door = "auto", *opt_view = "slice", *opt_breach = "report";
static const char *opt_compute, *opt_weight, *opt_priority, *opt_latency;

static const struct option_row options[] = {
	{ "memory", "LIMIT", "8GiB, 50%, or 0=8GiB,1=50%; without it the whole of each GPU", &opt_memory },
	{ "compute", "SHARE", "at most this share of each GPU's time: 50%, or none", &opt_compute },
	{ "weight", "NUMBER", "1 to 10000: its part where several slices with this or --priority want a GPU",
	  &opt_weight },
	{ "priority", "PRIORITY", "realtime, normal or idle, between slices with this or --weight",
	  &opt_priority },
	{ "latency", "TIME", "2ms to 20ms: how long a cap may hold the program back at a stretch", &opt_latency },
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
	uint32_t cap_permille, weight, priority; /* of GPU time, as in the ledger */
	struct gate_options gates;
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

/* Shares of GPU time. Returns 0 or an exit status. */
static int plan_compute(struct plan *plan)
{
	const char *option = "compute";
	struct error err;
	int r = 0;

	if (opt_compute)
		r = compute_cap_parse(opt_compute, &plan->cap_permille, &err);
	if (r == 0 && opt_weight)
		r = compute_weight_parse(opt_weight, &plan->weight, &err), option = "weight";
	if (r == 0 && opt_priority)
		r = compute_priority_parse(opt_priority, &plan->priority, &err), option = "priority";
	if (r == 0 && opt_latency)
		r = compute_latency_parse(opt_latency, &plan->gates.latency_ns, &err), option = "latency";
	if (r < 0) {
		complain("run: --%s: %s", option, err.text);
		return EXIT_USAGE;
	}
	/* who names a priority takes part in sharing, with the weight that everybody has */
	if (opt_priority && !plan->weight)
		plan->weight = ARBITER_WEIGHT_DEFAULT;
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
		cards[i] = ledger_limit_gpu(&plan->gpus[i]);
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

/* A slice that is being run. */
struct running {
	const struct plan *plan;
	struct slice_dir dir;
	struct ledger_handle ledger; /* the file; for the supervisor door a copy for others to look at */
	struct control control;
};

/* Make the slice's directory and, in it, its ledger and its socket. */
static int make_slice(struct running *running, const char *runtime, const struct ledger_settings *settings,
		      struct error *err)
{
	char file[PATH_MAX];
	int r = slice_dir_make(&running->dir, runtime, running->plan->name, err);

	if (r < 0)
		return r;
	snprintf(file, sizeof(file), "%s/ledger", running->dir.path);
	r = ledger_create(&running->ledger, file, settings, err);
	if (r == 0) {
		r = control_open(&running->control, running->dir.path, err);
		if (r < 0)
			ledger_close(&running->ledger);
	}
	if (r < 0) {
		slice_dir_done(&running->dir);
		return r;
	}
	running->control.options = running->plan->gates;
	running->control.options.share_dir = runtime;
	running->control.options.may_join = control_may_join;
	running->ledger.ledger->show_host = strcmp(opt_view, "host") == 0;
	slice_dir_ready(&running->dir);
	return 0;
}

static void unmake_slice(struct running *running)
{
	control_stop(&running->control);
	ledger_close(&running->ledger);
	slice_dir_done(&running->dir);
}

static void set_compute(struct ledger *ledger, const struct plan *plan)
{
	if (!opt_compute && !opt_weight && !opt_priority)
		return;
	ledger->compute_max_permille = plan->cap_permille;
	ledger->compute_weight = plan->weight;
	ledger->compute_priority = plan->priority;
	gate_settings_changed(ledger);
}

static void control_or_say(struct running *running, struct ledger_handle *ledger, struct ledger_handle *published)
{
	int r = control_start(&running->control, ledger, published);

	if (r < 0)
		complain("warning: this slice cannot be changed, nor its GPU time limited: %s", strerror(-r));
}

static void preload_started(void *arg)
{
	struct running *running = arg;

	control_or_say(running, &running->ledger, NULL);
}

static int run_preload(struct plan *plan, const char *runtime, char **words)
{
	static struct running running;
	const struct program_watch watch = { preload_started, &running };
	struct ledger_settings settings;
	char library[PATH_MAX];
	const char *kind;
	struct error err;
	int status;

	running.plan = plan;
	fill_settings(plan, "preload", &settings);
	if (program_takes_preload(plan->program, &kind, &err) < 0 ||
	    make_slice(&running, runtime, &settings, &err) < 0)
		return failed(&err);
	set_compute(running.ledger.ledger, plan);
	if (library_copy(&running.dir, kind, library, sizeof(library), &err) < 0)
		status = failed(&err);
	else
		status = program_run(plan->program, words, library, &watch);
	unmake_slice(&running);
	return status;
}

static void supervisor_started(struct ledger_handle *ledger, void *arg)
{
	struct running *running = arg;

	set_compute(ledger->ledger, running->plan);
	control_or_say(running, ledger, &running->ledger);
}

static void supervisor_ended(void *arg)
{
	struct running *running = arg;

	control_stop(&running->control);
}

static int run_supervisor(struct plan *plan, const char *runtime, char **words)
{
	static struct running running;
	struct ledger_settings settings;
	struct supervisor_options how = {
		.settings = &settings,
		.published = &running.ledger,
		.kill_on_breach = strcmp(opt_breach, "kill") == 0,
		.show_host = strcmp(opt_view, "host") == 0,
		.started = supervisor_started,
		.ended = supervisor_ended,
		.arg = &running,
	};
	struct error err;
	int status = 0;
	int r;

	running.plan = plan;
	fill_settings(plan, "supervisor", &settings);
	if (make_slice(&running, runtime, &settings, &err) < 0)
		return failed(&err);
	set_compute(running.ledger.ledger, plan);
	r = supervisor_run(words, &how, &status, &err);
	unmake_slice(&running);
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
	if (r == 0)
		r = plan_compute(&plan);
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
