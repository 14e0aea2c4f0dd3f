/* SPDX-License-Identifier: Apache-2.0 */
/* The shared record of what a slice holds: one mapped file, survives the death of any holder.
 *
 * The file holds a struct ledger: identity, a lock word, the slots of the slice's processes, and the account. Processes
 * come and go at any instruction:
 *  - a slot is alive while its process' open file description (an OFD lock on byte LEDGER_OFD_BYTE + slot) lives.
 *    The mapping holds the open file too, so a program that closes all descriptors keeps its slot. A forked child that
 *    keeps the driver's files open keeps this one too, as the driver's memory itself lives on;
 *  - the lock word holds the slot that has it; a waiter may steal it when that process is gone (a POSIX lock on byte
 *    LEDGER_PID_BYTE + slot, which no child inherits), and repairs the account.
 * Lock order: the per-process state in struct ledger_handle needs no lock of its own; the lock word is the only lock.
 * No malloc, no stdio, raw system calls: it is linked into the preload library. Signals are blocked while the lock of a file
 * ledger is held: a handler may call, leave by longjmp, or stay. */
#ifndef FG_LEDGER_LEDGER_H
#define FG_LEDGER_LEDGER_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "policy/account.h"
#include "policy/limit.h"

enum {
	LEDGER_VERSION = 4,
	LEDGER_SLOTS = 1024,
	LEDGER_NAME = 64,
	LEDGER_OFD_BYTE = 0x10000,	/* byte ranges that are locked, beyond any data use */
	LEDGER_PID_BYTE = 0x20000,
	/* of ledger_compute.timeslice_us: libcuda's own, and the longest that the driver programs (H200) */
	LEDGER_TIMESLICE_USUAL_US = 2048,
	LEDGER_TIMESLICE_REALTIME_US = 4000,
};

#define LEDGER_WAITERS UINT32_C(0x80000000)	/* in the lock word: wake somebody on leaving */

#define LEDGER_MAGIC UINT64_C(0x7265676465670001)

struct ledger_gpu {
	uint32_t index;		/* as nvidia-smi numbers them */
	uint32_t gpu_id;	/* RM gpuId */
	uint32_t device;	/* RM device instance */
	uint32_t minor;		/* of /dev/nvidiaN */
	uint64_t total_bytes;
	char uuid[48];
	char name[64];
};

enum slot_state { SLOT_FREE, SLOT_LIVE };

struct ledger_slot {
	uint32_t state;		/* enum slot_state */
	int32_t pid;		/* as the process itself sees it (preload), as the supervisor sees it (supervisor) */
	uint64_t start_time;	/* clock ticks after boot, field 22 of /proc/PID/stat; 0 where not known */
	uint64_t calls;		/* calls judged */
	uint32_t managed;	/* 1: has had managed memory; doors then watch munmap */
	uint32_t generation;	/* counts up each time the slot is taken */
	uint32_t pool_bytes;	/* semaphore pools it mapped so far: host memory, passed up to a bound */
	uint32_t uvm_files;	/* UVM address spaces it started so far */
	uint32_t uvm_file;	/* the one that has ranges, as its door numbers them; 0: none yet; UINT32_MAX: several */
	uint32_t reserved;
	char name[16];		/* comm */
};

/* Counters of things that should not happen; each has its word in `fracgpu ps --json`. */
enum ledger_event {
	LEDGER_REFUSED_LIMIT,
	LEDGER_REFUSED_CLASS,
	LEDGER_REFUSED_CALL,
	LEDGER_REFUSED_CONTROL,
	LEDGER_REFUSED_FULL,
	LEDGER_BAD_ARGUMENT,
	LEDGER_BREACH,
	LEDGER_REPAIR,
	LEDGER_EVENTS
};

/* What the driver of the gates says of a GPU, for `fracgpu stat`, `top` and fracgpud's metrics. */
struct ledger_compute {
	uint64_t busy_ns;	/* on the GPU so far, where source is not 0 */
	uint64_t throttled_ns;	/* wanted to run while its cap kept it off, so far */
	uint64_t switches;	/* of its gate, open to closed or back, so far */
	uint32_t source;	/* of busy_ns: enum meter_source; 0: not measured */
	uint32_t channels;	/* of the slice that the gates hold */
	uint32_t timeslice_us;	/* that its groups shall have there; 0: nobody says */
	uint32_t reserved;
};

