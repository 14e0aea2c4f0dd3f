/* SPDX-License-Identifier: Apache-2.0 */
/* What it costs to hand GPU 0 over: gate-bench [OPTIONS] LEDGER...
 *
 * Gives the GPU to one slice after the other (one slice: on and off), a turn each, and prints one JSON object: what the calls of
 * the driver took, how often contexts came, and how long nobody was there in between. With --timeslice it sets that of the
 * slices' groups instead, and ends. The slices are those of `fracgpu run --door preload` without compute settings, so that
 * nobody else moves their gates; what they get done in the meantime is theirs to tell. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "abi/calls.h"
#include "gate/gate.h"
#include "gate/guard.h"
#include "gate/timeslice.h"
#include "ledger/ledger.h"
#include "meter/reader.h"
#include "rm/rm.h"

enum { SLICES = 16, TIMES = 1 << 16, STALL_MS = 2000, OPT_CLOSE_FIRST = 256, OPT_TURN, OPT_SECONDS, OPT_TIMESLICE, OPT_HELP };

/* Durations; those past the table count and are not kept. */
struct times {
	uint32_t count;
	uint64_t ns[TIMES];
};

struct bench {
	struct rm rm;
	struct meter_reader reader;
	struct meter meter;
	struct guard guard;
	struct gate_set *set;
	uint32_t slice_count, channels[SLICES];
	struct ledger_handle slices[SLICES];
	struct times opening, closing, away;
	struct meter_record last;	/* the newest */
	uint64_t came, lost, elapsed_ns;
};

static struct bench bench;
static volatile sig_atomic_t is_ended;
static bool opt_close_first;
static double opt_turn_ms = 10, opt_seconds = 3;
static uint64_t opt_timeslice_us;

