/* SPDX-License-Identifier: Apache-2.0 */
/* What happens beside the calls: processes end, managed memory is unmapped, the driver's own figures say what is
 * really held, and `fracgpu ps` wants to know. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/size.h"
#include "supervisor/internal.h"
#include "supervisor/tree.h"

enum { PUBLISH_MS = 100, SOON_MS = 50, CHECK_MS = 500, IDLE_CHECK_MS = 2000 };

/* The driver's GPU for one of the ledger's. */
static bool find_gpu(const struct supervisor *s, uint32_t gpu, uint32_t *ret_index)
{
	for (uint32_t i = 0; i < s->rm.gpu_count; i++) {
		if (s->rm.gpus[i].gpu.minor == s->ledger->ledger->gpus[gpu].minor) {
			*ret_index = i;
			return true;
		}
	}
	return false;
}

/* What the driver books to a process on one of the ledger's GPUs. It books to the process that made the client, even
 * when that is dead and another has the file (K/gpu/gpu_rmapi.c, gpuFindClientInfoWithPidIterator). */
static int driver_bytes(struct supervisor *s, uint32_t gpu, pid_t pid, uint64_t *ret_own, uint64_t *ret_all)
{
	uint64_t private_bytes, owned, duped;
	uint32_t index;
	int code;

	*ret_own = *ret_all = 0;
	if (!find_gpu(s, gpu, &index))
		return 0;
	code = rm_process_bytes(&s->rm, index, pid, &private_bytes, &owned, &duped);
	if (code < 0)
		return code;
	*ret_own = private_bytes + owned;
	*ret_all = private_bytes + owned + duped;
	return 0;
}

/* Before 535.113.01 the driver names processes by the numbers of the first namespace: in a container they are not
 * ours, and its figures say nothing. Our own client must be among them. */
static bool can_see_pids(struct supervisor *s)
{
	enum { BY_CLASS = 0, CLASS_AT = 4, CLASS_SUBDEVICE = 0x2080 };
	char params[PIDS_SIZE] = { 0 };
	uint32_t count;

	put_u32(params, 0, BY_CLASS);
	put_u32(params, CLASS_AT, CLASS_SUBDEVICE);
	if (!s->rm.gpu_count || rm_control(&s->rm, s->rm.gpus[0].subdevice_handle, NV2080_CTRL_CMD_GPU_GET_PIDS, params,
					   sizeof(params)) != NV_OK)
		return false;
	count = get_u32(params, PIDS_COUNT);
	for (uint32_t i = 0; i < count && i < PIDS_MAX; i++) {
		if (get_u32(params, PIDS_TABLE + 4 * (size_t)i) == (uint32_t)getpid())
			return true;
	}
	return false;
}

void watch_prepare(struct supervisor *s)
{
	s->sees_pids = can_see_pids(s);
}

/* Whether the driver holds anything for a process. Where it should say and does not: yes. */
static bool driver_holds(struct supervisor *s, pid_t pid)
{
	if (!s->sees_pids)
		return false;
	for (uint32_t i = 0; i < s->ledger->ledger->account.gpu_count; i++) {
		uint64_t own, all;

		if (driver_bytes(s, i, pid, &own, &all) < 0 || all)
			return true;
	}
	return false;
}

struct owner_search {
	uint16_t owner;
	bool has_memory, has_uvm;
};

static int look_at_hold(struct hold *hold, void *arg)
{
	struct owner_search *search = arg;

	if (hold->owner == search->owner) {
		search->has_memory |= hold->kind == HOLD_MEMORY;
		search->has_uvm |= hold->kind == HOLD_MAPPING || hold->kind == HOLD_MANAGED;
	}
	return 0;
}

static struct owner_search look_at_owner(struct supervisor *s, uint16_t owner)
{
	struct owner_search search = { .owner = owner };
	struct account *a = &s->ledger->ledger->account;
	sigset_t saved;

	ledger_lock(s->ledger, &saved);
	account_each(a, HOLD_MEMORY, look_at_hold, &search);
	account_each(a, HOLD_MAPPING, look_at_hold, &search);
	account_each(a, HOLD_MANAGED, look_at_hold, &search);
	ledger_unlock(s->ledger, &saved);
	return search;
}

/* A process that has nvidia-uvm open and never made it its own: a copy of another's file, which keeps what UVM holds for
 * that one. */
