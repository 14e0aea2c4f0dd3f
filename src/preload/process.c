/* SPDX-License-Identifier: Apache-2.0 */
/* Whose memory this is. A forked child is told by a page that the kernel wipes in it: a pid alone would
 * take a vfork child, which shares our memory but not our descriptors, for a forked one, and a child that
 * is process 1 of a new namespace for its parent. */
#include "preload/process.h"

#include <linux/futex.h>
#include <stddef.h>
#include <sys/mman.h>

#include "preload/raw.h"

enum { PAGE = 65536 };	/* the largest of any kernel */

static struct process *page;		/* NULL: this kernel wipes nothing */
static struct process fallback;

void process_init(void)
{
	struct process *made, *none = NULL;
	long where;

	if (__atomic_load_n(&page, __ATOMIC_ACQUIRE) || fallback.pid)
		return;
	where = raw_mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!raw_is_error(where)) {
		made = (struct process *)where;
		made->pid = sys_getpid();
		if (SYS_CALL(SYS_madvise, made, (size_t)PAGE, MADV_WIPEONFORK) < 0 ||
		    !__atomic_compare_exchange_n(&page, &none, made, false, __ATOMIC_RELEASE,
						 __ATOMIC_RELAXED))
			SYS_CALL(SYS_munmap, made, (size_t)PAGE);
	}
	if (!__atomic_load_n(&page, __ATOMIC_ACQUIRE))
		fallback.pid = sys_getpid();
}

struct process *process_get(void)
{
	struct process *made = __atomic_load_n(&page, __ATOMIC_ACQUIRE);

	return made ? made : &fallback;
}

bool process_is_wiped(void)
{
	return __atomic_load_n(&page, __ATOMIC_ACQUIRE) != NULL;
}

enum process_kind process_kind(void)
{
	struct process *process = process_get();
	int32_t owner = __atomic_load_n(&process->pid, __ATOMIC_RELAXED);
	int32_t pid = sys_getpid();

	if (owner == pid)
		return PROCESS_OWNER;
	/* The page is whole, so the memory is shared with its owner. Were the owner some vfork child of the
	 * past, it would not be our parent. */
	if (owner && process != &fallback && (int32_t)SYS_CALL(SYS_getppid) == owner)
		return PROCESS_GUEST;
	return PROCESS_NEW;
}

void process_lock(sigset_t *saved)
{
	struct process *process = process_get();
	uint32_t state = 0;
	const uint64_t all = UINT64_MAX;

	SYS_CALL(SYS_rt_sigprocmask, SIG_BLOCK, &all, saved, sizeof(all));
	/* the lock may have been held by a thread that fork() did not copy */
	if (process == &fallback && fallback.pid != sys_getpid())
		fallback = (struct process){ .pid = 0 };
	if (__atomic_compare_exchange_n(&process->lock, &state, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	while (__atomic_exchange_n(&process->lock, 2, __ATOMIC_ACQUIRE))
		SYS_CALL(SYS_futex, &process->lock, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
}

void process_unlock(const sigset_t *saved)
{
	struct process *process = process_get();

	if (__atomic_exchange_n(&process->lock, 0, __ATOMIC_RELEASE) == 2)
		SYS_CALL(SYS_futex, &process->lock, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	SYS_CALL(SYS_rt_sigprocmask, SIG_SETMASK, saved, NULL, sizeof(uint64_t));
}