static void on_signal(int number)
{
	(void)number;
	is_ended = 1;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void sleep_until(uint64_t at)
{
	struct timespec t = { .tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR && !is_ended)
		;
}

static void times_add(struct times *times, uint64_t ns)
{
	if (times->count < TIMES)
		times->ns[times->count++] = ns;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void times_print(const char *name, struct times *times)
{
	const uint64_t *ns = times->ns;

	if (!times->count) {
		printf(", \"%s\": null", name);
		return;
	}
	qsort(times->ns, times->count, sizeof(times->ns[0]), by_size);
	printf(", \"%s\": {\"median\": %.4f, \"p90\": %.4f, \"max\": %.4f, \"count\": %" PRIu32 "}", name,
	       (double)ns[times->count / 2] / 1e6, (double)ns[(uint64_t)times->count * 9 / 10] / 1e6,
	       (double)ns[times->count - 1] / 1e6, times->count);
}

/* --- gates --- */

/* The gates' way to the driver, timed. The guard's process has one of its own. */
static int control(void *arg, uint32_t gpu, void *params, uint32_t size)
{
	struct rm *rm = arg;
	uint64_t before = now_ns();
	int status = rm_control(rm, rm->gpus[gpu].subdevice_handle, NV2080_CTRL_CMD_FIFO_DISABLE_CHANNELS, params, size);

	times_add(((const char *)params)[DISABLE_DISABLE] ? &bench.closing : &bench.opening, now_ns() - before);
	return status;
}

static const struct gate_port port = { .control = control, .arg = &bench.rm };

static int start_guard(void)
{
	int keep[GUARD_KEEP];
	uint32_t count = 0;
	int r;

	keep[count++] = bench.rm.ctl;
	for (uint32_t i = 0; i < bench.rm.gpu_count; i++)
		keep[count++] = bench.rm.gpu_fd[i];
	r = guard_start(&bench.guard, 1, &port, keep, count, STALL_MS);
	if (r == 0)
		bench.set = &bench.guard.shared->sets[0];
	return r;
}

/* Which GPU of a ledger is GPU 0 here; -1: the slice has no part of it. */
static int gpu_of(const struct ledger_handle *h)
{
	const struct ledger *ledger = h->ledger;

	for (uint32_t i = 0; i < ledger->account.gpu_count && i < ACCOUNT_GPUS; i++)
		if (ledger->gpus[i].gpu_id == bench.rm.gpus[0].gpu.gpu_id)
			return (int)i;
	return -1;
}

static int collect(uint32_t slice)
{
	struct ledger_handle *h = &bench.slices[slice];
	int gpu = gpu_of(h), count;
	sigset_t saved;

	if (gpu < 0)
		return -ENODEV;
	ledger_lock(h, &saved);
	count = gate_collect(bench.set, slice, &h->ledger->account, (uint32_t)gpu);
	ledger_unlock(h, &saved);
	if (count >= 0)
		bench.channels[slice] = (uint32_t)count;
	return count;
}

/* Open and close so that this mask is open, in the order asked for. */
static int hand_over(uint64_t before, uint64_t after)
{
	int r = 0;

	if (opt_close_first)
		r = gate_apply(bench.set, &port, before & after, now_ns());
	return r ? r : gate_apply(bench.set, &port, after, now_ns());
}

/* --- records --- */

static void take(const struct meter_record *record)
{
	const struct meter_record *last = &bench.last;

	if (last->time_ns && (uint16_t)(last->sequence + 1) != record->sequence) {
		bench.lost++;
	} else if (record->tag == METER_CONTEXT_START || record->tag == METER_SIMPLE_START) {
		bench.came++;
		if ((last->tag == METER_SAVE_END || last->tag == METER_SIMPLE_END) && last->context != record->context &&
		    record->time_ns > last->time_ns)
			times_add(&bench.away, record->time_ns - last->time_ns);
	}
	bench.last = *record;
}

/* The reader passes records on to a meter; they stay in the ring until the next poll. */
static void poll_records(void)
{
	uint32_t get = bench.reader.get;

	meter_reader_poll(&bench.reader, &bench.meter, now_ns());
	if (bench.reader.source != METER_RECORDS && bench.reader.source != METER_RECORDS_OWN)
		return;
	for (; get != bench.reader.get; get = (get + 1) % METER_RECORDS_MAX) {
		struct meter_record record = meter_record_read(bench.reader.records + (size_t)get * METER_RECORD_SIZE);

		take(&record);
	}
}

/* --- the run --- */

/* What has been measured so far was getting there. */
static void begin(void)
{
	poll_records();
	bench.opening.count = bench.closing.count = bench.away.count = 0;
	bench.came = bench.lost = 0;
}

static int take_turns(void)
{
	uint64_t open = 1, begun, at;
	int r = gate_apply(bench.set, &port, open, now_ns());

	begin();
	begun = at = now_ns();
	for (uint32_t turn = 1; r == 0 && !is_ended && now_ns() - begun < (uint64_t)(opt_seconds * 1e9); turn++) {
		uint64_t next = bench.slice_count > 1 ? UINT64_C(1) << turn % bench.slice_count : !open;

		at += (uint64_t)(opt_turn_ms * 1e6);
		sleep_until(at);
		r = hand_over(open, next);
		open = next;
		if (guard_beat(&bench.guard))
			r = -ETIMEDOUT;
		poll_records();
	}
	bench.elapsed_ns = now_ns() - begun;
	return r;
}

static void print_result(void)
{
	printf("{\"channels\": [");
	for (uint32_t i = 0; i < bench.slice_count; i++)
		printf("%s%" PRIu32, i ? ", " : "", bench.channels[i]);
	printf("], \"seconds\": %.3f, \"source\": \"%s\", \"came\": %" PRIu64 ", \"lost\": %" PRIu64,
	       (double)bench.elapsed_ns / 1e9, meter_source_text(bench.reader.source), bench.came, bench.lost);
	times_print("open_ms", &bench.opening);
	times_print("close_ms", &bench.closing);
	times_print("away_ms", &bench.away);
	puts("}");
}

static int hand_overs(void)
{
	uint32_t channels = 0;
	struct error err;
	int r = start_guard();

	if (r < 0) {
		fprintf(stderr, "gate-bench: cannot start the guard of the gates: %s\n", strerror(-r));
		return r;
	}
	meter_init(&bench.meter);
	if (meter_reader_open(&bench.reader, &bench.rm, 0, &err) < 0)
		fprintf(stderr, "gate-bench: no records: %s\n", err.text);
	for (uint32_t i = 0; i < bench.slice_count && r >= 0; i++) {
		r = collect(i);
		channels += bench.channels[i];
	}
	if (r >= 0)
		r = channels ? take_turns() : 0;
	if (r < 0)
		fprintf(stderr, "gate-bench: %s\n", strerror(-r));
	print_result();
	guard_stop(&bench.guard);
	meter_reader_close(&bench.reader);
	return r;
}

static int set_timeslices(void)
{
	uint32_t groups = 0, set = 0;

	for (uint32_t i = 0; i < bench.slice_count; i++) {
		int gpu = gpu_of(&bench.slices[i]);
		uint32_t count = 0;

		if (gpu >= 0)
			set += gate_timeslice(&bench.rm, &bench.slices[i], (uint32_t)gpu, opt_timeslice_us, &count);
		groups += count;
	}
	printf("{\"groups\": %" PRIu32 ", \"set\": %" PRIu32 "}\n", groups, set);
	return 0;
}

/* --- options --- */

static int usage(FILE *to)
{
	fputs("Usage: gate-bench [OPTIONS] LEDGER...\n"
	      "  --turn MS        of each slice (10)\n"
	      "  --seconds S      of all (3)\n"
	      "  --close-first    close the last one's gates before the next one's are opened\n"
	      "  --timeslice US   set that of the slices' groups, and end\n",
	      to);
	return to == stdout ? 0 : 2;
}

static int parse_positive(const char *text, double most, double *ret_value)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value > 0) || value > most)
		return -EINVAL;
	*ret_value = value;
	return 0;
}