static bool keeps_uvm(pid_t pid, void *arg)
{
	struct supervisor *s = arg;
	bool uses = false;

	if (!process_has_file(pid, "/nvidia-uvm"))
		return false;
	pthread_mutex_lock(&s->processes.lock);
	for (uint32_t i = 0; i < LEDGER_SLOTS; i++) {
		const struct process *p = &s->processes.entries[i];

		uses |= p->used && !p->is_dead && p->pid == pid && p->has_uvm;
	}
	pthread_mutex_unlock(&s->processes.lock);
	return !uses;
}

/* Drop what an ended process held, once the driver has let go of it: its files may live on in a child, or in
 * whoever they were sent to. */
static bool drop_dead(struct supervisor *s, struct process *p)
{
	struct owner_search held = look_at_owner(s, p->slot);
	sigset_t saved;

	if (held.has_memory && driver_holds(s, p->pid))
		return false;
	if (held.has_uvm && tree_find(getpid(), s->is_member, s->member_arg, keeps_uvm, s))
		return false;
	ledger_lock(s->ledger, &saved);
	account_drop_owner(&s->ledger->ledger->account, p->slot);
	ledger_slot_free(s->ledger, p->slot);
	ledger_unlock(s->ledger, &saved);
	pthread_mutex_lock(&s->processes.lock);
	process_free(&s->processes, p);
	pthread_mutex_unlock(&s->processes.lock);
	atomic_store(&s->is_dirty, true);
	return true;
}

/* Memory that the ledger has and the driver has not: a client went with its file, which close() and exec() do without
 * a call we see. What was in the ledger before the driver said that it holds nothing is gone; the serial tells it from
 * a new object of the same name. */
enum { GONE_MAX = 256 };

struct gone_search {
	uint16_t owner;
	uint32_t count;
	struct {
		uint32_t client, handle;
		uint64_t serial;
	} objects[GONE_MAX];
};

static int collect_gone(struct hold *hold, void *arg)
{
	struct gone_search *search = arg;

	if (hold->owner == search->owner) {
		search->objects[search->count].client = hold->client;
		search->objects[search->count].handle = hold->handle;
		search->objects[search->count].serial = hold->address;
		search->count++;
	}
	return search->count == GONE_MAX;
}

static bool drop_gone(struct supervisor *s, const struct process *p)
{
	struct account *a = &s->ledger->ledger->account;
	struct gone_search search = { .owner = p->slot };
	sigset_t saved;

	if (!s->sees_pids)
		return false;
	ledger_lock(s->ledger, &saved);
	account_each(a, HOLD_MEMORY, collect_gone, &search);
	ledger_unlock(s->ledger, &saved);
	if (!search.count || driver_holds(s, p->pid))
		return false;
	ledger_lock(s->ledger, &saved);
	for (uint32_t i = 0; i < search.count; i++) {
		const struct hold *hold = account_find(a, search.objects[i].client, search.objects[i].handle);

		if (hold && hold->address == search.objects[i].serial)
			account_drop(a, search.objects[i].client, search.objects[i].handle);
	}
	ledger_unlock(s->ledger, &saved);
	return true;
}

/* A living entry is taken for the time of a look. NULL when there is none at this index; *ret_dead: nobody uses it. */
static struct process *take(struct supervisor *s, uint32_t index, bool *ret_dead)
{
	struct process *p = &s->processes.entries[index];

	pthread_mutex_lock(&s->processes.lock);
	*ret_dead = false;
	if (!p->used) {
		p = NULL;
	} else {
		if (!p->is_dead && process_has_ended(p)) {
			p->is_dead = true;
			process_let_go(p);
		}
		*ret_dead = p->is_dead;
		if (p->is_dead && p->refs)
			p = NULL;
		else
			p->refs++;
	}
	pthread_mutex_unlock(&s->processes.lock);
	return p;
}

static void put(struct supervisor *s, struct process *p)
{
	pthread_mutex_lock(&s->processes.lock);
	p->refs--;
	pthread_mutex_unlock(&s->processes.lock);
}

enum { SWEEP_ENDED = 1, SWEEP_MANAGED = 2, SWEEP_ADOPT = 4 };

/* One process. Returns whether something was dropped; *ret_gone: the entry is free. */
static bool sweep_one(struct supervisor *s, struct process *p, bool dead, uint32_t what, bool *ret_gone,
		      bool *ret_breached)
{
	bool dropped = false, breached = false;

	*ret_gone = false;
	if (dead) {
		*ret_gone = (what & SWEEP_ENDED) && drop_dead(s, p);
		return *ret_gone;
	}
	if (what & SWEEP_ENDED)
		dropped = drop_gone(s, p);
	if ((what & SWEEP_MANAGED) && (engine_has_managed(&s->engine, p->slot) || ((what & SWEEP_ADOPT) && p->has_uvm)))
		dropped |= managed_compare(s, p, what & SWEEP_ADOPT, &breached);
	*ret_breached |= breached;
	return dropped;
}

