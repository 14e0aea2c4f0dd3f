/* SPDX-License-Identifier: Apache-2.0 */
/* Fills the memory of GPU 0 by one API until it is refused, and goes on afterwards: gpu-fill [OPTIONS] API
 *
 * Prints one JSON line an event and then waits for a word on stdin, so that somebody outside can look meanwhile:
 *   go      free half, take it again, write to it, free all, end     -> "done"
 *   again   take until refused once more                             -> "full"
 *   orphan  kill the process that exported to us, then as again      -> "full"
 *   kill    with --processes: kill -9 the first one                  -> "killed"
 *   sh ...  run a command                                            -> its output, "ran" */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <dlfcn.h>
#include <unistd.h>

#include "gpu/fill.h"

enum { BLOCKS = 65536, PROCESSES = 64, LINE = 512 };

/* How much of the slice is seen from inside. */
struct view {
	uint64_t free_bytes, total_bytes, device_bytes;
};

/* A note in a recording, where we are recorded (record.c). */
static void phase(const char *name)
{
	void (*note)(const char *) = NULL;
	void *found = dlsym(RTLD_DEFAULT, "trace_phase");

	memcpy(&note, &found, sizeof(found));
	if (note)
		note(name);
}

static int look(struct fill *f, struct view *ret_view)
{
	size_t left = 0, total = 0;
	int r;

	if (f->api->is_raw) {
		r = test_rm_fb_info(&f->rm, FB_INFO_INDEX_HEAP_FREE, &ret_view->free_bytes);
		r = r ? r : test_rm_fb_info(&f->rm, FB_INFO_INDEX_TOTAL_RAM_SIZE, &ret_view->total_bytes);
		ret_view->device_bytes = ret_view->total_bytes;
		return r;
	}
	r = f->cu.mem_info(&left, &total);
	ret_view->free_bytes = left;
	ret_view->total_bytes = total;
	r = r ? r : f->cu.device_total(&left, f->cu.device);
	ret_view->device_bytes = left;
	return r;
}

static int start(struct fill *f)
{
	int r = f->api->before ? f->api->before(f) : 0;

	phase("start");
	if (r == 0)
		r = f->api->is_raw ? test_rm_open(&f->rm, 0) : cuda_start(&f->cu);
	if (r == 0 && f->api->prepare)
		r = f->api->prepare(f);
	return r;
}

static int take_one(struct fill *f)
{
	struct block *b = &f->blocks[f->count];
	int r;

	memset(b, 0, sizeof(*b));
	r = f->api->take(f, b);
	if (r == 0)
		f->count++;
	return r;
}

/* Take until refused, and say so. Returns false when there is nobody to tell. */
static bool fill_up(struct fill *f)
{
	struct view before = { 0 }, now = { 0 };
	uint64_t step = 0;
	int r = look(f, &before);

	now = before;
	phase("fill");
	while (r == 0 && f->count < BLOCKS && f->count * f->step_bytes < f->cap_bytes) {
		uint64_t left = now.free_bytes;

		r = take_one(f);
		if (r == 0)
			r = look(f, &now);
		if (r == 0 && left > now.free_bytes && left - now.free_bytes > step)
			step = left - now.free_bytes;
	}
	phase("full");
	look(f, &now);
	return printf("{\"event\":\"full\",\"pid\":%d,\"status\":%d,\"count\":%zu,\"asked\":%" PRIu64 ",\"step\":%" PRIu64
		      ",\"before\":%" PRIu64 ",\"free\":%" PRIu64 ",\"total\":%" PRIu64 ",\"device\":%" PRIu64 "}\n",
		      getpid(), r, f->count, f->count * f->step_bytes, step, before.free_bytes, now.free_bytes,
		      now.total_bytes, now.device_bytes) > 0 && fflush(stdout) == 0;
}

static void give_down_to(struct fill *f, size_t left)
{
	while (f->count > left)
		f->api->give(f, &f->blocks[--f->count]);
	if (f->api->settle)
		f->api->settle(f);
}

/* A program that was refused memory must be able to go on. */
static bool go_on(struct fill *f)
{
	size_t before = f->count, half = before / 2;
	struct view now = { 0 };
	int status = 0, sync = 0;

	/* what was imported, its exporter would have to give back, too */
	while (f->api->before && half < before && !f->blocks[half].is_plain)
		half++;
	phase("half freed");
	give_down_to(f, half);
	phase("taken again");
	while (status == 0 && f->count < before)
		status = take_one(f);
	if (!f->api->is_raw) {
		if (f->count && f->blocks[f->count - 1].is_linear)
			sync = f->cu.mem_set(f->blocks[f->count - 1].address, 7, f->step_bytes);
		if (!sync)
			sync = f->cu.synchronize();
	}
	before -= f->count;
	phase("all freed");
	give_down_to(f, 0);
	look(f, &now);
	phase("done");
	printf("{\"event\":\"done\",\"pid\":%d,\"status\":%d,\"missing\":%zu,\"sync\":%d,\"free\":%" PRIu64 "}\n", getpid(), status,
	       before, sync, now.free_bytes);
	return fflush(stdout) == 0 && status == 0 && sync == 0;
}

