/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps a whole GPU busy with kernels of fixed work and tells how much of it was done: gpu-load [OPTIONS].
 *
 * As a load it always has kernels queued, so that no wait of this program's leaves the GPU idle, and counts
 * by interpolation between the ends of batches, so that a window need not fit the kernels. With --rate it is
 * a service instead: requests on a schedule, each a chain of kernels that is waited for, timed from when it
 * was due. Prints one JSON object at the end of the window, or at SIGTERM. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "gpu/cuda.h"

enum {
	THREADS = 256,
	BLOCKS_OF_SM = 8,
	GRAPH_KERNELS = 8,
	MOST_DEPTH = 4,
	MOST_PROCESSES = 64,
	MOST_SAMPLES = 1 << 20
};
enum { MANAGED_BYTES = 256 << 20, SLOT_MS = 100, FIRST_ITERATIONS = 1000 };

#define SECOND_NS UINT64_C(1000000000)
#define BATCH_MS 2.0 /* of work between two looks at the GPU */
#define LONG_MS 10.0 /* of kernels that need no deep queue */

/* burn: dependent multiplications and additions, whose result is stored only when it is one that cannot be.
 * stream: reads and writes its buffer from one end to the other, over and over. The loop's length is an
 * argument. */
#define KERNELS                                                                                              \
	".address_size 64\n"                                                                                 \
	".visible .entry burn(.param .u64 buffer, .param .u32 iterations, .param .u32 words)\n"              \
	"{\n"                                                                                                \
	".reg .pred %p<3>;\n.reg .b32 %r<4>;\n.reg .f32 %f<4>;\n.reg .b64 %rd<3>;\n"                         \
	"ld.param.u64 %rd1, [buffer];\ncvta.to.global.u64 %rd2, %rd1;\nld.param.u32 %r1, [iterations];\n"    \
	"mov.u32 %r2, %tid.x;\ncvt.rn.f32.u32 %f1, %r2;\n"                                                   \
	"mov.f32 %f2, 0f3F7FFF58;\nmov.f32 %f3, 0f3A83126F;\nmov.u32 %r3, 0;\n"                              \
	"$again:\n"                                                                                          \
	"setp.ge.u32 %p1, %r3, %r1;\n@%p1 bra $done;\n"                                                      \
	"fma.rn.f32 %f1, %f1, %f2, %f3;\nadd.u32 %r3, %r3, 1;\nbra $again;\n"                                \
	"$done:\n"                                                                                           \
	"setp.eq.f32 %p2, %f1, 0fC2F60000;\n@%p2 st.global.f32 [%rd2], %f1;\nret;\n"                         \
	"}\n"                                                                                                \
	".visible .entry stream(.param .u64 buffer, .param .u32 iterations, .param .u32 words)\n"            \
	"{\n"                                                                                                \
	".reg .pred %p<3>;\n.reg .b32 %r<9>;\n.reg .f32 %f<2>;\n.reg .b64 %rd<5>;\n"                         \
	"ld.param.u64 %rd1, [buffer];\ncvta.to.global.u64 %rd2, %rd1;\n"                                     \
	"ld.param.u32 %r1, [iterations];\nld.param.u32 %r2, [words];\n"                                      \
	"mov.u32 %r3, %ctaid.x;\nmov.u32 %r4, %ntid.x;\nmov.u32 %r5, %tid.x;\nmad.lo.u32 %r6, %r3, %r4, "    \
	"%r5;\n"                                                                                             \
	"mov.u32 %r7, %nctaid.x;\nmul.lo.u32 %r7, %r7, %r4;\nmov.u32 %r8, 0;\n"                              \
	"$again:\n"                                                                                          \
	"setp.ge.u32 %p1, %r8, %r1;\n@%p1 bra $done;\n"                                                      \
	"mul.wide.u32 %rd3, %r6, 4;\nadd.s64 %rd4, %rd2, %rd3;\n"                                            \
	"ld.global.f32 %f1, [%rd4];\nadd.f32 %f1, %f1, 0f3F800000;\nst.global.f32 [%rd4], %f1;\n"            \
	"add.u32 %r6, %r6, %r7;\nsetp.ge.u32 %p2, %r6, %r2;\n@%p2 sub.u32 %r6, %r6, %r2;\n"                  \
	"add.u32 %r8, %r8, 1;\nbra $again;\n"                                                                \
	"$done:\n"                                                                                           \
	"ret;\n"                                                                                             \
	"}\n"

