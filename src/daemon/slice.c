/* SPDX-License-Identifier: Apache-2.0 */
/* The process that serves a container, or several: their slice, ledger and sockets. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "cli/compute.h"
#include "cli/control.h"
#include "daemon/daemon.h"
#include "daemon/members.h"
#include "ledger/ledger.h"
#include "policy/limit.h"
#include "rm/rm.h"
#include "supervisor/supervisor.h"

/* What the serving process keeps. */
struct slice {
	const struct daemon_config *config;
	const struct handoff *handoff;
	const struct decision *decision;
	char driver[32];
	uint32_t gpu_count;
	struct ledger_gpu gpus[ACCOUNT_GPUS];
	struct limit_gpu cards[ACCOUNT_GPUS];
	uint64_t limits[ACCOUNT_GPUS];
	struct slice_dir dir;
	struct ledger_handle published;
	struct control control;
	struct members members;
	bool is_standing;
	int *report;
};

static bool is_member(pid_t pid, void *arg)
{
	struct slice *s = arg;

	return members_has(&s->members, pid);
}

/* A file beside the ledger for each container that is in a slice which stands: the next hand-off finds it so. */
static void member_name(const char *id, uid_t uid, char ret_name[SLICE_NAME])
{
	struct handoff h = { .uid = uid };

	snprintf(h.id, sizeof(h.id), "%s", id);
	slice_name_of(&h, ret_name);
}

static int joins(const struct supervisor_message *message, void *arg)
{
	struct slice *s = arg;
	struct identity identity = { .uid = s->handoff->uid };
	int number = members_join(&s->members, message->id, message->pid);
	char name[SLICE_NAME];

	if (number < 0 || !s->is_standing || !message->pid)
		return number;
	memcpy(identity.id, message->id, sizeof(identity.id));
	member_name(identity.id, identity.uid, name);
	if (identity_write(s->dir.path, name, &identity, message->pid, NULL) < 0)
		fprintf(stderr, "fracgpud: slice '%s': cannot note that '%s' is in it\n", s->dir.name, identity.id);
	return number;
}

static void leaves(int number, void *arg)
{
	struct slice *s = arg;
	char id[MEMBER_ID], name[SLICE_NAME];

	if (!members_leave(&s->members, number, id) || !s->is_standing)
		return;
	member_name(id, s->handoff->uid, name);
	identity_forget(s->dir.path, name);
}

static int find_gpus(struct slice *s, struct error *err)
{
	struct rm rm;
	int r = rm_open(&rm, err);

	if (r < 0)
		return r;
	memcpy(s->driver, rm.layout_text, sizeof(s->driver));
	s->gpu_count = rm.gpu_count;
	for (uint32_t i = 0; i < rm.gpu_count; i++) {
		s->gpus[i] = rm.gpus[i].gpu;
		s->cards[i] = ledger_limit_gpu(&s->gpus[i]);
	}
	rm_close(&rm);
	return 0;
}

static int set_limits(struct slice *s, struct error *err)
{
	const char *cap = s->decision->cap;
	uint64_t most[ACCOUNT_GPUS];
	int r;

	if (cap[0] && limit_parse(cap, s->cards, s->gpu_count, most, err) < 0)
		return -EINVAL;
	r = limit_parse(s->decision->terms.limit, s->cards, s->gpu_count, s->limits, err);
	if (r == -ERANGE && cap[0])
		memcpy(s->limits, most, sizeof(most));	/* asks for more than there is: gets the most it may have */
	else if (r < 0)
		return r;
	for (uint32_t i = 0; cap[0] && i < s->gpu_count; i++) {
		if (s->limits[i] > most[i])
			s->limits[i] = most[i];
	}
	return 0;
}

struct sum {
	const struct slice *slice;
	uint64_t bytes[ACCOUNT_GPUS];
};

