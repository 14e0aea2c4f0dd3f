/* SPDX-License-Identifier: Apache-2.0 */
/* Managed memory, compared with what is really mapped: munmap() is not asked about, and mmap() happens in the process
 * itself after we agreed. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "supervisor/internal.h"

struct range {
	uint64_t start, end;
};

struct ranges {
	struct range *list;
	size_t count, room;
	bool is_short;		/* no memory: the list is not the whole truth */
};

static void add(struct ranges *r, uint64_t start, uint64_t end)
{
	if (r->count == r->room) {
		size_t room = r->room ? r->room * 2 : 64;
		struct range *more = reallocarray(r->list, room, sizeof(*more));

		if (!more) {
			r->is_short = true;
			return;
		}
		r->list = more;
		r->room = room;
	}
	r->list[r->count++] = (struct range){ start, end };
}

/* Shared mappings of a file with offset == address: no other driver asks for that (kernel-open/nvidia-uvm/uvm.c,
 * uvm_mmap). The name says nothing: the file can be mounted elsewhere. */
static int read_mapped(pid_t pid, struct ranges *ret)
{
	char path[32];
	cleanup_free char *line = NULL;
	cleanup_file FILE *file = NULL;
	size_t room = 0;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	while (getline(&line, &room, file) > 0) {
		uint64_t start, end, offset, inode;
		char permissions[8];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %" SCNu64, &start, &end, permissions,
			   &offset, &inode) == 5 &&
		    permissions[3] == 's' && offset == start && inode)
			add(ret, start, end);
	}
	return ret->is_short ? -ENOMEM : 0;
}

/* What is booked to one owner, or to all the others. */
struct booked_search {
	uint16_t owner;
	struct ranges mine, others;
	struct ranges pools;	/* mine, of semaphores: mapped as managed memory is, and none */
};

static uint64_t page_up(uint64_t bytes)
{
	return (bytes + 4095) & ~UINT64_C(4095);
}

static int collect(struct hold *hold, void *arg)
{
	struct booked_search *search = arg;

	add(hold->owner == search->owner ? &search->mine : &search->others, hold->address,
	    page_up(hold->address + hold->length));
	return 0;
}

static int collect_pools(struct hold *hold, void *arg)
{
	struct booked_search *search = arg;

	if (hold->owner == search->owner && hold->handle == RANGE_POOL_MAPPED)
		add(&search->pools, hold->address, page_up(hold->address + hold->length));
	return 0;
}

/* Call fn for each part of [start, end) that no range of a list covers. */
static void each_gap(const struct ranges *cover, uint64_t start, uint64_t end,
		     void (*fn)(uint64_t start, uint64_t end, void *arg), void *arg)
{
	while (start < end) {
		uint64_t next = end;
		bool covered = false;

		for (size_t i = 0; i < cover->count && !covered; i++) {
			const struct range *r = &cover->list[i];

			if (r->start <= start && start < r->end) {
				start = r->end;
				covered = true;
			} else if (r->start > start && r->start < next) {
				next = r->start;
			}
		}
		if (covered)
			continue;
		fn(start, next, arg);
		start = next;
	}
}

struct work {
	struct supervisor *supervisor;
	struct process *process;
	const struct ranges *others, *pools;
	bool dropped, adopting, breached;
};

/* Booked and not mapped. */
static void drop_gap(uint64_t start, uint64_t end, void *arg)
{
	struct work *w = arg;
	bool recent;

	pthread_mutex_lock(&w->supervisor->processes.lock);
	recent = process_is_recent(w->process, start, end);
	pthread_mutex_unlock(&w->supervisor->processes.lock);
	if (recent)
		return;
	engine_unmapped(&w->supervisor->engine, w->process->slot, start, end - start);
	w->dropped = true;
}

static int no_memory(struct port *port, uint64_t address, void *buffer, size_t size)
{
	return -EFAULT;
}

/* Mapped and not booked: the file was put in the place of another after we looked, or the mmap() came much later than
 * our yes. It is booked now; where that passes the limit, it is a breach. */
static void adopt_gap(uint64_t start, uint64_t end, void *arg)
{
	struct work *w = arg;
	struct port port = { .read = no_memory };
	struct call call = { .device = ABI_DEV_UVM, .owner = w->process->slot };

	if (engine_mmap(&w->supervisor->engine, &port, &call, start, end - start, MAP_SHARED, start) < 0)
		w->breached = true;
}

static void not_a_pool(uint64_t start, uint64_t end, void *arg)
{
	struct work *w = arg;

	each_gap(w->pools, start, end, adopt_gap, w);
}

/* Ranges of another owner at the same addresses are what a fork() left: they are no memory of this one. */
static void consider_gap(uint64_t start, uint64_t end, void *arg)
{
	struct work *w = arg;

	each_gap(w->others, start, end, not_a_pool, w);
}

bool managed_compare(struct supervisor *s, struct process *p, bool adopt, bool *ret_breached)
{
	struct booked_search search = { .owner = p->slot };
	struct ranges mapped = { 0 };
	struct work w = { .supervisor = s, .process = p, .others = &search.others,
			  .pools = &search.pools };
	sigset_t saved;
	int code = read_mapped(p->pid, &mapped);

	ledger_lock(s->ledger, &saved);
	account_each(&s->ledger->ledger->account, HOLD_MANAGED, collect, &search);
	if (adopt)
		account_each(&s->ledger->ledger->account, HOLD_RANGE, collect_pools, &search);
	ledger_unlock(s->ledger, &saved);
	if (code == 0 && !search.mine.is_short && !search.others.is_short && !search.pools.is_short &&
	    !process_has_ended(p)) {
		for (size_t i = 0; i < search.mine.count; i++)
			each_gap(&mapped, search.mine.list[i].start, search.mine.list[i].end, drop_gap, &w);
		for (size_t i = 0; adopt && i < mapped.count; i++)
			each_gap(&search.mine, mapped.list[i].start, mapped.list[i].end, consider_gap, &w);
	}
	free(mapped.list);
	free(search.mine.list);
	free(search.others.list);
	free(search.pools.list);
	if (ret_breached)
		*ret_breached = w.breached;
	return w.dropped;
}