static void sweep(struct supervisor *s, uint32_t what, bool *ret_breached)
{
	pthread_mutex_lock(&s->sweep);
	for (uint32_t i = 0; i < LEDGER_SLOTS; i++) {
		bool dead, gone;
		struct process *p = take(s, i, &dead);

		if (!p)
			continue;
		if (sweep_one(s, p, dead, what, &gone, ret_breached)) {
			atomic_fetch_add(&s->drops, 1);
			atomic_store(&s->is_dirty, true);
		}
		if (!gone)
			put(s, p);
	}
	pthread_mutex_unlock(&s->sweep);
}

void watch_reclaim(struct supervisor *s)
{
	bool breached = false;

	sweep(s, SWEEP_ENDED | SWEEP_MANAGED, &breached);
}

void watch_managed(struct supervisor *s)
{
	bool breached = false;

	if (__atomic_load_n(&s->ledger->ledger->account.managed_count, __ATOMIC_RELAXED))
		sweep(s, SWEEP_MANAGED, &breached);
}

void watch_publish(struct supervisor *s)
{
	sigset_t saved;

	if (!s->published || !atomic_exchange(&s->is_dirty, false))
		return;
	ledger_lock(s->ledger, &saved);
	ledger_publish(s->ledger->ledger, s->published);
	ledger_unlock(s->ledger, &saved);
}

/* Bytes booked on a GPU that are not managed memory, which the driver's figures leave out. */
struct managed_sum {
	const struct account *account;
	uint64_t bytes[ACCOUNT_GPUS];
	uint64_t seen[ACCOUNT_CHARGES / 64];
};

static int add_managed(struct hold *hold, void *arg)
{
	struct managed_sum *sum = arg;
	uint32_t entry = hold->charge - 1;
	const struct charge *charge = &sum->account->charges[entry];

	if (!hold->charge || sum->seen[entry / 64] >> entry % 64 & 1)
		return 0;
	sum->seen[entry / 64] |= UINT64_C(1) << entry % 64;
	for (uint32_t i = 0; i < ACCOUNT_GPUS; i++) {
		if (charge->gpu_mask >> i & 1)
			sum->bytes[i] += charge->bytes;
	}
	return 0;
}

static void booked_bytes(struct supervisor *s, uint64_t ret_bytes[ACCOUNT_GPUS])
{
	struct account *a = &s->ledger->ledger->account;
	struct managed_sum sum = { .account = a };
	sigset_t saved;

	ledger_lock(s->ledger, &saved);
	account_each(a, HOLD_MANAGED, add_managed, &sum);
	for (uint32_t i = 0; i < a->gpu_count; i++)
		ret_bytes[i] = a->used_bytes[i] - sum.bytes[i];
	ledger_unlock(s->ledger, &saved);
}

/* What the driver says against what is booked. */
struct finding {
	bool is_more;		/* the driver holds more than is booked */
	uint32_t gpu;
	uint64_t held, booked;
	pid_t worst;		/* the process that differs most */
	uint64_t worst_held, worst_booked;
};

/* A copy of the entries, for looks that must not hold their lock. */
struct known {
	struct process *process;
	pid_t pid;
	uint16_t slot;
	bool is_dead;
};

static uint32_t list_known(struct supervisor *s, struct known list[LEDGER_SLOTS])
{
	uint32_t count = 0;

	pthread_mutex_lock(&s->processes.lock);
	for (uint32_t i = 0; i < LEDGER_SLOTS; i++) {
		struct process *p = &s->processes.entries[i];

		if (p->used)
			list[count++] = (struct known){ p, p->pid, p->slot, p->is_dead };
	}
	pthread_mutex_unlock(&s->processes.lock);
	return count;
}

/* The sum over the slice is compared, not each process: whose a shared object is changes with its first holder's end. */
static bool compare_gpu(struct supervisor *s, uint32_t gpu, uint64_t booked, struct finding *ret)
{
	struct known list[LEDGER_SLOTS];
	uint32_t count = list_known(s, list);
	uint64_t most = 0;

	*ret = (struct finding){ .gpu = gpu, .booked = booked };
	for (uint32_t i = 0; i < count; i++) {
		uint64_t own, all, theirs;
		sigset_t saved;

		if (driver_bytes(s, gpu, list[i].pid, &own, &all) < 0)
			continue;
		ledger_lock(s->ledger, &saved);
		theirs = account_owner_bytes(&s->ledger->ledger->account, list[i].slot, gpu);
		ledger_unlock(s->ledger, &saved);
		ret->held += own;
		if (own > theirs && own - theirs > most) {
			most = own - theirs;
			ret->worst = list[i].pid;
			ret->worst_held = own;
			ret->worst_booked = theirs;
		}
	}
	ret->is_more = ret->held > booked;
	return ret->is_more;
}