/* The limits of another slice. */
static int add_slice(const char *path, const char *name, void *arg)
{
	struct sum *sum = arg;
	struct ledger_handle h;
	char file[PATH_MAX];

	snprintf(file, sizeof(file), "%s/ledger", path);
	if (strcmp(name, sum->slice->dir.name) == 0 || !slice_is_alive(path) || ledger_open(&h, file, false) < 0)
		return 0;
	for (uint32_t i = 0; i < sum->slice->gpu_count; i++) {
		for (uint32_t k = 0; k < h.ledger->account.gpu_count && k < ACCOUNT_GPUS; k++) {
			if (strcmp(sum->slice->gpus[i].uuid, h.ledger->gpus[k].uuid) == 0)
				sum->bytes[i] += h.ledger->account.limit_bytes[k];
		}
	}
	ledger_close(&h);
	return 0;
}

/* The sum of all limits, with these for ours, must not be more than a GPU has. With the lock of the runtime directory. */
static int check_sum(const struct slice *s, const uint64_t *limits, struct error *err)
{
	struct sum sum = { .slice = s };

	if (s->config->overcommit)
		return 0;
	slices_each(s->dir.runtime, add_slice, &sum);
	for (uint32_t i = 0; i < s->gpu_count; i++) {
		char ask[SIZE_TEXT], given[SIZE_TEXT], total[SIZE_TEXT];

		if (limits[i] && sum.bytes[i] + limits[i] > s->gpus[i].total_bytes)
			return error_set(err, -ENOSPC, "it would get %s of GPU %u, of whose %s the running slices have %s "
					 "(overcommit = yes in fracgpud's configuration allows it)",
					 size_format(ask, limits[i]), s->gpus[i].index,
					 size_format(total, s->gpus[i].total_bytes), size_format(given, sum.bytes[i]));
	}
	return 0;
}

/* For `fracgpu set`. */
static int may_set(const uint64_t limits[ACCOUNT_GPUS], void *arg, struct error *err)
{
	const struct slice *s = arg;
	int guard = runtime_lock(s->dir.runtime, false), r;

	if (guard < 0)
		return error_set(err, guard, "cannot lock '%s/.lock': %s", s->dir.runtime, strerror(-guard));
	r = check_sum(s, limits, err);
	if (r < 0)
		close(guard);
	return r < 0 ? r : guard;
}

/* For `fracgpu rm`: our own main thread knows whether somebody is in the slice. */
static int end(bool kills, void *arg, struct error *err)
{
	const struct slice *s = arg;
	struct supervisor_message message = { .wish = kills ? SUPERVISOR_KILL : SUPERVISOR_END };
	int r = agent_send(s->dir.path, &message, -1, err);

	if (r == -EBUSY)
		return error_set(err, r, "containers are in it (--force ends them)");
	return r;
}

/* Returns a listening socket or negative errno. */
static int make_agent(const struct slice *s, struct error *err)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;
	int r = agent_address(s->dir.path, &address, err);

	if (r == 0 && (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 64) < 0))
		r = error_set(err, -errno, "cannot listen in '%s': %s", s->dir.path, strerror(errno));
	if (r < 0 && fd >= 0)
		close(fd);
	return r < 0 ? r : fd;
}

/* Whose slice it is, for the next hand-off and for metrics. */
static int write_identity(const struct slice *s, struct error *err)
{
	struct identity identity = { .uid = s->handoff->uid, .is_standing = s->is_standing, .is_open = s->handoff->is_open };

	memcpy(identity.id, s->handoff->id, sizeof(identity.id));
	if (identity_write(s->dir.path, NULL, &identity, s->handoff->pid, s->handoff->annotations) < 0)
		return error_set(err, -EIO, "cannot write in '%s'", s->dir.path);
	return 0;
}

static int set_compute(const struct slice *s, struct ledger *ledger, struct error *err)
{
	uint32_t permille = 0;
	int r = s->decision->terms.compute[0] ? compute_cap_parse(s->decision->terms.compute, &permille, err) : 0;

	if (r < 0 || !permille)
		return r;
	ledger->compute_max_permille = permille;
	gate_settings_changed(ledger);
	return 0;
}

