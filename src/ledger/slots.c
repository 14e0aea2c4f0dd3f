/* SPDX-License-Identifier: Apache-2.0 */
/* Slots: which processes are in the slice, and which of them are dead.
 *
 * The kernel's locks decide who owns a slot, memory only says what it was used for: who got both byte locks of a slot
 * owns it, then takes the ledger's lock by it and clears away what the last owner left. */
#include "ledger/internal.h"

#include <fcntl.h>
#include <string.h>

#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#endif

/* The calling process, as /proc tells. */
struct self {
	char name[16];
	uint64_t start_time;
};

/* Read "PID (name) S 1 2 ..." of /proc/self/stat: the name may hold anything, so look for its last ')'. */
static void self_read(struct self *self)
{
	enum { FIELDS_TO_START = 20 };	/* from the name to field 22, proc(5) */
	char text[512];
	char *name;
	char *p;
	ssize_t n;
	int fd = sys_openat(AT_FDCWD, "/proc/self/stat", O_RDONLY | O_CLOEXEC, 0);

	memset(self, 0, sizeof(*self));
	if (fd < 0)
		return;
	n = sys_read(fd, text, sizeof(text) - 1);
	sys_close(fd);
	if (n <= 0)
		return;
	text[n] = '\0';
	name = strchr(text, '(');
	p = strrchr(text, ')');
	if (!name || !p || p < name)
		return;
	for (size_t i = 0; i < sizeof(self->name) - 1 && name + 1 + i < p; i++)
		self->name[i] = name[1 + i];
	for (int field = 0; field < FIELDS_TO_START; field++) {
		p = strchr(p + 1, ' ');
		if (!p)
			return;
	}
	for (p++; *p >= '0' && *p <= '9'; p++)
		self->start_time = self->start_time * 10 + (uint64_t)(*p - '0');
}

void slot_fill(struct ledger_slot *slot, int32_t pid, uint64_t start_time, const char *name)
{
	uint32_t generation = slot->generation;

	memset(slot, 0, sizeof(*slot));
	slot->generation = generation;
	slot->pid = pid;
	slot->start_time = start_time;
	for (size_t i = 0; name && name[i] && i < sizeof(slot->name) - 1; i++)
		slot->name[i] = name[i];
	LEDGER_STORE(&slot->state, SLOT_LIVE);
}

/* Take both byte locks of a slot. Returns 0 or negative errno (-EAGAIN, -EACCES: another process has it). */
static int slot_seize(int fd, int slot)
{
	int r = byte_lock(fd, F_OFD_SETLK, F_WRLCK, LEDGER_OFD_BYTE + slot);

	if (r < 0)
		return r;
	r = byte_lock(fd, F_SETLK, F_WRLCK, LEDGER_PID_BYTE + slot);
	if (r < 0)
		byte_lock(fd, F_OFD_SETLK, F_UNLCK, LEDGER_OFD_BYTE + slot);
	return r;
}

static bool is_taken(int r)
{
	return r == -EAGAIN || r == -EACCES;
}

/* Any slot: those that look free first, then those of the dead. Returns the slot, -ENOSPC or negative errno. */
static int slot_seize_any(const struct ledger_handle *h, int fd)
{
	for (uint32_t state = SLOT_FREE; state <= SLOT_LIVE; state++) {
		for (int slot = 0; slot < LEDGER_SLOTS; slot++) {
			int r;

			if (LEDGER_LOAD(&h->ledger->slots[slot].state) != state)
				continue;
			r = slot_seize(fd, slot);
			if (r == 0)
				return slot;
			if (!is_taken(r))
				return r;
		}
	}
	return -ENOSPC;
}

/* Move in: the byte locks are ours. */
static void slot_enter(struct ledger_handle *h, int slot)
{
	struct ledger *l = h->ledger;
	struct ledger_slot *s = &l->slots[slot];
	uint32_t generation;
	struct self self;

	self_read(&self);
	/* Ours alone, so before the lock: words of the last owner are a dead one's from here on. */
	generation = s->generation + 1;
	LEDGER_STORE(&s->generation, generation);
	lock_take(h, lock_word((uint32_t)slot, generation));
	if (s->state == SLOT_LIVE) {
		account_drop_owner(&l->account, (uint16_t)slot);
		LEDGER_STORE(&s->state, SLOT_FREE);
	}
	slots_reap(h);
	slot_fill(s, h->pid, self.start_time, self.name);
	lock_leave(h);
	LEDGER_STORE(&h->generation, generation);
	LEDGER_STORE(&h->slot, slot);
}

/* The program closed our descriptor. The open file that our slot lives by is alive all the same: our mapping holds it.
 * So a new descriptor for asking, and our process' byte lock, are all that is needed. */
static int attach_again(struct ledger_handle *h)
{
	const struct ledger_slot *slot = &h->ledger->slots[h->slot];

	if (!file_is_ours(h)) {
		int fd = file_reopen(h);

		if (fd < 0)
			return fd;
		LEDGER_STORE(&h->fd, fd);
	}
	if (LEDGER_LOAD(&slot->state) != SLOT_LIVE || LEDGER_LOAD(&slot->generation) != h->generation)
		return -ESTALE;
	return byte_lock(h->fd, F_SETLK, F_WRLCK, LEDGER_PID_BYTE + h->slot);
}

