/* SPDX-License-Identifier: Apache-2.0 */
/* GPU time end to end: tenants with work on the simulated GPU, their ledgers, the driver of the gates with meter and
 * arbiter, and what each tenant got by the simulator's own count. Run under fracgpu-sim as root; one argument: the case. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "gate/driver.h"
#include "lib/check.h"
#include "lib/test_rm.h"
#include "meter/reader.h"
#include "sim/runlist.h"

#define MS UINT64_C(1000000)

enum {
	CHANNELS_MAX = 160,
	ATTEMPTS = 8,	/* at a measurement, on a machine that may be busy */
};

/* A tenant: a process with a ledger and channels of one group. Parent and child share this. */
struct tenant {
	struct ledger_handle ledger;	/* the parent's */
	char path[64];
	pid_t pid;
	int command;			/* the child reads bytes here: each is one more channel, the end is the end */
	volatile uint32_t client, count;
	volatile uint32_t channels[CHANNELS_MAX];
};

static struct test_rm rm;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 * MS + (uint64_t)t.tv_nsec;
}

static void query(uint32_t client, uint32_t channel, uint8_t params[QUERY_SIZE])
{
	memset(params, 0, QUERY_SIZE);
	put_u32(params, QUERY_CLIENT, client);
	put_u32(params, QUERY_CHANNEL, channel);
	CHECK_EQUAL(test_rm_control(&rm, rm.client, rm.subdevice, SIM_CTRL_QUERY, params, QUERY_SIZE), NV_OK);
}

/* ns that a tenant was on the GPU; *ret_now: at which time. */
static uint64_t busy_ns(const struct tenant *t, uint64_t *ret_now)
{
	uint8_t params[QUERY_SIZE];

	query(t->client, 0, params);
	if (ret_now)
		*ret_now = get_u64(params, QUERY_NOW);
	return get_u64(params, QUERY_BUSY);
}

static void submit(uint32_t client, uint32_t channel, uint64_t ns)
{
	uint8_t params[SUBMIT_SIZE] = { 0 };

	put_u32(params, SUBMIT_CLIENT, client);
	put_u32(params, SUBMIT_CHANNEL, channel);
	put_u64(params, SUBMIT_NS, ns);
	CHECK_EQUAL(test_rm_control(&rm, rm.client, rm.subdevice, SIM_CTRL_SUBMIT, params, SUBMIT_SIZE), NV_OK);
}

static void hold(struct ledger_handle *h, enum hold_kind kind, uint32_t client, uint32_t handle, uint32_t parent)
{
	struct hold hold = { .kind = kind, .owner = (uint16_t)h->slot, .client = client, .handle = handle, .parent = parent,
			     .engine = kind == HOLD_GROUP ? 1 : 0 };
	sigset_t saved;

	ledger_lock(h, &saved);
	CHECK_EQUAL(account_hold(&h->ledger->account, &hold), 0);
	ledger_unlock(h, &saved);
}

/* As the engine notes it, after the call. */
static void scheduled(struct ledger_handle *h, uint32_t group)
{
	struct hold *hold;
	sigset_t saved;

	ledger_lock(h, &saved);
	hold = account_find(&h->ledger->account, rm.client, group);
	CHECK(hold);
	hold->length = ((hold->length + SCHEDULE_ONCE) & ~(uint64_t)SCHEDULE_STATE) | SCHEDULED;
	ledger_unlock(h, &saved);
	gate_settings_changed(h->ledger);
}

static void add_channel(struct tenant *t, struct ledger_handle *h, uint32_t group)
{
	uint32_t channel = 0;

	CHECK_EQUAL(test_rm_channel(&rm, group, &channel, 0), NV_OK);
	hold(h, HOLD_CHANNEL, rm.client, channel, group);
	CHECK_EQUAL(test_rm_schedule(&rm, group, true), NV_OK);
	scheduled(h, group);
	t->channels[t->count] = channel;
	t->count++;
}

static void tenant_main(struct tenant *t, int ready, int command, uint32_t channels)
{
	struct ledger_handle h;
	uint32_t group = 0;
	char byte = 0;

	CHECK_EQUAL(ledger_open(&h, t->path, true), 0);
	CHECK_EQUAL(ledger_attach(&h), 0);
	CHECK_EQUAL(test_rm_open(&rm, 0), 0);
	CHECK_EQUAL(test_rm_group(&rm, &group), NV_OK);
	hold(&h, HOLD_CLIENT, rm.client, rm.client, 0);
	hold(&h, HOLD_GROUP, rm.client, group, rm.client);
	t->client = rm.client;
	while (t->count < channels)
		add_channel(t, &h, group);
	CHECK_EQUAL(write(ready, &byte, 1), 1);
	while (read(command, &byte, 1) == 1) {
		add_channel(t, &h, group);
		CHECK_EQUAL(write(ready, &byte, 1), 1);
	}
	_exit(0);
}