static void run_shell(char *command)
{
	int status = system(command);

	printf("{\"event\":\"ran\",\"pid\":%d,\"status\":%d}\n", getpid(), WEXITSTATUS(status));
	fflush(stdout);
}

static int worker(struct fill *f)
{
	char line[LINE];
	int r;

	f->exporter = -1;
	r = start(f);
	if (r) {
		printf("{\"event\":\"failed\",\"pid\":%d,\"status\":%d}\n", getpid(), r);
		fflush(stdout);
		return 1;
	}
	/* one that fills up before another has its context would keep it from starting */
	if (f->ready && (write(f->ready, "", 1) != 1 || read(f->begin, line, 1) != 1))
		return 1;
	if (!fill_up(f))
		return 1;
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		if (strcmp(line, "go") == 0)
			return go_on(f) ? 0 : 1;
		if (strncmp(line, "sh ", 3) == 0)
			run_shell(line + 3);
		else if (strcmp(line, "orphan") == 0)
			import_orphan(f);
		if (strncmp(line, "sh ", 3) != 0 && !fill_up(f))
			return 1;
	}
	return 0;
}

/* One of several processes, seen from the one that started them. */
struct child {
	pid_t pid;	/* 0: ended */
	FILE *to, *from;
};

static int child_start(struct child *child, struct fill *f)
{
	int down[2], up[2];

	if (pipe(down) < 0 || pipe(up) < 0)
		return -1;
	child->pid = fork();
	if (child->pid == 0) {
		dup2(down[0], STDIN_FILENO);
		dup2(up[1], STDOUT_FILENO);
		for (int i = 0; i < 2; i++) {
			close(down[i]);
			close(up[i]);
		}
		_exit(worker(f));
	}
	close(down[0]);
	close(up[1]);
	child->to = fdopen(down[1], "w");
	child->from = fdopen(up[0], "r");
	return child->pid > 0 && child->to && child->from ? 0 : -1;
}

static void child_pass(struct child *child)
{
	char line[LINE];

	if (child->pid && fgets(line, sizeof(line), child->from)) {
		fputs(line, stdout);
		fflush(stdout);
	}
}

static int control(struct fill *f, int processes)
{
	struct child children[PROCESSES] = { 0 };
	int ready[2], begin[2];
	char line[LINE];
	int failed = 0;

	if (pipe(ready) < 0 || pipe(begin) < 0)
		return 1;
	f->ready = ready[1];
	f->begin = begin[0];
	for (int i = 0; i < processes; i++) {
		if (child_start(&children[i], f) < 0)
			return 1;
	}
	close(ready[1]);
	/* one that cannot start says so itself, and ends */
	for (int i = 0; i < processes && read(ready[0], line, 1) == 1; i++)
		continue;
	for (int i = 0; i < processes; i++)
		failed += write(begin[1], "", 1) != 1;
	for (int i = 0; i < processes; i++)
		child_pass(&children[i]);
	while (fgets(line, sizeof(line), stdin)) {
		if (strcmp(line, "kill\n") == 0) {
			kill(children[0].pid, SIGKILL);
			waitpid(children[0].pid, NULL, 0);
			printf("{\"event\":\"killed\",\"pid\":%d}\n", children[0].pid);
			fflush(stdout);
			children[0].pid = 0;
			continue;
		}
		for (int i = 0; i < processes; i++) {
			if (children[i].pid) {
				fputs(line, children[i].to);
				fflush(children[i].to);
			}
		}
		for (int i = 0; i < processes; i++)
			child_pass(&children[i]);
		if (strcmp(line, "go\n") == 0)
			break;
	}
	for (int i = 0; i < processes; i++) {
		int status = 0;

		if (!children[i].pid)
			continue;
		fclose(children[i].to);
		if (waitpid(children[i].pid, &status, 0) < 0 || status != 0)
			failed++;
	}
	return failed ? 1 : 0;
}

static const struct fill_api *api_find(const char *name)
{
	for (const struct fill_api *api = fill_apis; name && api->name; api++) {
		if (strcmp(api->name, name) == 0)
			return api;
	}
	return NULL;
}

static int usage(void)
{
	fputs("usage: gpu-fill [--step BYTES] [--cap BYTES] [--processes N] API\nAPIs:", stderr);
	for (const struct fill_api *api = fill_apis; api->name; api++)
		fprintf(stderr, " %s", api->name);
	fputc('\n', stderr);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "step", required_argument, NULL, 's' },
		{ "cap", required_argument, NULL, 'c' },
		{ "processes", required_argument, NULL, 'p' },
		{ NULL, 0, NULL, 0 },
	};
	struct fill fill = { .step_bytes = UINT64_C(32) << 20, .cap_bytes = UINT64_C(8) << 30 };
	int processes = 1;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 's')
			fill.step_bytes = strtoull(optarg, NULL, 10);
		else if (option == 'c')
			fill.cap_bytes = strtoull(optarg, NULL, 10);
		else if (option == 'p')
			processes = atoi(optarg);
		else
			return usage();
	}
	fill.api = api_find(argv[optind]);
	fill.blocks = calloc(BLOCKS, sizeof(*fill.blocks));
	if (!fill.api || !fill.blocks || !fill.step_bytes || processes < 1 || processes > PROCESSES)
		return usage();
	return processes > 1 ? control(&fill, processes) : worker(&fill);
}