static int attach(struct ledger_handle *h, int32_t pid)
{
	int slot;
	int r;

	if (h->pid == pid && h->slot >= 0)
		return attach_again(h);
	/* A child shares the open file of its parent, whose slot lives by it: leave the descriptor open, and use, and map,
	 * an open file of our own. */
	if (h->pid != pid || !file_is_ours(h)) {
		r = file_remap(h);
		if (r < 0)
			return r;
		LEDGER_STORE(&h->slot, -1);
		LEDGER_STORE(&h->pid, pid);
	}
	slot = slot_seize_any(h, h->fd);
	if (slot < 0)
		return slot;
	slot_enter(h, slot);
	return 0;
}

/* Whether all is as it should be: our file, and our process' byte lock, which any close() of the file drops. */
static bool is_attached(const struct ledger_handle *h, int32_t pid)
{
	int slot = LEDGER_LOAD(&h->slot);

	return LEDGER_LOAD(&h->pid) == pid && slot >= 0 && file_is_ours(h) &&
	       byte_lock(h->fd, F_SETLK, F_WRLCK, LEDGER_PID_BYTE + slot) == 0;
}

int ledger_attach(struct ledger_handle *h)
{
	int32_t pid = sys_getpid();
	uint32_t busy = 0;
	sigset_t saved;
	int r = 0;

	if (!h->ledger || !h->path[0])
		return -EINVAL;
	if (!h->is_writable)
		return -EACCES;
	if (is_attached(h, pid))
		return 0;
	signals_block(&saved);
	/* One thread at a time. A pid that is not ours was the parent's thread's when it forked. */
	while (!__atomic_compare_exchange_n(&h->busy, &busy, (uint32_t)pid, false, __ATOMIC_ACQUIRE,
					    __ATOMIC_RELAXED)) {
		if (busy == (uint32_t)pid) {
			word_wait(&h->busy, busy);
			busy = 0;
		}
	}
	if (!is_attached(h, pid))
		r = attach(h, pid);
	LEDGER_STORE(&h->busy, 0);
	word_wake(&h->busy);
	signals_restore(&saved);
	return r;
}

bool ledger_slot_is_alive(struct ledger_handle *h, uint16_t slot)
{
	if (slot >= LEDGER_SLOTS)
		return false;
	if (h->fd < 0)
		return h->ledger->slots[slot].state == SLOT_LIVE;
	/* Our own open file does not stand in our way, so the kernel would say "not locked". In doubt it lives. */
	return slot == LEDGER_LOAD(&h->slot) ||
	       byte_is_locked(h->fd, F_OFD_GETLK, LEDGER_OFD_BYTE + (int64_t)slot, NULL) != 0;
}

uint32_t slots_reap(struct ledger_handle *h)
{
	struct ledger *l = h->ledger;
	bool is_somebody_left = false;
	uint32_t freed = 0;

	for (int slot = 0; slot < LEDGER_SLOTS; slot++) {
		struct ledger_slot *s = &l->slots[slot];

		if (s->state != SLOT_LIVE)
			continue;
		if (ledger_slot_is_alive(h, (uint16_t)slot)) {
			is_somebody_left = true;
			continue;
		}
		account_drop_owner(&l->account, (uint16_t)slot);
		LEDGER_STORE(&s->state, SLOT_FREE);
		freed++;
	}
	if (!is_somebody_left)
		account_drop_orphans(&l->account);
	return freed;
}

uint32_t ledger_reap(struct ledger_handle *h)
{
	/* Without our descriptor every slot would look dead. */
	return h->fd >= 0 && file_is_ours(h) ? slots_reap(h) : 0;
}

int ledger_slot_of(struct ledger_handle *h, int32_t pid, uint64_t start_time, const char *name)
{
	struct ledger_slot *slots = h->ledger->slots;
	int unused = -1;

	for (int slot = 0; slot < LEDGER_SLOTS; slot++) {
		if (slots[slot].state != SLOT_LIVE) {
			if (unused < 0)
				unused = slot;
			continue;
		}
		if (slots[slot].pid != pid)
			continue;
		if (slots[slot].start_time == start_time || !start_time || !slots[slot].start_time)
			return slot;
		/* The pid went round: its last owner is dead. */
		ledger_slot_free(h, (uint16_t)slot);
		if (unused < 0)
			unused = slot;
	}
	if (unused < 0)
		return -ENOSPC;
	slots[unused].generation++;
	slot_fill(&slots[unused], pid, start_time, name);
	return unused;
}

void ledger_slot_free(struct ledger_handle *h, uint16_t slot)
{
	struct ledger *l = h->ledger;

	if (slot >= LEDGER_SLOTS || l->slots[slot].state != SLOT_LIVE)
		return;
	account_drop_owner(&l->account, slot);
	LEDGER_STORE(&l->slots[slot].state, SLOT_FREE);
	for (int other = 0; other < LEDGER_SLOTS; other++) {
		if (l->slots[other].state == SLOT_LIVE)
			return;
	}
	account_drop_orphans(&l->account);
}

int32_t ledger_slot_pid(struct ledger_handle *h, uint16_t slot)
{
	int32_t pid = 0;

	if (slot >= LEDGER_SLOTS)
		return 0;
	if (h->fd < 0)
		return h->ledger->slots[slot].state == SLOT_LIVE ? h->ledger->slots[slot].pid : 0;
	if (slot == LEDGER_LOAD(&h->slot) && h->pid == sys_getpid())
		return h->pid;
	byte_is_locked(h->fd, F_GETLK, LEDGER_PID_BYTE + (int64_t)slot, &pid);
	return pid > 0 ? pid : 0;
}