static int ready_fd = -1;

static struct tenant *tenant_new(const char *name, uint32_t channels)
{
	struct tenant *t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct ledger_gpu gpu = { 0 };
	struct ledger_settings settings = { .name = name, .door = "preload", .driver = rm.version_text, .gpu_count = 1,
					    .gpus = &gpu };
	uint64_t limit = UINT64_C(1) << 30;
	int ready[2], command[2];
	struct rm own;
	struct error err;
	pid_t pid;
	char byte;

	CHECK(t != MAP_FAILED);
	if (rm_open(&own, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	gpu = own.gpus[0].gpu;
	rm_close(&own);
	settings.limits = &limit;
	snprintf(t->path, sizeof(t->path), "/tmp/fracgpu-compute.XXXXXX");
	CHECK(mkdtemp(t->path));
	strcat(t->path, "/ledger");
	if (ledger_create(&t->ledger, t->path, &settings, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	CHECK_EQUAL(pipe2(ready, O_CLOEXEC), 0);
	CHECK_EQUAL(pipe2(command, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		close(command[1]);
		tenant_main(t, ready[1], command[0], channels);
	}
	close(command[0]);
	close(ready[1]);
	t->pid = pid;		/* by the parent alone: the memory is shared */
	t->command = command[1];
	CHECK_EQUAL(read(ready[0], &byte, 1), 1);
	if (ready_fd >= 0)
		close(ready_fd);
	ready_fd = ready[0];	/* of the newest tenant */
	return t;
}

static void tenant_end(struct tenant *t)
{
	int status;

	kill(t->pid, SIGKILL);
	CHECK_EQUAL(waitpid(t->pid, &status, 0), t->pid);
	close(t->command);
	ledger_close(&t->ledger);
	unlink(t->path);
	*strrchr(t->path, '/') = '\0';
	rmdir(t->path);
	munmap(t, sizeof(*t));
}

static void set(struct tenant *t, uint32_t max_permille, uint32_t weight, uint32_t priority, bool frozen)
{
	struct ledger *l = t->ledger.ledger;

	l->compute_max_permille = max_permille;
	l->compute_weight = weight;
	l->compute_priority = priority;
	l->frozen = frozen;
	gate_settings_changed(l);
}

/* The simulator's files cannot share memory: put memory of ours in the place of the mapping, and have it filled. */
static void refresh(struct meter_reader *r)
{
	static uint8_t *replaced;
	uint8_t params[EVENTS_SIZE] = { 0 };

	if (replaced != r->header) {
		CHECK(mmap(r->header, METER_HEADER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
			   0) == r->header);
		CHECK(mmap(r->records, METER_RECORDS_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			   -1, 0) == r->records);
		replaced = r->header;
	}
	put_u64(params, EVENTS_HEADER, (uintptr_t)r->header);
	put_u64(params, EVENTS_RECORDS, (uintptr_t)r->records);
	put_u32(params, EVENTS_FROM, r->get);
	CHECK_EQUAL(rm_control(r->rm, r->buffer, SIM_CTRL_READ_EVENTS, params, EVENTS_SIZE), NV_OK);
}

static const struct gate_options options = { .refresh = refresh };

static struct gate_driver *driver_new(void)
{
	struct gate_driver *d;
	struct error err;

	if (gate_driver_new(&d, &options, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	return d;
}

static void drive(struct gate_driver *d, uint64_t ns)
{
	uint64_t end = now_ns() + ns, next;

	while (now_ns() < end) {
		struct timespec t;

		CHECK_EQUAL(gate_driver_step(d, now_ns(), &next), 0);
		if (next > end)
			next = end;
		t = (struct timespec){ .tv_sec = (time_t)(next / (1000 * MS)), .tv_nsec = (long)(next % (1000 * MS)) };
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
	}
}

/* Drive for a while, then see what each tenant got of the time, in 1/10000. */
static void drive_and_measure(struct gate_driver *d, uint64_t ns, struct tenant **tenants, int count, int *ret_shares)
{
	uint64_t before[8], at[8], after;

	for (int i = 0; i < count; i++)
		before[i] = busy_ns(tenants[i], &at[i]);
	drive(d, ns);
	for (int i = 0; i < count; i++) {
		uint64_t busy = busy_ns(tenants[i], &after) - before[i];

		ret_shares[i] = (int)(busy * 10000 / (after - at[i]));
	}
}

#define CHECK_SHARE(share, least, most)                                                                           \
	do {                                                                                                      \
		if ((share) < (least) || (share) > (most)) {                                                      \
			fprintf(stderr, "%s:%d: %s is %d.%02d %%, not %d.%02d to %d.%02d %%\n", __FILE__, __LINE__, \
				#share, (share) / 100, (share) % 100, (least) / 100, (least) % 100, (most) / 100, \
				(most) % 100);                                                                    \
			exit(1);                                                                                  \
		}                                                                                                 \
	} while (0)

/* Two tenants under the driver's own time slicing: half each, less 84 us for every 2 ms. */
static void test_runlist(void)
{
	struct tenant *a = tenant_new("a", 1), *b = tenant_new("b", 3);
	uint64_t before[3], after[3], at, then;
	uint8_t params[QUERY_SIZE];

	submit(a->client, a->channels[0], SIM_ENDLESS);
	submit(b->client, b->channels[2], SIM_ENDLESS);
	before[0] = busy_ns(a, NULL);
	before[1] = busy_ns(b, &at);
	query(0, 0, params);
	before[2] = get_u64(params, QUERY_SWITCHING);
	poll(NULL, 0, 1000);
	after[0] = busy_ns(a, NULL);
	after[1] = busy_ns(b, &then);
	query(0, 0, params);
	after[2] = get_u64(params, QUERY_SWITCHING);
	CHECK_SHARE((int)((after[0] - before[0]) * 10000 / (then - at)), 4750, 4840);
	CHECK_SHARE((int)((after[1] - before[1]) * 10000 / (then - at)), 4750, 4840);
	CHECK_SHARE((int)((after[2] - before[2]) * 10000 / (then - at)), 380, 430);
	tenant_end(a);
	/* the other has it alone */
	busy_ns(b, NULL);
	before[1] = busy_ns(b, &at);
	poll(NULL, 0, 100);
	after[1] = busy_ns(b, &then);
	CHECK_SHARE((int)((after[1] - before[1]) * 10000 / (then - at)), 9900, 10000);
	tenant_end(b);
}

/* The meter and the simulator's own count agree to the nanosecond; another user sees only its own. */
static void test_meter(void)
{
	struct tenant *a = tenant_new("a", 1), *b = tenant_new("b", 1);
	static struct meter_reader reader;
	static struct meter meter;
	struct error err;
	struct rm own;

	CHECK_EQUAL(rm_open(&own, &err), 0);
	meter_init(&meter);
	CHECK_EQUAL(meter_reader_open(&reader, &own, 0, &err), 0);
	CHECK_EQUAL(reader.source, METER_RECORDS);
	reader.refresh = refresh;
	CHECK_EQUAL(meter_assign(&meter, (uint32_t)a->pid, 0), 0);
	CHECK_EQUAL(meter_assign(&meter, (uint32_t)b->pid, 1), 0);
	submit(a->client, a->channels[0], SIM_ENDLESS);
	submit(b->client, b->channels[0], SIM_ENDLESS);
	for (int i = 0; i < 20; i++) {
		poll(NULL, 0, 25);
		CHECK(meter_reader_poll(&reader, &meter, now_ns()) > 0);
	}
	CHECK_EQUAL(test_rm_disable(&rm, a->client, a->channels[0], true), NV_OK);
	CHECK_EQUAL(test_rm_disable(&rm, b->client, b->channels[0], true), NV_OK);
	CHECK(meter_reader_poll(&reader, &meter, now_ns()) > 0);
	CHECK_EQUAL(meter_slice_ns(&meter, 0, now_ns()), busy_ns(a, NULL));
	CHECK_EQUAL(meter_slice_ns(&meter, 1, now_ns()), busy_ns(b, NULL));
	CHECK_EQUAL(meter.lost, 0);
	CHECK_EQUAL(meter.odd, 0);
	meter_reader_close(&reader);
	rm_close(&own);
	tenant_end(a);
	tenant_end(b);
}

/* A context whose work is done stays on the GPU, and is charged no more. */
static void test_idle(void)
{
	struct tenant *a = tenant_new("a", 1);
	static struct meter_reader reader;
	static struct meter meter;
	uint64_t charged = 0, before = 1;
	struct error err;
	struct rm own;

	CHECK_EQUAL(rm_open(&own, &err), 0);
	meter_init(&meter);
	CHECK_EQUAL(meter_reader_open(&reader, &own, 0, &err), 0);
	reader.refresh = refresh;
	CHECK_EQUAL(meter_assign(&meter, (uint32_t)a->pid, 0), 0);
	submit(a->client, a->channels[0], 2000 * MS);
	for (int i = 0; i < 200 && charged != before; i++) {
		before = charged;
		poll(NULL, 0, 300);
		CHECK(meter_reader_poll(&reader, &meter, now_ns()) >= 0);
		charged = meter_slice_ns(&meter, 0, now_ns());
	}
	CHECK_EQUAL(charged, before);
	/* the sampler errs at both ends */
	CHECK(charged >= 1200 * MS && charged <= 2600 * MS);
	CHECK(meter_is_idle(&meter, 0) && meter_stay_ns(&meter, 0, now_ns()) > 0);
	meter_reader_close(&reader);
	rm_close(&own);
	tenant_end(a);
}

/* Another user than root gets records all the same, and sees who is its own alone. */
static void test_user(void)
{
	struct tenant *a = tenant_new("a", 1), *b = tenant_new("b", 1);
	int status;
	pid_t pid;

	submit(a->client, a->channels[0], SIM_ENDLESS);
	submit(b->client, b->channels[0], SIM_ENDLESS);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		static struct meter_reader reader;
		static struct meter meter;
		struct error err;
		struct rm own;

		CHECK_EQUAL(setgroups(0, NULL), 0);
		CHECK_EQUAL(setgid(65534), 0);
		CHECK_EQUAL(setuid(65534), 0);
		CHECK_EQUAL(rm_open(&own, &err), 0);
		meter_init(&meter);
		CHECK_EQUAL(meter_reader_open(&reader, &own, 0, &err), 0);
		CHECK_EQUAL(reader.source, METER_RECORDS_OWN);
		reader.refresh = refresh;
		CHECK_EQUAL(meter_assign(&meter, (uint32_t)a->pid, 0), 0);
		for (int i = 0; i < 6000 && meter.others_ns < 20 * MS; i++) {
			poll(NULL, 0, 10);
			CHECK(meter_reader_poll(&reader, &meter, now_ns()) >= 0);
		}
		CHECK(meter.others_ns >= 20 * MS);
		CHECK(!meter_has_seen(&meter, 0));
		_exit(0);
	}
	CHECK_EQUAL(waitpid(pid, &status, 0), pid);
	CHECK_EQUAL(status, 0);
	tenant_end(a);
	tenant_end(b);
}

static void test_caps(void)
{
	static const uint32_t caps[] = { 100, 250, 500, 750 };
	struct tenant *a = tenant_new("a", 9);
	struct gate_driver *d = driver_new();
	int share;

	submit(a->client, a->channels[0], SIM_ENDLESS);
	submit(a->client, a->channels[7], SIM_ENDLESS);
	CHECK(!gate_is_needed(a->ledger.ledger));
	CHECK_EQUAL(gate_driver_add(d, &a->ledger), 0);
	drive_and_measure(d, 200 * MS, &a, 1, &share);
	CHECK_SHARE(share, 9900, 10000);
	for (size_t i = 0; i < sizeof(caps) / sizeof(caps[0]); i++) {
		int want = (int)caps[i] * 10;

		set(a, caps[i], 0, 0, false);
		CHECK(gate_is_needed(a->ledger.ledger));
		drive(d, 500 * MS);
		/* never more; less only while this machine is too busy to open gates on time */
		for (int n = 0; n < ATTEMPTS; n++) {
			drive_and_measure(d, 2000 * MS, &a, 1, &share);
			CHECK_SHARE(share, 0, want + 100);
			if (share >= want - 100)
				break;
		}
		CHECK_SHARE(share, want - 100, want + 100);
	}
	CHECK_EQUAL(gate_driver_source(d, 0, 0), METER_RECORDS);
	CHECK_EQUAL(a->ledger.ledger->compute[0].source, METER_RECORDS);
	CHECK_EQUAL(a->ledger.ledger->compute[0].channels, 9);
	CHECK(a->ledger.ledger->compute[0].busy_ns > 0 && a->ledger.ledger->compute[0].throttled_ns > 0);
	/* the end opens everything */
	gate_driver_free(d);
	drive_and_measure((d = driver_new()), 200 * MS, &a, 1, &share);
	CHECK_SHARE(share, 9900, 10000);
	gate_driver_free(d);
	tenant_end(a);
}

static void test_weights(void)
{
	struct tenant *t[2] = { tenant_new("a", 1), tenant_new("b", 70) };
	struct gate_driver *d = driver_new();
	int shares[2], part = 0;

	set(t[0], 0, 100, 0, false);
	set(t[1], 0, 300, 0, false);
	CHECK_EQUAL(gate_driver_add(d, &t[0]->ledger), 0);
	CHECK_EQUAL(gate_driver_add(d, &t[1]->ledger), 1);
	submit(t[0]->client, t[0]->channels[0], SIM_ENDLESS);
	/* the one with more weight has no work yet: the other has it all */
	drive(d, 300 * MS);
	drive_and_measure(d, 1000 * MS, t, 2, shares);
	CHECK_SHARE(shares[0], 9800, 10000);
	submit(t[1]->client, t[1]->channels[69], SIM_ENDLESS);
	drive(d, 500 * MS);
	for (int n = 0; n < ATTEMPTS; n++) {
		drive_and_measure(d, 4000 * MS, t, 2, shares);
		part = shares[0] * 100 / ((shares[0] + shares[1]) / 100);
		if (part >= 2400 && part <= 2600)
			break;
	}
	CHECK_SHARE(part, 2400, 2600);
	CHECK_SHARE(shares[0] + shares[1], 9700, 10000);
	gate_driver_remove(d, 1);
	drive(d, 100 * MS);
	gate_driver_free(d);
	tenant_end(t[0]);
	tenant_end(t[1]);
}

static void test_priority(void)
{
	struct tenant *t[2] = { tenant_new("batch", 2), tenant_new("main", 2) };
	struct gate_driver *d = driver_new();
	int shares[2];

	set(t[0], 0, 0, 2, false);	/* ARBITER_IDLE */
	CHECK_EQUAL(gate_driver_add(d, &t[0]->ledger), 0);
	CHECK_EQUAL(gate_driver_add(d, &t[1]->ledger), 1);
	submit(t[0]->client, t[0]->channels[0], SIM_ENDLESS);
	drive(d, 200 * MS);
	drive_and_measure(d, 500 * MS, t, 2, shares);
	CHECK_SHARE(shares[0], 9800, 10000);
	submit(t[1]->client, t[1]->channels[1], 3000 * MS);
	drive(d, 100 * MS);
	drive_and_measure(d, 1000 * MS, t, 2, shares);
	CHECK_SHARE(shares[0], 0, 500);
	CHECK_SHARE(shares[1], 9400, 10000);
	/* it has done its work and idles on the GPU: that is found out */
	drive(d, 2700 * MS);
	drive_and_measure(d, 500 * MS, t, 2, shares);
	CHECK_SHARE(shares[0], 9800, 10000);
	gate_driver_free(d);
	tenant_end(t[0]);
	tenant_end(t[1]);
}

static void test_freeze(void)
{
	struct tenant *a = tenant_new("a", 100);
	struct gate_driver *d = driver_new();
	uint64_t before;
	char byte = 0;
	int share;

	CHECK_EQUAL(gate_driver_add(d, &a->ledger), 0);
	for (uint32_t i = 0; i < a->count; i++)
		submit(a->client, a->channels[i], SIM_ENDLESS);
	set(a, 0, 0, 0, true);
	drive(d, 300 * MS);
	before = busy_ns(a, NULL);
	drive(d, 500 * MS);
	CHECK_EQUAL(busy_ns(a, NULL), before);
	/* it makes a channel more, and schedules the whole group, which opens it: that does not last */
	CHECK_EQUAL(write(a->command, &byte, 1), 1);
	CHECK_EQUAL(read(ready_fd, &byte, 1), 1);
	submit(a->client, a->channels[100], SIM_ENDLESS);
	drive(d, 500 * MS);
	before = busy_ns(a, NULL);
	drive(d, 300 * MS);
	CHECK_EQUAL(busy_ns(a, NULL), before);
	set(a, 0, 0, 0, false);
	drive(d, 300 * MS);
	drive_and_measure(d, 300 * MS, &a, 1, &share);
	CHECK_SHARE(share, 9900, 10000);
	gate_driver_free(d);
	tenant_end(a);
}

static pid_t run_driver(struct tenant *a)
{
	pid_t pid = fork();

	if (pid == 0) {
		const uint32_t stop = 0;
		struct error err;

		if (gate_run(&a->ledger, &options, &stop, &err) < 0)
			fprintf(stderr, "%s\n", err.text);
		_exit(1);
	}
	return pid;
}

/* Whether the tenant comes to run (or to stand still) within a minute. */
static bool wait_until_runs(struct tenant *a, bool runs)
{
	for (int i = 0; i < 600; i++) {
		uint64_t before = busy_ns(a, NULL);

		poll(NULL, 0, 100);
		if ((busy_ns(a, NULL) != before) == runs)
			return true;
	}
	return false;
}

/* kill -9 of the driver while everything is closed: the guard opens it. */
static void test_guard(void)
{
	struct tenant *a = tenant_new("a", 70);
	int status;
	pid_t pid;

	submit(a->client, a->channels[69], SIM_ENDLESS);
	set(a, 0, 0, 0, true);
	pid = run_driver(a);
	CHECK(wait_until_runs(a, false));
	CHECK_EQUAL(kill(pid, SIGKILL), 0);
	CHECK_EQUAL(waitpid(pid, &status, 0), pid);
	CHECK(WIFSIGNALED(status));
	CHECK(wait_until_runs(a, true));
	tenant_end(a);
}

/* In a thread: asleep until there is a setting, at once when there is, and all is open when it ends. */
static void test_thread(void)
{
	struct tenant *a = tenant_new("a", 1);
	struct gate_thread thread;
	uint64_t before, asked = UINT64_MAX;

	submit(a->client, a->channels[0], SIM_ENDLESS);
	CHECK_EQUAL(gate_thread_start(&thread, &a->ledger, &options), 0);
	CHECK(wait_until_runs(a, true));
	set(a, 0, 0, 0, true);
	CHECK(wait_until_runs(a, false));
	/* a driver that is at work needs no more than a few ms to let go and to hold back; twenty times, the best counts */
	asked = UINT64_MAX;
	for (int i = 0; i < 20; i++) {
		uint64_t start;

		before = busy_ns(a, NULL);
		start = now_ns();
		set(a, 0, 0, 0, false);
		while (busy_ns(a, NULL) == before)
			;
		asked = now_ns() - start < asked ? now_ns() - start : asked;
		set(a, 0, 0, 0, true);
		CHECK(wait_until_runs(a, false));
	}
	CHECK(asked < 20 * MS);
	gate_thread_stop(&thread);
	CHECK_EQUAL(thread.result, 0);
	CHECK(wait_until_runs(a, true));
	gate_thread_stop(&thread);
	tenant_end(a);
}

/* kill -9 of a tenant while it is held back: its objects go, the other goes on. */
static void test_tenant_death(void)
{
	struct tenant *t[2] = { tenant_new("a", 65), tenant_new("b", 1) };
	struct gate_driver *d = driver_new();
	char *state;
	int share;

	set(t[0], 0, 0, 0, true);
	CHECK_EQUAL(gate_driver_add(d, &t[0]->ledger), 0);
	CHECK_EQUAL(gate_driver_add(d, &t[1]->ledger), 1);
	submit(t[0]->client, t[0]->channels[0], SIM_ENDLESS);
	submit(t[1]->client, t[1]->channels[0], SIM_ENDLESS);
	drive(d, 200 * MS);
	kill(t[0]->pid, SIGKILL);
	CHECK_EQUAL(waitpid(t[0]->pid, NULL, 0), t[0]->pid);
	state = test_sim_state();
	CHECK(state);
	CHECK_EQUAL(strstr(state, "\"enabled\": false") != NULL, 0);
	free(state);
	/* the ledger still names its channels; nobody is troubled by that */
	drive(d, 200 * MS);
	drive_and_measure(d, 500 * MS, &t[1], 1, &share);
	CHECK_SHARE(share, 9800, 10000);
	gate_driver_free(d);
	tenant_end(t[1]);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} cases[] = {
		{ "runlist", test_runlist },	 { "meter", test_meter },     { "idle", test_idle },
		{ "user", test_user },		 { "caps", test_caps },
		{ "weights", test_weights },	 { "priority", test_priority }, { "freeze", test_freeze },
		{ "guard", test_guard },	 { "death", test_tenant_death },
		{ "thread", test_thread },
	};

	CHECK_EQUAL(test_rm_open(&rm, 0), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (argc == 2 && !strcmp(cases[i].name, argv[1])) {
			cases[i].run();
			return 0;
		}
	}
	fprintf(stderr, "no such case\n");
	return 2;
}
