/* SPDX-License-Identifier: Apache-2.0 */
/* The socket of a running slice: whom it serves, and what it does for them. */
#include "cli/control.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "arbiter/arbiter.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/size.h"
#include "cli/compute.h"
#include "cli/options.h"
#include "policy/limit.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

enum { PATIENCE_S = 2, BACKLOG = 16, APPLY_MS = 5000, APPLY_STEP_MS = 1, ANCESTORS = 4096 };

/* Directories have longer names than an address has room: go through a descriptor of the directory. */
static int address_of(const char *slice_path, struct sockaddr_un *ret_address)
{
	int dir = open(slice_path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return -errno;
	*ret_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(ret_address->sun_path, sizeof(ret_address->sun_path), "/proc/self/fd/%d/control", dir);
	return dir;
}

int control_open(struct control *c, const char *slice_path, struct error *err)
{
	struct sockaddr_un address;
	cleanup_close int dir = address_of(slice_path, &address);

	memset(c, 0, sizeof(*c));
	c->wake = -1;
	c->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (dir < 0 || c->listener < 0 || bind(c->listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(c->listener, BACKLOG) < 0) {
		int code = error_set(err, -errno, "cannot make '%s/control': %s", slice_path, strerror(errno));

		control_stop(c);
		return code;
	}
	return 0;
}

struct relation {
	pid_t parent;
	char name[64];
};

/* "PID (name) S PARENT ..." (proc(5)). */
static bool read_relation(pid_t pid, struct relation *ret)
{
	char path[32], line[512];
	cleanup_file FILE *file = NULL;
	const char *end, *start;
	char state;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (!file || !fgets(line, sizeof(line), file))
		return false;
	start = strchr(line, '(');
	end = strrchr(line, ')');
	if (!start || !end || end < start || sscanf(end + 1, " %c %d", &state, &ret->parent) != 2)
		return false;
	snprintf(ret->name, sizeof(ret->name), "%.*s", (int)(end - start - 1), start + 1);
	return true;
}

/* Whether a process is of a slice of `fracgpu run`, which is the reaper of all that its program leaves behind: whoever is
 * in a slice descends from it. In doubt: yes. */
static bool is_in_a_slice(pid_t pid)
{
	struct relation self, next;
	pid_t at = pid;

	if (!read_relation(getpid(), &self) || !read_relation(pid, &next))
		return true;
	for (int i = 0; i < ANCESTORS; i++) {
		at = next.parent;
		if (at == 0)
			return false;
		if (at == getpid() || !read_relation(at, &next) || strcmp(next.name, self.name) == 0 ||
		    strcmp(next.name, "fracgpu") == 0)
			return true;
	}
	return true;
}

/* Whether the process that connected still lives, so that its number is not another's by now. Older kernels cannot
 * tell. */
static bool is_peer_alive(int peer)
{
	cleanup_close int pidfd = -1;
	socklen_t size = sizeof(pidfd);
	struct pollfd p = { .events = POLLIN };

	if (getsockopt(peer, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) < 0)
		return errno == ENOPROTOOPT;
	p.fd = pidfd;
	return poll(&p, 1, 0) == 0;
}

/* c: whose tenants may not; NULL: nobody's. */
static bool may_ask(const struct control *c, int peer, struct error *err)
{
	struct ucred who;
	socklen_t size = sizeof(who);

	if (getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0 || (who.uid != geteuid() && who.uid != 0)) {
		error_set(err, -EPERM, "a slice is changed by its own user only");
		return false;
	}
	if (who.pid <= 0) {
		error_set(err, -EPERM, "a slice in another PID namespace is changed from there");
		return false;
	}
	if (is_in_a_slice(who.pid) || (c && c->is_tenant && c->is_tenant(who.pid, c->arg)) || !is_peer_alive(peer)) {
		error_set(err, -EPERM, "a program in a slice must not change limits");
		return false;
	}
	return true;
}

bool control_may_join(int peer)
{
	struct error err;

	return may_ask(NULL, peer, &err);
}

static json_t *refuse(const struct error *err)
{
	return json_pack("{s:s}", "error", err->text);
}

/* New limits of memory, given by the GPUs that the slice has. */
static int parse_memory(struct control *c, const char *text, uint64_t ret_limits[ACCOUNT_GPUS], struct error *err)
{
	const struct ledger *l = c->ledger->ledger;
	struct limit_gpu cards[ACCOUNT_GPUS] = { 0 };
	uint64_t limits[ACCOUNT_GPUS] = { 0 };
	uint32_t entries[ACCOUNT_GPUS], count = 0;
	int r;

	for (uint32_t i = 0; i < l->account.gpu_count && i < ACCOUNT_GPUS; i++) {
		if (!l->account.limit_bytes[i])
			continue;
		cards[count] = ledger_limit_gpu(&l->gpus[i]);
		entries[count++] = i;
	}
	r = limit_parse(text, cards, count, limits, err);
	for (uint32_t i = 0; r == 0 && i < count; i++)
		ret_limits[entries[i]] = limits[i];
	return r;
}

struct change {
	bool has_memory, has_cap, has_weight, has_priority, has_frozen;
	uint64_t limits[ACCOUNT_GPUS]; /* 0: stays */
	uint32_t cap, weight, priority, frozen;
};

static int read_change(struct control *c, json_t *request, struct change *ret, struct error *err)
{
	const char *memory = json_string_value(json_object_get(request, "memory"));
	const char *cap = json_string_value(json_object_get(request, "compute"));
	const char *weight = json_string_value(json_object_get(request, "weight"));
	const char *priority = json_string_value(json_object_get(request, "priority"));
	json_t *paused = json_object_get(request, "paused");
	int r = 0;

	*ret = (struct change){ .has_memory = memory,	  .has_cap = cap,
				.has_weight = weight,	  .has_priority = priority,
				.has_frozen = json_is_boolean(paused), .frozen = json_is_true(paused) };
	if (memory)
		r = parse_memory(c, memory, ret->limits, err);
	if (r == 0 && cap)
		r = compute_cap_parse(cap, &ret->cap, err);
	if (r == 0 && weight)
		r = compute_weight_parse(weight, &ret->weight, err);
	if (r == 0 && priority)
		r = compute_priority_parse(priority, &ret->priority, err);
	return r;
}

static void set_memory(struct control *c, const struct change *change, json_t *notes)
{
	struct ledger *l = c->ledger->ledger;
	char limit[SIZE_TEXT], used[SIZE_TEXT];

	for (uint32_t i = 0; i < ACCOUNT_GPUS; i++) {
		uint64_t held;

		if (!change->limits[i])
			continue;
		/* one word, read under the lock by who allocates: there is nothing that it must agree with */
		__atomic_store_n(&l->account.limit_bytes[i], change->limits[i], __ATOMIC_SEQ_CST);
		held = __atomic_load_n(&l->account.used_bytes[i], __ATOMIC_SEQ_CST);
		if (held > change->limits[i])
			json_array_append_new(notes, json_sprintf("GPU %" PRIu32 ": the slice holds %s, more than %s: it keeps "
								  "that, and gets no more until it holds less",
								  l->gpus[i].index, size_format(used, held),
								  size_format(limit, change->limits[i])));
	}
}

static void set_compute(struct control *c, const struct change *change)
{
	struct ledger *l = c->ledger->ledger;

	if (change->has_cap)
		__atomic_store_n(&l->compute_max_permille, change->cap, __ATOMIC_RELEASE);
	if (change->has_weight)
		__atomic_store_n(&l->compute_weight, change->weight, __ATOMIC_RELEASE);
	if (change->has_priority) {
		uint32_t none = 0;

		__atomic_store_n(&l->compute_priority, change->priority, __ATOMIC_RELEASE);
		__atomic_compare_exchange_n(&l->compute_weight, &none, ARBITER_WEIGHT_DEFAULT, false, __ATOMIC_ACQ_REL,
					    __ATOMIC_RELAXED);
	}
	if (change->has_frozen)
		__atomic_store_n(&l->frozen, change->frozen, __ATOMIC_RELEASE);
	gate_settings_changed(l);
}

/* The thread of the gates may have ended: no way to the driver. */
static bool has_failed(struct control *c, struct error *err)
{
	if (c->gates.is_running && pthread_tryjoin_np(c->gates.thread, NULL) == 0) {
		c->gates.is_running = false;
		error_set(err, c->gates.result, "nobody drives the slice's gates: %s", c->gates.err.text);
		return true;
	}
	return false;
}

/* Have somebody drive the gates, and wait until what is set is done. */
static int apply(struct control *c, bool was_needed, struct error *err)
{
	struct ledger *l = c->ledger->ledger;
	uint32_t wanted = __atomic_load_n(&l->generation, __ATOMIC_ACQUIRE);
	const struct timespec step = { .tv_nsec = APPLY_STEP_MS * 1000000 };
	int r;

	if (!c->gates.is_running) {
		if (!gate_is_needed(l))
			return 0;
		r = gate_thread_start(&c->gates, c->ledger, &c->options);
		if (r < 0)
			return error_set(err, r, "cannot start a thread that drives the slice's gates: %s",
					 strerror(-r));
	} else if (!was_needed && !gate_is_needed(l)) {
		return 0; /* it sleeps, with all gates open */
	}
	for (uint64_t end_ms = monotonic_ns() / 1000000 + APPLY_MS; monotonic_ns() / 1000000 < end_ms;) {
		uint32_t applied = __atomic_load_n(&l->applied, __ATOMIC_ACQUIRE);

		if ((int32_t)(applied - wanted) >= 0)
			return 0;
		if (has_failed(c, err))
			return err->code;
		syscall(SYS_futex, &l->applied, FUTEX_WAIT, applied, &step, NULL, 0);
	}
	return error_set(err, -ETIMEDOUT, "it is set, but the gates have not moved within %d s", APPLY_MS / 1000);
}

static void publish(struct control *c)
{
	sigset_t saved;

	if (!c->published)
		return;
	ledger_lock(c->ledger, &saved);
	ledger_publish(c->ledger->ledger, c->published);
	ledger_unlock(c->ledger, &saved);
}

/* Let the slice end. Returns the answer. */
static json_t *end(struct control *c, const char *how)
{
	struct error err;
	int r;

	if (!c->end)
		r = error_set(&err, -EPERM, "it is not one that 'fracgpu create' made: it ends with its programs");
	else
		r = c->end(strcmp(how, "kill") == 0, c->arg, &err);
	return r < 0 ? refuse(&err) : json_pack("{s:b,s:[]}", "ok", 1, "notes");
}

/* Carry out a request. Returns the answer. */
static json_t *carry_out(struct control *c, json_t *request)
{
	const char *how = json_string_value(json_object_get(request, "end"));
	cleanup_close int guard = -1;
	bool was_needed = gate_is_needed(c->ledger->ledger);
	struct change change;
	struct error err;
	json_t *notes;
	int r = 0;

	if (how)
		return end(c, how);
	if (read_change(c, request, &change, &err) < 0)
		return refuse(&err);
	if (change.has_memory && c->may_set) {
		guard = c->may_set(change.limits, c->arg, &err);
		if (guard < 0)
			return refuse(&err);
	}
	notes = json_array();
	if (change.has_memory)
		set_memory(c, &change, notes);
	if (change.has_cap || change.has_weight || change.has_priority || change.has_frozen) {
		set_compute(c, &change);
		r = apply(c, was_needed, &err);
	}
	publish(c);
	if (r < 0) {
		json_decref(notes);
		return refuse(&err);
	}
	return json_pack("{s:b,s:o}", "ok", 1, "notes", notes);
}

/* One line. Returns false when it does not come. */
static bool read_line(int peer, char line[CONTROL_LINE])
{
	size_t have = 0;

	while (have < CONTROL_LINE - 1) {
		ssize_t n = recv(peer, line + have, CONTROL_LINE - 1 - have, 0);

		if (n <= 0)
			return false;
		have += (size_t)n;
		line[have] = '\0';
		if (strchr(line, '\n'))
			return true;
	}
	return false;
}

static void write_line(int peer, json_t *value)
{
	cleanup_free char *text = json_dumps(value, JSON_COMPACT);
	cleanup_free char *line = NULL;
	int size = text ? asprintf(&line, "%s\n", text) : -1;

	if (size > 0 && send(peer, line, (size_t)size, MSG_NOSIGNAL) != size)
		return; /* who asked is gone */
}

static void serve_one(struct control *c, int peer)
{
	const struct timeval patience = { .tv_sec = PATIENCE_S };
	char line[CONTROL_LINE];
	json_t *request = NULL, *answer;
	struct error err;

	setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(peer, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (!may_ask(c, peer, &err)) {
		answer = refuse(&err);
	} else {
		if (!read_line(peer, line))
			return;
		request = json_loads(line, 0, NULL);
		if (json_is_object(request))
			answer = carry_out(c, request);
		else
			answer = json_pack("{s:s}", "error", "this is no request");
	}
	write_line(peer, answer);
	json_decref(request);
	json_decref(answer);
}

static void *serve(void *arg)
{
	struct control *c = arg;
	struct pollfd p[2] = { { .fd = c->listener, .events = POLLIN }, { .fd = c->wake, .events = POLLIN } };
	struct error err;

	if (gate_is_needed(c->ledger->ledger) && apply(c, true, &err) < 0)
		complain("warning: the program runs without its share of GPU time being kept: %s", err.text);
	for (;;) {
		cleanup_close int peer = -1;

		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents)
			return NULL;
		peer = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
		if (peer >= 0)
			serve_one(c, peer);
	}
}

int control_start(struct control *c, struct ledger_handle *ledger, struct ledger_handle *published)
{
	sigset_t all, saved;
	int r;

	c->ledger = ledger;
	c->published = published;
	c->wake = eventfd(0, EFD_CLOEXEC);
	if (c->wake < 0)
		return -errno;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	r = -pthread_create(&c->thread, NULL, serve, c);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	c->is_running = r == 0;
	return r;
}

void control_stop(struct control *c)
{
	if (c->is_running) {
		eventfd_write(c->wake, 1);
		pthread_join(c->thread, NULL);
		c->is_running = false;
	}
	gate_thread_stop(&c->gates);
	if (c->wake >= 0)
		close(TAKE_FD(c->wake));
	if (c->listener >= 0)
		close(TAKE_FD(c->listener));
}