static bool compare(struct supervisor *s, struct finding *ret)
{
	uint64_t booked[ACCOUNT_GPUS] = { 0 };
	uint32_t count = s->ledger->ledger->account.gpu_count;

	booked_bytes(s, booked);
	for (uint32_t i = 0; s->sees_pids && i < count; i++) {
		if (compare_gpu(s, i, booked[i], ret))
			return true;
	}
	return false;
}

static bool kill_one(pid_t pid, void *arg)
{
	kill(pid, SIGKILL);
	return false;
}

static void breach(struct supervisor *s, const struct finding *finding)
{
	struct ledger *ledger = s->ledger->ledger;
	char held[SIZE_TEXT], booked[SIZE_TEXT];

	if (!ledger->breached) {
		ledger_count(s->ledger, LEDGER_BREACH);
		if (finding)
			fprintf(stderr, "fracgpu: slice '%s': process %d holds %s on GPU %u, but only %s were given to it; %s\n",
				ledger->name, finding->worst, size_format(held, finding->worst_held),
				ledger->gpus[finding->gpu].index, size_format(booked, finding->worst_booked),
				s->kill_on_breach ? "its slice is ended" : "its slice gets no more");
		else
			fprintf(stderr, "fracgpu: slice '%s': more managed memory is mapped than its limit allows; %s\n",
				ledger->name, s->kill_on_breach ? "the slice is ended" : "it gets no more");
	}
	ledger->breached = 1;
	atomic_store(&s->is_dirty, true);
	if (s->kill_on_breach)
		tree_find(getpid(), s->is_member, s->member_arg, kill_one, NULL);
}

/* The driver's figures, with no call in progress. Only this thread frees entries, but for watch_reclaim() in the middle of a
 * call: none is while all are at rest. */
static void look(struct supervisor *s)
{
	struct finding finding;

	pthread_rwlock_wrlock(&s->calls);
	if (compare(s, &finding)) {
		if (s->is_suspect)
			breach(s, &finding);
		s->is_suspect = true;
	} else {
		s->is_suspect = false;
	}
	pthread_rwlock_unlock(&s->calls);
}

/* What is gone, and managed memory, which the figures leave out. */
static void tidy(struct supervisor *s)
{
	bool breached = false;

	sweep(s, SWEEP_ENDED | SWEEP_MANAGED | SWEEP_ADOPT, &breached);
	if (breached)
		breach(s, NULL);
}

/* The gates count without a call of the program: what others look at follows within a check's time. */
static void follow_compute(struct supervisor *s)
{
	if (s->published && memcmp(s->ledger->ledger->compute, s->published->ledger->compute,
				   sizeof(s->published->ledger->compute)) != 0)
		atomic_store(&s->is_dirty, true);
}

/* Look at the figures when a call that went on asks for it, and at all things from time to time. */
static void look_when_due(struct supervisor *s, uint64_t now)
{
	uint64_t judged = atomic_load(&s->judged);
	bool is_all = now >= s->next_check_ms;

	if (atomic_exchange(&s->is_look_due, false) && !s->next_look_ms)
		s->next_look_ms = now + SOON_MS;
	if (!is_all && (!s->next_look_ms || now < s->next_look_ms))
		return;
	look(s);
	if (is_all) {
		tidy(s);
		follow_compute(s);
		s->next_check_ms = clock_ms() + (judged != s->judged_when_checked ? CHECK_MS : IDLE_CHECK_MS);
		s->judged_when_checked = judged;
	}
	s->next_look_ms = s->is_suspect ? clock_ms() + SOON_MS : 0;
}

int watch_tick(struct supervisor *s)
{
	uint64_t now, next;

	look_when_due(s, clock_ms());
	now = clock_ms();
	if (atomic_load(&s->is_dirty) && now >= s->next_publish_ms) {
		watch_publish(s);
		s->next_publish_ms = now + PUBLISH_MS;
	}
	next = s->next_check_ms;
	if (s->next_look_ms && s->next_look_ms < next)
		next = s->next_look_ms;
	if (atomic_load(&s->is_dirty) && s->next_publish_ms < next)
		next = s->next_publish_ms;
	return next > now ? (int)(next - now) : 0;
}