/* The oldest targets that a driver may still take come last. */
static const char *const modules[] = {
	".version 6.5\n.target sm_75\n" KERNELS,
	".version 6.0\n.target sm_52\n" KERNELS,
};

enum kind { KIND_KERNEL, KIND_GRAPH, KIND_COOPERATIVE, KIND_MANAGED };

static const char *const kind_names[] = { "kernel", "graph", "cooperative", "managed-stream" };

struct load {
	enum kind kind;
	double seconds, warm_up_seconds, kernel_ms, gap_us;
	uint32_t iterations; /* of a kernel's loop; 0: as many as take kernel_ms */
	uint32_t rate, chain; /* requests a second, kernels of each; 0: a load */
	uint32_t processes;
	uint64_t start_ns; /* 0: when ready */
	bool waits, holds, tells_slots;

	struct cuda cu;
	void *function, *stream, *exec, *events[MOST_DEPTH];
	uint64_t buffer;
	uint32_t words, grid;
	uint32_t unit; /* kernels of a submission */
	uint32_t batch, depth; /* submissions of a batch, batches queued */
	double late_ms;
};

static volatile sig_atomic_t is_ended;

static void on_signal(int number)
{
	is_ended = 1;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

static void sleep_until(uint64_t at_ns)
{
	struct timespec t = { .tv_sec = (time_t)(at_ns / SECOND_NS), .tv_nsec = (long)(at_ns % SECOND_NS) };

	while (!is_ended && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

static double ms_between(uint64_t from_ns, uint64_t to_ns)
{
	return ((double)to_ns - (double)from_ns) / 1e6;
}

/* --- kernels --- */

static int submit_kernel(struct load *l, uint32_t iterations)
{
	void *params[] = { &l->buffer, &iterations, &l->words };

	if (l->kind == KIND_COOPERATIVE)
		return l->cu.launch_together(l->function, l->grid, 1, 1, THREADS, 1, 1, 0, l->stream, params);
	return l->cu.launch(l->function, l->grid, 1, 1, THREADS, 1, 1, 0, l->stream, params, NULL);
}

static int submit(struct load *l)
{
	return l->exec ? l->cu.graph_launch(l->exec, l->stream) : submit_kernel(l, l->iterations);
}

static int make_graph(struct load *l)
{
	void *graph = NULL;
	int r = l->cu.capture_begin(l->stream, CU_CAPTURE_GLOBAL);

	for (int i = 0; i < GRAPH_KERNELS && r == 0; i++)
		r = submit_kernel(l, l->iterations);
	r = r ? r : l->cu.capture_end(l->stream, &graph);
	r = r ? r : l->cu.graph_instantiate(&l->exec, graph, 0);
	l->unit = GRAPH_KERNELS;
	return r;
}

/* The grid that fills the GPU: of a cooperative launch all blocks must fit at once. */
static int size_grid(struct load *l)
{
	int units = 0, blocks = BLOCKS_OF_SM;
	int r = l->cu.device_attribute(&units, CU_ATTRIBUTE_MULTIPROCESSORS, l->cu.device);

	if (r == 0 && l->kind == KIND_COOPERATIVE)
		r = l->cu.occupancy(&blocks, l->function, THREADS, 0);
	if (blocks > BLOCKS_OF_SM)
		blocks = BLOCKS_OF_SM;
	l->grid = (uint32_t)(units * blocks);
	return r;
}

static int prepare(struct load *l)
{
	uint32_t bytes = l->kind == KIND_MANAGED ? MANAGED_BYTES : 4;
	const char *name = l->kind == KIND_MANAGED ? "stream" : "burn";
	void *module = NULL;
	int r = 1;

	for (size_t i = 0; i < sizeof(modules) / sizeof(modules[0]) && r; i++)
		r = l->cu.module_load(&module, modules[i]);
	r = r ? r : l->cu.module_function(&l->function, module, name);
	r = r ? r : l->cu.stream_create(&l->stream, 0);
	for (int i = 0; i < MOST_DEPTH && r == 0; i++)
		r = l->cu.event_create(&l->events[i], CU_EVENT_DISABLE_TIMING);
	r = r ? r : size_grid(l);
	if (r == 0 && l->kind == KIND_MANAGED)
		r = l->cu.mem_managed(&l->buffer, bytes, CU_MEM_ATTACH_GLOBAL);
	else if (r == 0)
		r = l->cu.mem_alloc(&l->buffer, bytes);
	l->words = bytes / 4;
	/* the first one is loaded; and managed memory comes to the GPU */
	r = r ? r : submit_kernel(l, FIRST_ITERATIONS);
	return r ? r : l->cu.synchronize();
}

static int time_kernels(struct load *l, uint32_t iterations, uint32_t count, double *ret_ms)
{
	uint64_t before = now_ns();
	int r = 0;

	for (uint32_t i = 0; i < count && r == 0; i++)
		r = submit_kernel(l, iterations);
	r = r ? r : l->cu.synchronize();
	*ret_ms = ms_between(before, now_ns()) / count;
	return r;
}

/* How many iterations take kernel_ms, once the GPU's clocks are up. */
static int calibrate(struct load *l)
{
	uint64_t warm_ns = now_ns() + SECOND_NS * 3 / 10;
	double iterations = 10 * FIRST_ITERATIONS, ms = 0;
	int r = 0;

	while (r == 0 && now_ns() < warm_ns && !is_ended)
		r = time_kernels(l, (uint32_t)iterations, 16, &ms);
	for (int i = 0; i < 4 && r == 0 && !is_ended; i++) {
		iterations *= l->kernel_ms / (ms > 1e-5 ? ms : 1e-5);
		if (iterations < 1)
			iterations = 1;
		if (iterations > INT32_MAX)
			iterations = INT32_MAX;
		r = time_kernels(l, (uint32_t)iterations, 2 + (uint32_t)(40 / l->kernel_ms), &ms);
	}
	l->iterations = (uint32_t)iterations;
	return r;
}

/* --- a load --- */

/* Work done at equal distances over the window: mark 0 is its start, the last mark its end. */
struct window {
	uint64_t start_ns, end_ns;
	uint32_t slots, next; /* next: mark that is not passed yet */
	double *marks;
	uint64_t last_ns; /* when a batch ended last */
	double last; /* kernels done by then */
	double stall_ms;
};

static uint64_t mark_ns(const struct window *w, uint32_t i)
{
	return w->start_ns + (w->end_ns - w->start_ns) * i / w->slots;
}

static void note(struct window *w, uint64_t at_ns, double done)
{
	while (w->next <= w->slots && mark_ns(w, w->next) <= at_ns) {
		double part = ms_between(w->last_ns, mark_ns(w, w->next)) / ms_between(w->last_ns, at_ns);

		w->marks[w->next++] = w->last + (done - w->last) * (part > 0 ? part : 0);
	}
	if (at_ns > w->start_ns && w->last_ns < w->end_ns && ms_between(w->last_ns, at_ns) > w->stall_ms)
		w->stall_ms = ms_between(w->last_ns, at_ns);
	w->last_ns = at_ns;
	w->last = done;
}

/* Wait for a batch to end. Looks now and then: a slice that is paused keeps nobody here at SIGTERM. */
static int await(struct load *l, void *event, bool is_urgent)
{
	const struct timespec nap = { .tv_nsec = 100000 };
	int r = l->cu.event_query(event);

	while (r == CUDA_ERROR_NOT_READY && !is_ended) {
		if (!is_urgent)
			nanosleep(&nap, NULL);
		r = l->cu.event_query(event);
	}
	return r;
}

static void tell_load(const struct load *l, const struct window *w, double total)
{
	bool is_whole = w->next > w->slots;
	double begun = w->next ? w->marks[0] : w->last;
	double launches = (is_whole ? w->marks[w->slots] : w->last) - begun;
	uint64_t end_ns = is_whole ? w->end_ns : w->last_ns;
	double seconds = w->next && end_ns > w->start_ns ? ms_between(w->start_ns, end_ns) / 1e3 : 0;

	printf("{\"kind\":\"%s\",\"kernel_ms\":%g,\"iterations\":%" PRIu32
	       ",\"launches\":%.3f,\"seconds\":%.6f,"
	       "\"rate\":%.6f,\"stall_ms\":%.3f,\"late_ms\":%.3f,\"whole\":%s,\"total\":%.0f",
	       kind_names[l->kind], l->kernel_ms, l->iterations, launches, seconds,
	       seconds > 0 ? launches / seconds : 0, w->stall_ms, l->late_ms, is_whole ? "true" : "false",
	       total);
	if (l->tells_slots) {
		fputs(",\"slots\":[", stdout);
		for (uint32_t i = 1; i < w->next; i++)
			printf("%s%.3f", i > 1 ? "," : "", w->marks[i] - w->marks[i - 1]);
		putchar(']');
	}
	puts("}");
	fflush(stdout);
}

static int run_load(struct load *l)
{
	struct window w = { .start_ns = l->start_ns + (uint64_t)(l->warm_up_seconds * 1e9),
			    .last_ns = now_ns() };
	uint32_t per_batch = l->batch * l->unit;
	uint64_t queued = 0, finished = 0;
	int r = 0;

	w.end_ns = w.start_ns + (uint64_t)(l->seconds * 1e9);
	w.slots = l->tells_slots ? (uint32_t)(l->seconds * 1e3 / SLOT_MS) : 1;
	w.slots = w.slots ? w.slots : 1;
	w.marks = calloc(w.slots + 1, sizeof(*w.marks));
	if (!w.marks)
		return CUDA_ERROR_OUT_OF_MEMORY;
	while (w.next <= w.slots && !is_ended && r == 0) {
		while (queued - finished < l->depth && r == 0) {
			for (uint32_t i = 0; i < l->batch && r == 0; i++)
				r = submit(l);
			r = r ? r : l->cu.event_record(l->events[queued++ % l->depth], l->stream);
		}
		r = r ? r : await(l, l->events[finished % l->depth], false);
		if (r == 0)
			note(&w, now_ns(), (double)(++finished * per_batch));
	}
	if (r == CUDA_ERROR_NOT_READY)
		r = 0;
	if (r == 0 && l->holds && !is_ended)
		r = l->cu.synchronize();
	if (r == 0)
		tell_load(l, &w, (double)(queued * per_batch));
	free(w.marks);
	return r;
}

/* --- a service --- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* One request, waited for. A gap is what a framework needs between two launches. */
static int serve(struct load *l)
{
	uint64_t gap_ns = (uint64_t)(l->gap_us * 1e3);
	int r = 0;

	for (uint32_t i = 0; i < l->chain && r == 0; i++) {
		uint64_t next_ns = now_ns() + gap_ns;

		r = submit_kernel(l, l->iterations);
		while (gap_ns && now_ns() < next_ns)
			;
	}
	r = r ? r : l->cu.event_record(l->events[0], l->stream);
	return r ? r : await(l, l->events[0], true);
}

static void tell_service(const struct load *l, double *times, uint32_t count, double seconds)
{
	double sum = 0;

	qsort(times, count, sizeof(*times), compare);
	for (uint32_t i = 0; i < count; i++)
		sum += times[i];
	printf("{\"kind\":\"%s\",\"kernel_ms\":%g,\"iterations\":%" PRIu32 ",\"chain\":%" PRIu32
	       ",\"requests\":%" PRIu32 ",\"seconds\":%.3f,\"rate\":%.3f,\"late_ms\":%.3f",
	       kind_names[l->kind], l->kernel_ms, l->iterations, l->chain, count, seconds,
	       seconds > 0 ? count / seconds : 0, l->late_ms);
	if (count)
		printf(",\"mean_ms\":%.4f,\"p50_ms\":%.4f,\"p90_ms\":%.4f,\"p99_ms\":%.4f,\"max_ms\":%.4f",
		       sum / count, times[count / 2], times[(uint64_t)count * 90 / 100],
		       times[(uint64_t)count * 99 / 100], times[count - 1]);
	puts("}");
	fflush(stdout);
}

static int run_service(struct load *l)
{
	uint64_t start_ns = l->start_ns + (uint64_t)(l->warm_up_seconds * 1e9);
	uint64_t end_ns = start_ns + (uint64_t)(l->seconds * 1e9);
	double *times = calloc(MOST_SAMPLES, sizeof(*times));
	uint32_t count = 0;
	int r = times ? 0 : CUDA_ERROR_OUT_OF_MEMORY;

	for (uint64_t i = 0; r == 0 && count < MOST_SAMPLES && !is_ended; i++) {
		uint64_t due_ns = l->start_ns + i * SECOND_NS / l->rate;

		if (due_ns >= end_ns)
			break;
		sleep_until(due_ns - SECOND_NS / 10000); /* to wake up takes its time */
		while (now_ns() < due_ns && !is_ended)
			;
		r = serve(l);
		if (r == 0 && due_ns >= start_ns)
			times[count++] = ms_between(due_ns, now_ns());
	}
	if (r == 0 || r == CUDA_ERROR_NOT_READY) {
		uint64_t until_ns = now_ns() < end_ns ? now_ns() : end_ns;

		tell_service(l, times, count, until_ns > start_ns ? ms_between(start_ns, until_ns) / 1e3 : 0);
		r = 0;
	}
	free(times);
	return r;
}

/* --- the program --- */

static const char usage[] =
	"usage: gpu-load [OPTIONS]\n"
	"  --kind KIND        kernel, graph (of 8), cooperative, managed-stream\n"
	"  --ms MS            length of a kernel alone on the GPU (default: 0.4)\n"
	"  --iterations N     of a kernel's loop, as an earlier run told: the same work again\n"
	"  --seconds S        of the window (default: 4)\n"
	"  --warm-up S        of load before the window (default: 0.5)\n"
	"  --start-at NS      of CLOCK_MONOTONIC: when the load begins\n"
	"  --wait             say 'ready' and read the start from stdin\n"
	"  --hold             after the window let all work end, tell, and keep the context until stdin "
	"ends\n"
	"  --slots            also tell the kernels of each 100 ms\n"
	"  --processes N      that do the same\n"
	"  --rate N           requests a second, timed, instead of a load\n"
	"  --chain N          kernels of a request (default: 8)\n"
	"  --gap US           between launches of a request (default: 0)\n";

/* What getopt_long() answers. */
enum word {
	OPT_KIND = 1,
	OPT_MS,
	OPT_ITERATIONS,
	OPT_SECONDS,
	OPT_WARM_UP,
	OPT_START_AT,
	OPT_WAIT,
	OPT_HOLD,
	OPT_SLOTS,
	OPT_PROCESSES,
	OPT_RATE,
	OPT_CHAIN,
	OPT_GAP
};

static const struct option option_rows[] = {
	{ "kind", required_argument, NULL, OPT_KIND },
	{ "ms", required_argument, NULL, OPT_MS },
	{ "iterations", required_argument, NULL, OPT_ITERATIONS },
	{ "seconds", required_argument, NULL, OPT_SECONDS },
	{ "warm-up", required_argument, NULL, OPT_WARM_UP },
	{ "start-at", required_argument, NULL, OPT_START_AT },
	{ "wait", no_argument, NULL, OPT_WAIT },
	{ "hold", no_argument, NULL, OPT_HOLD },
	{ "slots", no_argument, NULL, OPT_SLOTS },
	{ "processes", required_argument, NULL, OPT_PROCESSES },
	{ "rate", required_argument, NULL, OPT_RATE },
	{ "chain", required_argument, NULL, OPT_CHAIN },
	{ "gap", required_argument, NULL, OPT_GAP },
	{ NULL },
};

static bool parse_kind(struct load *l)
{
	for (unsigned int i = 0; i < sizeof(kind_names) / sizeof(kind_names[0]); i++) {
		if (strcmp(optarg, kind_names[i]) == 0) {
			l->kind = (enum kind)i;
			return true;
		}
	}
	return false;
}

static bool parse_double(double *ret, double least, double most)
{
	char *end;
	double value = strtod(optarg, &end);

	*ret = value;
	return end != optarg && !*end && value >= least && value <= most;
}

static bool parse_number(uint32_t *ret, uint32_t least, uint32_t most)
{
	double value = 0;
	bool is_good = parse_double(&value, least, most);

	*ret = (uint32_t)value;
	return is_good;
}

static bool parse_start(struct load *l)
{
	char *end;

	l->start_ns = strtoull(optarg, &end, 10);
	return end != optarg && !*end;
}

static bool parse(struct load *l, int option)
{
	switch (option) {
	case OPT_KIND:
		return parse_kind(l);
	case OPT_MS:
		return parse_double(&l->kernel_ms, 0.001, 2000);
	case OPT_ITERATIONS:
		return parse_number(&l->iterations, 1, INT32_MAX);
	case OPT_SECONDS:
		return parse_double(&l->seconds, 0.01, 86400);
	case OPT_WARM_UP:
		return parse_double(&l->warm_up_seconds, 0, 3600);
	case OPT_START_AT:
		return parse_start(l);
	case OPT_WAIT:
		return l->waits = true;
	case OPT_HOLD:
		return l->holds = true;
	case OPT_SLOTS:
		return l->tells_slots = true;
	case OPT_PROCESSES:
		return parse_number(&l->processes, 1, MOST_PROCESSES);
	case OPT_RATE:
		return parse_number(&l->rate, 1, 10000);
	case OPT_CHAIN:
		return parse_number(&l->chain, 1, 1000);
	case OPT_GAP:
		return parse_double(&l->gap_us, 0, 10000);
	default:
		return false;
	}
}

/* Wait for the word to start, and for the start. */
static void await_start(struct load *l)
{
	char line[64];

	if (l->waits) {
		puts("ready");
		fflush(stdout);
		if (fgets(line, sizeof(line), stdin))
			l->start_ns = strtoull(line, NULL, 10);
	}
	if (l->start_ns) {
		sleep_until(l->start_ns);
		l->late_ms = ms_between(l->start_ns, now_ns());
	} else {
		l->start_ns = now_ns();
	}
}

static int run(struct load *l)
{
	double unit_ms;
	int r = cuda_start(&l->cu);

	r = r ? r : prepare(l);
	if (r == 0 && !l->iterations)
		r = calibrate(l);
	l->unit = 1;
	if (r == 0 && l->kind == KIND_GRAPH)
		r = make_graph(l);
	unit_ms = l->kernel_ms * l->unit;
	l->batch = unit_ms < BATCH_MS ? (uint32_t)(BATCH_MS / unit_ms + 0.999) : 1;
	l->depth = unit_ms < LONG_MS ? MOST_DEPTH : 2;
	if (r)
		return r;
	await_start(l);
	return l->rate ? run_service(l) : run_load(l);
}

/* Children have no part in the talk on stdin. Returns the number of this process. */
static uint32_t fork_others(struct load *l, pid_t *children)
{
	for (uint32_t i = 1; i < l->processes; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGTERM);
			if (!freopen("/dev/null", "r", stdin))
				_exit(1);
			return i;
		}
	}
	return 0;
}

static int end_others(const struct load *l, const pid_t *children)
{
	int failed = 0, status;

	for (uint32_t i = 1; i < l->processes; i++) {
		if (is_ended)
			kill(children[i], SIGTERM);
		if (children[i] < 0 || waitpid(children[i], &status, 0) < 0 || status)
			failed = 1;
	}
	return failed;
}

int main(int argc, char **argv)
{
	static struct load l = {
		.seconds = 4, .warm_up_seconds = 0.5, .kernel_ms = 0.4, .chain = 8, .processes = 1
	};
	const struct sigaction action = { .sa_handler = on_signal };
	static pid_t children[MOST_PROCESSES];
	uint32_t number;
	int option, r;

	while ((option = getopt_long(argc, argv, "", option_rows, NULL)) != -1) {
		if (!parse(&l, option)) {
			fputs(usage, stderr);
			return 2;
		}
	}
	if (optind < argc) {
		fputs(usage, stderr);
		return 2;
	}
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	prctl(PR_SET_TIMERSLACK, 1000);
	number = fork_others(&l, children);
	r = run(&l);
	if (r)
		fprintf(stderr, "gpu-load: CUDA error %d\n", r);
	while (r == 0 && l.holds && !is_ended && getchar() != EOF)
		;
	if (number == 0 && end_others(&l, children))
		r = 1;
	/* what is still queued need not be waited for: the driver drops it */
	fflush(NULL);
	_exit(r ? 1 : 0);
}
