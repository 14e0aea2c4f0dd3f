/* SPDX-License-Identifier: Apache-2.0 */
/* fracgpu top: all slices, again and again. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifdef HAVE_NCURSES
#include <ncurses.h>
#endif

#include "base/clock.h"
#include "base/size.h"
#include "cli/control.h"
#include "cli/options.h"
#include "cli/slice.h"

enum { ROWS = 256, INTERVAL_MS = 1000, UNKNOWN = -1 };

static const char *opt_count;

static const struct option_row options[] = {
	{ "count", "NUMBER", "print so many times as plain lines, then end", &opt_count },
	{ NULL },
};

/* A slice: sums over its GPUs, shares of the busiest. */
struct row {
	char name[SLICE_NAME];
	uint64_t used_bytes, limit_bytes, refusals;
	uint64_t busy_ns[ACCOUNT_GPUS], throttled_ns[ACCOUNT_GPUS], at_ns;
	bool is_measured[ACCOUNT_GPUS];
	uint32_t cap_permille;
	bool is_paused;
	int busy_permille, throttled_permille; /* since the last look; UNKNOWN */
};

struct view {
	char runtime[RUNTIME_PATH];
	struct row rows[ROWS], last[ROWS];
	size_t count, last_count;
	int (*order)(const void *a, const void *b);
};

static int compare_u64(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct row *)a)->name, ((const struct row *)b)->name);
}

static int by_memory(const void *a, const void *b)
{
	return compare_u64(((const struct row *)b)->used_bytes, ((const struct row *)a)->used_bytes);
}

static int by_time(const void *a, const void *b)
{
	return ((const struct row *)b)->busy_permille - ((const struct row *)a)->busy_permille;
}

static int add_name(const char *path, const char *name, void *arg)
{
	struct view *view = arg;

	if (slice_is_alive(path))
		snprintf(view->rows[view->count++].name, SLICE_NAME, "%s", name);
	return view->count == ROWS;
}

static void fill_shares(const struct view *view, struct row *row)
{
	const struct row *last = NULL;
	int64_t ns;

	row->busy_permille = row->throttled_permille = UNKNOWN;
	for (size_t i = 0; i < view->last_count && !last; i++) {
		if (strcmp(view->last[i].name, row->name) == 0)
			last = &view->last[i];
	}
	ns = last ? (int64_t)(row->at_ns - last->at_ns) : 0;
	for (int i = 0; i < ACCOUNT_GPUS && ns > 0; i++) {
		int busy = (int)((int64_t)(row->busy_ns[i] - last->busy_ns[i]) * 1000 / ns);
		int throttled = (int)((int64_t)(row->throttled_ns[i] - last->throttled_ns[i]) * 1000 / ns);

		if (row->is_measured[i] && last->is_measured[i] && busy > row->busy_permille)
			row->busy_permille = busy;
		if (throttled > row->throttled_permille)
			row->throttled_permille = throttled;
	}
}

/* Returns false when the slice is gone. */
static bool fill_row(const struct view *view, struct row *row)
{
	static struct slice slice;
	char path[SLICE_PATH];
	struct error err;
	json_t *answer;

	snprintf(path, sizeof(path), "%s/%s", view->runtime, row->name);
	if (control_ask(path, json_pack("{s:b}", "publish", 1), &answer, &err) == 0)
		json_decref(answer);
	if (slice_read(&slice, path) < 0)
		return false;
	row->at_ns = monotonic_ns();
	row->cap_permille = slice.ledger->compute_max_permille;
	row->is_paused = slice.ledger->frozen != 0;
	for (uint32_t i = 0; i < slice_gpu_count(&slice); i++) {
		row->used_bytes += slice.ledger->account.used_bytes[i];
		row->limit_bytes += slice.ledger->account.limit_bytes[i];
		row->refusals += slice.ledger->account.refusals[i];
		row->busy_ns[i] = slice.ledger->compute[i].busy_ns;
		row->throttled_ns[i] = slice.ledger->compute[i].throttled_ns;
		row->is_measured[i] = slice.ledger->compute[i].source != 0;
	}
	slice_done(&slice);
	fill_shares(view, row);
	return true;
}

static void look(struct view *view)
{
	size_t kept = 0;
	int lock;

	memcpy(view->last, view->rows, sizeof(view->last));
	view->last_count = view->count;
	memset(view->rows, 0, sizeof(view->rows));
	view->count = 0;
	lock = runtime_lock(view->runtime, true);
	slices_each(view->runtime, add_name, view);
	if (lock >= 0)
		close(lock); /* before anybody is asked: a slice that ends waits for it */
	for (size_t i = 0; i < view->count; i++) {
		if (fill_row(view, &view->rows[i]))
			view->rows[kept++] = view->rows[i];
	}
	view->count = kept;
	qsort(view->rows, view->count, sizeof(view->rows[0]), view->order);
}