/* Returns 0, or negative where the words are wrong. */
static int parse_one(int option)
{
	double us;

	switch (option) {
	case OPT_CLOSE_FIRST:
		opt_close_first = true;
		return 0;
	case OPT_TURN:
		return parse_positive(optarg, STALL_MS / 2.0, &opt_turn_ms);
	case OPT_SECONDS:
		return parse_positive(optarg, 3600, &opt_seconds);
	case OPT_TIMESLICE:
		if (parse_positive(optarg, 1e6, &us) < 0)
			return -EINVAL;
		opt_timeslice_us = (uint64_t)us;
		return 0;
	default:
		return -EINVAL;
	}
}

static int open_all(char *const *paths, int count)
{
	struct error err;

	if (rm_open(&bench.rm, &err) < 0) {
		fprintf(stderr, "gate-bench: %s\n", err.text);
		return -ENODEV;
	}
	for (int i = 0; i < count; i++) {
		int r = ledger_open(&bench.slices[i], paths[i], true);

		if (r < 0) {
			fprintf(stderr, "gate-bench: cannot open ledger '%s': %s\n", paths[i], strerror(-r));
			return r;
		}
		bench.slice_count++;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "close-first", no_argument, NULL, OPT_CLOSE_FIRST },
		{ "turn", required_argument, NULL, OPT_TURN },
		{ "seconds", required_argument, NULL, OPT_SECONDS },
		{ "timeslice", required_argument, NULL, OPT_TIMESLICE },
		{ "help", no_argument, NULL, OPT_HELP },
		{ NULL, 0, NULL, 0 },
	};
	int option, r;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == OPT_HELP)
			return usage(stdout);
		if (parse_one(option) < 0)
			return usage(stderr);
	}
	if (argc == optind || argc - optind > SLICES)
		return usage(stderr);
	/* a gate must not stay closed; should we be killed all the same, the guard opens it */
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	r = open_all(argv + optind, argc - optind);
	if (r == 0)
		r = opt_timeslice_us ? set_timeslices() : hand_overs();
	for (uint32_t i = 0; i < bench.slice_count; i++)
		ledger_close(&bench.slices[i]);
	rm_close(&bench.rm);
	return r < 0;
}