/* Before calls are served: the cap holds from the first one. */
static void prepared(struct ledger_handle *ledger, void *arg)
{
	struct slice *s = arg;
	struct error err;
	int r;

	set_compute(s, ledger->ledger, &err);
	r = control_start(&s->control, ledger, &s->published);
	if (r < 0)
		fprintf(stderr, "fracgpud: slice '%s' cannot be changed, nor its GPU time limited: %s\n", s->dir.name,
			strerror(-r));
}

static void ended(void *arg)
{
	struct slice *s = arg;

	control_stop(&s->control);
}

static void started(void *arg)
{
	struct slice *s = arg;

	if (write(*s->report, "", 1) == 1)
		close(TAKE_FD(*s->report));
}

static int make_control(struct slice *s, struct error *err)
{
	int r = control_open(&s->control, s->dir.path, err);

	if (r < 0)
		return r;
	/* caps hold for a slice alone; weights and priorities are between all of root's slices */
	s->control.options.share_dir = s->dir.runtime;
	s->control.options.may_join = control_may_join;
	s->control.is_tenant = is_member;
	s->control.may_set = may_set;
	s->control.end = s->is_standing ? end : NULL;
	s->control.arg = s;
	return 0;
}

static int serve(struct slice *s, struct error *err)
{
	struct ledger_settings settings = {
		.name = s->dir.name, .door = "container", .driver = s->driver, .gpu_count = s->gpu_count,
		.gpus = s->gpus, .limits = s->limits,
	};
	struct supervisor_options options = {
		.settings = &settings, .published = &s->published, .kill_on_breach = s->config->kill_on_breach,
		.started = prepared, .ended = ended, .arg = s,
	};
	struct supervisor_remote remote = {
		.listener = s->handoff->listener, .first = { .pid = s->handoff->pid }, .is_standing = s->is_standing,
		.is_member = is_member, .joins = joins, .leaves = leaves, .started = started, .arg = s,
	};
	char file[PATH_MAX];
	int r;

	memcpy(remote.first.id, s->handoff->id, sizeof(remote.first.id));
	snprintf(file, sizeof(file), "%s/ledger", s->dir.path);
	r = ledger_create(&s->published, file, &settings, err);
	if (r < 0)
		return r;
	r = check_sum(s, s->limits, err);
	if (r == 0)
		r = set_compute(s, s->published.ledger, err);
	if (r == 0)
		r = write_identity(s, err);
	if (r == 0)
		r = make_control(s, err);
	if (r == 0)
		r = remote.agent = make_agent(s, err);
	if (r >= 0) {
		slice_dir_ready(&s->dir);	/* until here nobody else counted the sum */
		r = supervisor_serve(&remote, &options, err);
		close(remote.agent);
	}
	ledger_close(&s->published);
	return r;
}

int slice_serve(const struct daemon_config *config, const struct handoff *h, const struct decision *decision, int *report,
		struct error *err)
{
	static struct slice slice;
	struct slice *s = &slice;
	char runtime[RUNTIME_PATH], name[SLICE_NAME];
	int r;

	s->config = config;
	s->handoff = h;
	s->decision = decision;
	s->report = report;
	s->is_standing = h->listener < 0;
	members_init(&s->members);
	r = find_gpus(s, err);
	if (r == 0)
		r = set_limits(s, err);
	if (r == 0)
		r = runtime_path(runtime, err);
	if (r < 0)
		return r;
	if (s->is_standing)
		snprintf(name, sizeof(name), "%.*s", SLICE_NAME - 1, h->id);
	else
		slice_name_of(h, name);
	r = slice_dir_make(&s->dir, runtime, name, err);
	if (r < 0)
		return r;
	r = serve(s, err);
	slice_dir_done(&s->dir);
	return r;
}