struct ledger {
	uint64_t magic;
	uint32_t version;
	uint32_t lock;			/* 0: free; else LEDGER_WAITERS, generation and slot + 1 of the holder (lock.c) */
	char name[LEDGER_NAME];		/* of the slice */
	char door[16];			/* "preload" or "supervisor" */
	char driver[32];		/* version string the layouts were chosen by */
	int64_t created_s;		/* wall clock */
	uint32_t generation;		/* of the compute settings below; counts up at each change */
	uint32_t compute_max_permille;	/* 0: no cap */
	uint32_t compute_weight;	/* 0: not set */
	uint32_t compute_priority;
	uint32_t frozen;		/* 1: paused */
	uint32_t breached;		/* 1: holds more than it was given; gets no more */
	uint32_t show_host;		/* 1: answers are not rewritten (--view host); set when made */
	uint32_t applied;		/* the generation that the driver of the gates last carried out */
	struct ledger_gpu gpus[ACCOUNT_GPUS];
	uint64_t events[LEDGER_EVENTS];
	struct ledger_compute compute[ACCOUNT_GPUS];
	struct ledger_slot slots[LEDGER_SLOTS];
	struct account account;
};

/* One process' way to a ledger. */
struct ledger_handle {
	struct ledger *ledger;	/* mapped; NULL when not open */
	int fd;			/* -1: memory of this process only (the supervisor's own) */
	int slot;		/* -1: not attached */
	int32_t pid;		/* who opened: another getpid() means we are a child */
	uint32_t generation;	/* of our slot when we took it */
	uint32_t busy;		/* pid while one of its threads attaches */
	bool is_writable;	/* false: mapped for reading */
	uint64_t dev, ino;	/* of the file, to notice that the program closed our descriptor */
	char path[256];
};

/* Settings of a new ledger. */
struct ledger_settings {
	const char *name;
	const char *door;
	const char *driver;
	uint32_t gpu_count;
	const struct ledger_gpu *gpus;
	const uint64_t *limits;		/* gpu_count entries, bytes; 0: not the slice's */
};

/* A GPU of a ledger as limit_parse() wants it. */
struct limit_gpu ledger_limit_gpu(const struct ledger_gpu *gpu);

/* Make the file (mode 0600, must not exist) and map it, or, with path NULL, memory of this process only.
 * Returns 0 or negative errno with a sentence in err. Not attached. */
int ledger_create(struct ledger_handle *h, const char *path, const struct ledger_settings *settings,
		  struct error *err);

/* Map an existing ledger. writable false: for `fracgpu ps`, cannot attach. No err: used inside strangers' processes.
 * Returns 0, -ENOENT, -EACCES, ..., -EPROTO when it is no ledger of this version. */
int ledger_open(struct ledger_handle *h, const char *path, bool writable);

/* Take a slot for the calling process (name from /proc/self/comm). In a forked child: opens the file anew and takes a
 * slot of its own. Cheap when attached already. Notices a closed descriptor and opens it again, keeping what the
 * slot held. Returns 0, -ENOSPC when 1024 processes are attached, -EACCES when opened for reading, -EINVAL for memory of
 * this process only, -ESTALE when the file is lost, or negative errno. */
int ledger_attach(struct ledger_handle *h);

/* Let go of mapping and descriptor. The slot dies with them. */
void ledger_close(struct ledger_handle *h);

/* Take and leave the lock; *saved keeps the signal mask. On a memory-only ledger the word is a plain futex lock
 * between threads, and signals stay as they are: in a process with such a ledger no handler may take it or not return.
 * A process that is not attached may take it too, from one thread at a time. */
void ledger_lock(struct ledger_handle *h, sigset_t *saved);
void ledger_unlock(struct ledger_handle *h, const sigset_t *saved);

/* The two halves, for who takes it several times: signals first, restored last. */
void ledger_block_signals(const struct ledger_handle *h, sigset_t *saved);
void ledger_restore_signals(const struct ledger_handle *h, const sigset_t *saved);
void ledger_take(struct ledger_handle *h);
void ledger_leave(struct ledger_handle *h);

/* Under the lock: free the slots of dead processes and what they held. Returns how many were freed. When no
 * slot is left alive, exports of nobody go too. File ledgers only. */
uint32_t ledger_reap(struct ledger_handle *h);

/* For a supervisor that keeps slots for others (memory-only ledgers): find or make the slot of a process, free one.
 * Under the lock. ledger_slot_of returns the slot, or -ENOSPC. */
int ledger_slot_of(struct ledger_handle *h, int32_t pid, uint64_t start_time, const char *name);
void ledger_slot_free(struct ledger_handle *h, uint16_t slot);

/* The pid of a slot as the calling process sees it: by F_GETLK on file ledgers (0: not visible, or dead), else the
 * stored one. */
int32_t ledger_slot_pid(struct ledger_handle *h, uint16_t slot);

/* Whether a slot's open file lives still, by anyone's descriptor (file ledgers). */
bool ledger_slot_is_alive(struct ledger_handle *h, uint16_t slot);

/* Copy header, slots and sums (not the tables) to the file another handle maps, for `fracgpu ps`; src locked by the
 * caller. */
void ledger_publish(const struct ledger *src, struct ledger_handle *dst);

/* The settings changed, or channels did: count the generation up and wake whoever sleeps on it. */
void ledger_settings_changed(struct ledger *ledger);

void ledger_count(struct ledger_handle *h, enum ledger_event event);

#endif
