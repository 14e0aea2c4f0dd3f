/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a container's filter asks about all that is the driver's: read from the kernel, tried on every call. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>

#include "abi/calls.h"
#include "daemon/daemon.h"

enum { FILTERS = 32, STOP_TRIES = 400 };	/* of 5 ms */

struct filters {
	uint32_t count;
	struct {
		struct sock_filter *code;
		size_t length;
	} list[FILTERS];
};

static bool compare(uint16_t op, uint32_t a, uint32_t k)
{
	switch (op) {
	case BPF_JEQ:
		return a == k;
	case BPF_JGT:
		return a > k;
	case BPF_JGE:
		return a >= k;
	default:
		return a & k;
	}
}

/* Run one filter (kernel, Documentation/networking/filter.rst; what libseccomp and runc make of it). What we do not know
 * ends as "allow", the worst answer. Jumps go forward only: it ends. */
static uint32_t run(const struct sock_filter *code, size_t length, const struct seccomp_data *data)
{
	uint32_t a = 0, k;

	for (size_t pc = 0; pc < length; pc++) {
		const struct sock_filter *i = &code[pc];

		k = i->k;
		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			if (k > sizeof(*data) - sizeof(a))
				return SECCOMP_RET_ALLOW;
			memcpy(&a, (const char *)data + k, sizeof(a));
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= k;
			break;
		case BPF_JMP | BPF_JA:
			pc += k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
		case BPF_JMP | BPF_JGT | BPF_K:
		case BPF_JMP | BPF_JGE | BPF_K:
		case BPF_JMP | BPF_JSET | BPF_K:
			pc += compare(BPF_OP(i->code), a, k) ? i->jt : i->jf;
			break;
		case BPF_RET | BPF_K:
			return k;
		default:
			return SECCOMP_RET_ALLOW;
		}
	}
	return SECCOMP_RET_ALLOW;
}

/* Whether a call would be refused or asked about: the filter whose answer is strictest decides (kernel/seccomp.c,
 * seccomp_run_filters). */
static bool is_guarded(const struct filters *f, const struct seccomp_data *data, bool *asked)
{
	uint32_t strictest = SECCOMP_RET_ALLOW;

	for (uint32_t i = 0; i < f->count; i++) {
		uint32_t answer = run(f->list[i].code, f->list[i].length, data) & SECCOMP_RET_ACTION_FULL;

		if ((int32_t)answer < (int32_t)strictest)
			strictest = answer;
	}
	*asked |= strictest == SECCOMP_RET_USER_NOTIF;
	return (int32_t)strictest <= (int32_t)SECCOMP_RET_USER_NOTIF;
}

struct way {
	const char *name;
	uint32_t arch;
	int ioctl, mmap;
};

#if defined(__x86_64__)
static const struct way ways[] = {
	{ "native", AUDIT_ARCH_X86_64, 16, 9 },
	{ "x32", AUDIT_ARCH_X86_64, 0x40000000 + 514, 0x40000000 + 9 },
	{ "32-bit", AUDIT_ARCH_I386, 54, 192 },
};
#elif defined(__aarch64__)
static const struct way ways[] = { { "native", AUDIT_ARCH_AARCH64, 29, 222 } };
#endif

static int try_ioctl(const struct filters *f, uint32_t request, const char *name, bool *asked, struct error *err)
{
	/* the driver looks at number and size alone; the upper half of the register is cut off */
	const uint64_t forms[] = { request, request & 0x3fff00ff, request | UINT64_C(0xdeadbeef) << 32 };

	for (size_t w = 0; w < sizeof(ways) / sizeof(ways[0]); w++) {
		for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
			struct seccomp_data data = { .nr = ways[w].ioctl, .arch = ways[w].arch, .args = { 3, forms[i] } };

			if (!is_guarded(f, &data, asked))
				return error_set(err, -EPERM, "its seccomp filter lets %s pass (%s ioctl 0x%x) without asking: is "
						 "there a rule that allows ioctl?", name, ways[w].name, (unsigned int)forms[i]);
		}
	}
	return 0;
}