static const char *share(char text[16], int permille)
{
	if (permille < 0)
		return "-";
	snprintf(text, 16, "%d.%d", permille / 10, permille % 10);
	return text;
}

#define HEAD "SLICE                          USED      LIMIT   GPU%    CAP%   THR%  REFUSED"

static void format_row(char *text, size_t size, const struct row *row)
{
	char used[SIZE_TEXT], limit[SIZE_TEXT], busy[16], cap[16], throttled[16];

	snprintf(text, size, "%-24.24s %10s %10s %6s %7s %6s %8" PRIu64, row->name,
		 size_format(used, row->used_bytes), size_format(limit, row->limit_bytes),
		 share(busy, row->busy_permille),
		 row->is_paused ? "paused" : share(cap, row->cap_permille ? (int)row->cap_permille : UNKNOWN),
		 share(throttled, row->throttled_permille), row->refusals);
}

static void sleep_ms(int ms)
{
	const struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	nanosleep(&t, NULL);
}

static void print_plain(struct view *view, unsigned long count)
{
	char line[160];

	for (unsigned long i = 0; !count || i < count; i++) {
		if (i)
			sleep_ms(INTERVAL_MS);
		look(view);
		puts(HEAD);
		for (size_t k = 0; k < view->count; k++) {
			format_row(line, sizeof(line), &view->rows[k]);
			puts(line);
		}
		if (fflush(stdout) != 0)
			return; /* nobody reads */
	}
}

#ifdef HAVE_NCURSES
static void pause_or_resume(const struct view *view, const struct row *row, struct error *err)
{
	char path[SLICE_PATH];
	json_t *answer;

	snprintf(path, sizeof(path), "%s/%s", view->runtime, row->name);
	err->text[0] = '\0';
	if (control_ask(path, json_pack("{s:b}", "paused", !row->is_paused), &answer, err) == 0)
		json_decref(answer);
}

static void draw(const struct view *view, size_t chosen, const struct error *err)
{
	char line[160];

	erase();
	mvaddnstr(0, 0, "fracgpu top   n m g: sort by name, memory, GPU   p: pause or resume   q: quit", COLS);
	mvaddnstr(1, 0, err->text, COLS);
	attron(A_BOLD);
	mvaddnstr(2, 0, HEAD, COLS);
	attroff(A_BOLD);
	for (size_t i = 0; i < view->count && (int)i + 3 < LINES; i++) {
		format_row(line, sizeof(line), &view->rows[i]);
		if (i == chosen)
			attron(A_REVERSE);
		mvaddnstr((int)i + 3, 0, line, COLS);
		attroff(A_REVERSE);
	}
	refresh();
}

static void show_live(struct view *view)
{
	struct error err = { 0 };
	size_t chosen = 0;
	int key = 0;

	initscr();
	cbreak();
	noecho();
	keypad(stdscr, TRUE);
	timeout(INTERVAL_MS);
	while (key != 'q') {
		if (key == ERR || key == 0 || key == 'p')
			look(view);
		else
			qsort(view->rows, view->count, sizeof(view->rows[0]), view->order);
		if (chosen >= view->count)
			chosen = view->count ? view->count - 1 : 0;
		draw(view, chosen, &err);
		key = getch();
		if (key == 'n')
			view->order = by_name;
		else if (key == 'm')
			view->order = by_memory;
		else if (key == 'g')
			view->order = by_time;
		else if (key == KEY_UP && chosen)
			chosen--;
		else if (key == KEY_DOWN)
			chosen++;
		else if (key == 'p' && view->count)
			pause_or_resume(view, &view->rows[chosen], &err);
	}
	endwin();
}
#endif

static int top(int count, char **words)
{
	static struct view view;
	unsigned long times = 0;
	struct error err;
	char *end;

	view.order = by_name;
	if (opt_count) {
		times = strtoul(opt_count, &end, 10);
		if (opt_count[strspn(opt_count, "0123456789")] || *end || !times) {
			complain("top: --count '%s' is no number of times", opt_count);
			return EXIT_USAGE;
		}
	}
	if (runtime_path(view.runtime, &err) < 0)
		return complain("%s", err.text);
#ifdef HAVE_NCURSES
	if (!times && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) {
		show_live(&view);
		return 0;
	}
#endif
	(void)by_memory, (void)by_time;
	print_plain(&view, times);
	return 0;
}

const struct verb verb_top = {
	.name = "top",
	.synopsis = "[OPTIONS]",
	.summary = "Show all slices, again every second",
	.options = options,
	.run = top,
};