static int try_all(const struct filters *f, struct error *err)
{
	size_t calls, requests;
	const struct abi_call *call = abi_calls(&calls);
	const struct abi_row *row = abi_uvm_calls(&requests);
	bool asked = false;
	int r = 0;

	for (size_t i = 0; i < calls && r == 0; i++)
		r = try_ioctl(f, abi_request(call[i].nr, call[i].size ? call[i].size : 8), call[i].name, &asked, err);
	for (size_t i = 0; i < requests && r == 0; i++)
		r = try_ioctl(f, row[i].number, row[i].name, &asked, err);
	if (r == 0 && !asked)
		r = error_set(err, -EPERM, "its seccomp filter asks about no call of the driver");
	for (size_t w = 0; w < sizeof(ways) / sizeof(ways[0]) && r == 0; w++) {
		struct seccomp_data data = { .nr = ways[w].mmap, .arch = ways[w].arch,
					     .args = { 0, 4096, 3, MAP_SHARED | MAP_FIXED, 3, 0 } };

		if (!is_guarded(f, &data, &asked))
			r = error_set(err, -EPERM, "its seccomp filter lets a shared mmap pass (%s) without asking", ways[w].name);
	}
	return r;
}

static int read_filters(pid_t pid, struct filters *f, struct error *err)
{
	for (f->count = 0; f->count < FILTERS; f->count++) {
		long length = ptrace(PTRACE_SECCOMP_GET_FILTER, pid, (void *)(uintptr_t)f->count, NULL);
		struct sock_filter *code;

		if (length < 0 && errno == ENOENT)
			return f->count ? 0 : error_set(err, -EPERM, "its first process has no seccomp filter");
		if (length < 0)
			return error_set(err, -errno, "cannot read its seccomp filter: %s (needs CONFIG_CHECKPOINT_RESTORE, and "
					 "fracgpud outside of any seccomp filter)", strerror(errno));
		code = calloc((size_t)length, sizeof(*code));
		if (!code || ptrace(PTRACE_SECCOMP_GET_FILTER, pid, (void *)(uintptr_t)f->count, code) != length) {
			free(code);
			return error_set(err, -EIO, "cannot read its seccomp filter");
		}
		f->list[f->count].code = code;
		f->list[f->count].length = (size_t)length;
	}
	return error_set(err, -E2BIG, "it has too many seccomp filters");
}

/* Stop a process that we have seized. A request that comes while it starts its program can be lost (seen with Linux 6.18 and
 * runc 1.1, once in some hundred starts), and fracgpud must not wait for ever: it asks again. */
static bool stop(pid_t pid)
{
	for (int i = 0; i < STOP_TRIES; i++) {
		struct timespec pause = { .tv_nsec = 20000 };
		pid_t got = 0;
		int status;

		if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) < 0)
			return false;
		for (int k = 0; k < 8 && got == 0; k++) {
			got = waitpid(pid, &status, __WALL | WNOHANG);
			if (got == 0)
				nanosleep(&pause, NULL);
			pause.tv_nsec *= 2;
		}
		if (got != 0)
			return got == pid && WIFSTOPPED(status);
	}
	return false;
}

int filter_check(pid_t pid, struct error *err)
{
	struct filters f = { 0 };
	int r;

	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0)
		return error_set(err, -errno, "cannot look at its first process: %s", strerror(errno));
	if (!stop(pid))
		return error_set(err, -ESRCH, "its first process has ended, or does not stop to be looked at");
	r = read_filters(pid, &f, err);
	ptrace(PTRACE_DETACH, pid, NULL, NULL);
	if (r == 0)
		r = try_all(&f, err);
	for (uint32_t i = 0; i < f.count; i++)
		free(f.list[i].code);
	return r;
}
